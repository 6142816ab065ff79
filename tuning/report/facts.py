"""The facts about a study in its report, besides its trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuning.evidence.metrics import MARGIN
from tuning.report.parameters import SearchedParameters

__all__ = ["StudyFacts"]


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """Facts about a study for the reader of its report."""

    name: str
    experiment: str = ""
    """MLflow experiment, e.g. "digits/ddpm-epsilon"; empty where it is not known."""
    metric: str = "fid"
    """The metric that the search optimises."""
    margin: float = MARGIN
    """Differences below this share of uniform sampling's metric count as none."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All settings, nested, without secrets; empty where they are not known."""
    left_out: str | None = None
    """What there was no time for, or why no more fresh seeds were run, in one sentence; None where all was run."""
    searched: SearchedParameters | None = None
    """Optuna's complete trials; None without any."""
    address: str | None = None
    """The address of the output, where that is in object storage."""
