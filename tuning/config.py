"""Settings of a study: the run that every trial is a variation of, what is searched, and how much of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from curriculum_ray.config import Spec
from curriculum_ray.distributed.config import RunConfig
from curriculum_ray.distributed.slots import ResourceSpec

__all__ = ["FRESH_SEEDS", "Metric", "StudyConfig"]

Metric = Literal["fid", "kid", "precision", "recall"]
FRESH_SEEDS = 1000
"""Seeds of confirmations start here, above every seed that a search may use."""


class StudyConfig(Spec):
    """Everything that determines a study; equal values continue the same one."""

    run: RunConfig = RunConfig()
    """The settings that all trials share; the searched keys are laid over them."""
    space: str = "default"
    """A shipped search space, or the path of a YAML file."""
    trials: int = Field(default=8, ge=1)
    """Schedules that the search tries, beside the controls."""
    confirm_top: int = Field(default=1, ge=0)
    """How many of the best schedules are run again on fresh seeds beside uniform sampling; 0 for none."""
    confirm_seeds: int = Field(default=5, ge=2)
    """Fresh seeds for each of them; more seeds find smaller differences."""
    metric: Metric = "fid"
    """What the search improves."""
    seed: int = Field(default=0, ge=0, lt=FRESH_SEEDS)
    """Seed of the search, and of the initialisation, data order and noise of every trial in it."""
    resources: ResourceSpec = ResourceSpec()
    """What each trial gets."""

    @model_validator(mode="after")
    def _evaluated(self) -> StudyConfig:
        if self.run.evaluation is None:
            raise ValueError("run.evaluation must be set in a study: trials are compared by it, but got null")
        return self

    @property
    def maximum_trials(self) -> int:
        """The most trials that the study runs: uniform, searched, twins of the best, confirmations."""
        return 1 + self.trials + 2 + (1 + self.confirm_top) * self.confirm_seeds * bool(self.confirm_top)

    def decisive(self) -> dict[str, Any]:
        """What determines the trials' results; how many there are, and on what resources, does not."""
        free = {"resources", "trials", "confirm_top", "confirm_seeds"}
        return self.model_dump(mode="json", exclude=free)
