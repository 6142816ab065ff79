"""What a report says of a study beside its trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuning.report.parameters import SearchedParameters

__all__ = ["StudyFacts"]


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """A study as the reader of its report needs to know it."""

    name: str
    experiment: str = ""
    """MLflow's, e.g. "digits/ddpm-epsilon"; empty where it is not known."""
    metric: str = "fid"
    """What the search improves."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All settings, nested, without secrets; empty where they are not known."""
    searched: SearchedParameters | None = None
    """What Optuna knows of the complete trials; None without any."""
