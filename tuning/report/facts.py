"""The facts about a study in its report, besides its trials."""

from __future__ import annotations

from dataclasses import dataclass

from tuning.report.parameters import SearchedParameters
from tuning.study.config import StudyConfig

__all__ = ["StudyFacts"]


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """Facts about a study for the reader of its report."""

    name: str
    config: StudyConfig
    """Its settings."""
    experiment: str = ""
    """MLflow experiment, e.g. "digits/ddpm-epsilon"; empty where it is not known."""
    left_out: str | None = None
    """What there was no time for, or why no more fresh seeds were run, in one sentence; None where all was run."""
    searched: SearchedParameters | None = None
    """Optuna's complete trials; None without any."""
    address: str | None = None
    """The address of the output, where that is in object storage."""
    mlflow_uri: str | None = None
    """The address of the MLflow store, without secrets; None where none was named."""
    trusted: bool = False
    """Whether code that a file names may be imported."""
