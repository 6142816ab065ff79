"""The controls that a search may run beside uniform sampling, by its space: they count in the number of its trials."""

from __future__ import annotations

from dataclasses import dataclass

from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.runs.config import RunConfig
from tuning.study.space import SearchSpace

__all__ = ["Controls"]

# Groups of a schedule that its twin without a curriculum has not.
_CURRICULUM = ("schedule.clusters.", "schedule.order.", "schedule.pacing.", "schedule.active.")


@dataclass(frozen=True)
class Controls:
    """The controls of a search beside uniform sampling and the twins with another order."""

    rivals: int = 0
    """One-line rivals."""
    plain_twin: bool = False
    """Whether the best schedule may have a twin without a curriculum: it may differ from uniform sampling in more."""

    @classmethod
    def of(cls, rivals: int, space: SearchSpace, run: RunConfig) -> Controls:
        """Those of a study. rivals: their number. run: its own, whose schedule is that of uniform sampling."""
        fixed = space.apply(run.model_dump(mode="json"), {})["schedule"]
        plain = CurriculumSchedule.from_dict(fixed, f"space {space.name}").without_curriculum()
        more = any(not key.startswith(_CURRICULUM) for key in space.search)
        return cls(rivals, more or plain != run.schedule)

    @property
    def confirmed(self) -> int:
        """How many of them are confirmed beside the best schedules: the best one, where there is any."""
        return int(self.rivals > 0 or self.plain_twin)
