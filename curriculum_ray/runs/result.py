"""The result of a run: result.json in its folder. Imports no torch, since boards and displays read it."""

from __future__ import annotations

from typing import Any

import pydantic

from curriculum_ray.config.stored import Stored

__all__ = ["HeldoutLosses", "HeldoutPoint", "History", "Measured", "RunResult"]

History = tuple[tuple[pydantic.PositiveInt, dict[str, float]], ...]
"""(images seen, metrics by name) of previews, in order."""


HeldoutPoint = tuple[pydantic.PositiveInt, tuple[pydantic.FiniteFloat, ...]]
"""Images seen, and the mean loss at each level, the cleanest first."""


class HeldoutLosses(pydantic.BaseModel):
    """Contents of heldout.json: the held-out losses of a run."""

    model_config = pydantic.ConfigDict(frozen=True, use_attribute_docstrings=True)

    fingerprint: str
    """Of the measurement; losses are comparable only where it is equal."""
    u: tuple[float, ...] = pydantic.Field(min_length=1)
    """Each of the K noise levels: 0 is clean, 1 is noise."""
    items: int
    """Held-out items at each level."""
    held_out: int
    """All items that are held out."""
    history: tuple[HeldoutPoint, ...] = ()
    """(images seen, K losses) of each measurement."""

    @pydantic.model_validator(mode="after")
    def _has_a_loss_for_each_level(self) -> HeldoutLosses:
        if any(len(losses) != len(self.u) for _, losses in self.history):
            raise ValueError(f"history must have {len(self.u)} losses at each measurement")
        return self


class Measured(Stored):
    """The outcome of a run that has ended: the fields that its result and its record in a study share."""

    images: int
    """Images seen, over all workers."""
    metrics: dict[str, float] = pydantic.Field(default_factory=dict)
    """Of the evaluation at the end: fid, kid, precision and recall; in a study's record also loss. Empty where the run
    was not evaluated."""
    fingerprint: str | None = None
    """Of the protocol; metrics are comparable only where it is equal. None where the run was not evaluated."""
    protocol: dict[str, Any] | None = None
    """How the metrics were computed, in JSON values."""
    devices: tuple[str, ...] = ()
    """The kinds of device that its workers trained on, by their names, from its first start to its end; "CPU" for all
    processors. Empty in results of the first releases."""
    seconds: float | None = None
    """Training and evaluation since the run last started or resumed, by the clock."""
    packed: pydantic.PositiveInt = 1
    """How many runs its worker trained at a time, in these same seconds."""
    checkpoint: str | None = None
    """The folder of the last checkpoint."""
    stage_starts: tuple[tuple[pydantic.NonNegativeInt, pydantic.NonNegativeInt], ...] = ()
    """(images seen, stage) at the start of each stage that was sampled."""
    num_stages: int | None = None
    """The stages that clusters and active set give."""
    stages_asked: int | None = None
    """How many stages the schedule asks for."""
    stages_walked: int | None = None
    """How many of those were trained in."""
    images_in_stage: tuple[int, ...] = ()
    """For each stage that the schedule asks for; 0 where it was skipped."""
    history: History = ()
    """(images seen, metrics by name) of each preview that was scored."""
    heldout: HeldoutLosses | None = None
    """The held-out losses, where they were measured."""
    unvisited: str | None = None
    """A warning line, where much of the training was spent on noise levels that sampling never visits."""

    @pydantic.field_validator("history", mode="before")
    @classmethod
    def _named(cls, history: Any) -> Any:
        """The first releases stored one number for each preview, its FID."""
        if not isinstance(history, list | tuple):
            return history
        return [
            (point[0], {"fid": point[1]})
            if isinstance(point, list | tuple) and len(point) == 2 and isinstance(point[1], int | float)
            else point
            for point in history
        ]

    @property
    def slot_seconds(self) -> float:
        """What it took of its slot's time: an equal share of `seconds` for each run of a pack; 0 where not known."""
        return (self.seconds or 0.0) / self.packed

    @property
    def walked(self) -> str | None:
        """Stages walked out of those asked for: "8/8"; None where that was not recorded."""
        return None if self.stages_asked is None else f"{self.stages_walked}/{self.stages_asked}"


class RunResult(Measured):
    """Contents of result.json: a run that spent its budget."""

    seconds: float
    checkpoint: str
    resumed_at: int
    """Images seen when the run last started; 0 where it was never interrupted."""
    loss: float | None
    """The training loss of the last interval that was logged."""
    skipped_updates: int | None = None
    """Updates that the spike guard skipped; None without a guard."""
    corrupt_images: tuple[str, ...] = ()
    """Images of a stream that could not be read and were skipped."""
