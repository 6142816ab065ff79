"""A study's record of a trial: record.json in the trial's folder. Imports no torch, as displays read it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import pydantic

from curriculum_ray.runs.folder import CONFIG_FILE
from curriculum_ray.runs.result import Measured, RunResult
from tuning.evidence.keys import TrialKey
from tuning.folder.layout import RECORD_FILE, TRIALS

if TYPE_CHECKING:
    from curriculum_ray.curriculum import CurriculumSchedule

__all__ = [
    "PLAIN",
    "Control",
    "Role",
    "Status",
    "TrialRecord",
    "begun_trials",
    "damaged_records",
    "load_records",
]

PLAIN = ", no curriculum"
"""How a rival's description ends."""

Role = Literal["control", "searched", "rung", "confirmation"]
"""control: uniform sampling, a rival or a twin. searched: a schedule of the search at the full budget. rung: one at a
smaller budget. confirmation: an arm on a fresh seed."""
Control = Literal["uniform", "rival", "reversed", "random", "easy_to_hard", "hard_to_easy"]
"""uniform and rival have no curriculum; the others are twins of the best schedule, by their order."""
Status = Literal["running", "finished", "failed", "pruned"]
"""pruned: stopped early for its score."""


class TrialRecord(Measured):
    """A trial of a study: what it runs and, once it has ended, its outcome."""

    trial: int
    """Its number, for display: in the order in which trials were started, or in which MLflow lists them."""
    key: TrialKey
    name: str
    """The arm's name, with what the run is beside others of the arm: "3u h2e p.003 (seed 1000)"."""
    role: Role
    control: Control | None = None
    """Which control it is, or confirms; None for a schedule of the search."""
    rival: str | None = None
    """The rival's name, for a trial of one."""
    origin: TrialKey | None = None
    """The trial whose schedule it varies or repeats."""
    seed: int
    schedule: dict[str, Any] | None
    """The content of its schedule.yaml, which `drawn_by` reads; of a trial read from MLflow, which has the schedule as
    a file and in words, only the direction of its order, or None where its settings are not known."""
    schedule_id: str
    """Equal for equal schedules."""
    arm_id: str
    """Equal for trials that train alike except for the seed."""
    settings: dict[str, Any] = pydantic.Field(default_factory=dict)
    """Dotted keys that distinguish the arm, besides the schedule, e.g. {"weighting.kind": "min_snr"}."""
    arm_name: str | None = None
    """The arm's short name, which no other arm of the study has; None in records of the first releases."""
    description: str | None = None
    """The arm in words, where its schedule alone does not describe it."""
    total_images: int
    """The budget, of which `images` were seen."""
    folder: Path | None = None
    """The run's folder; None where it was read from MLflow."""
    status: Status
    reason: str | None = None
    """Why it failed or was pruned."""
    rungs: tuple[tuple[int, float], ...] = ()
    """(images seen, metric) of a searched trial's previews before its end."""

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """The first records lacked arms and the budget, and had a rival's name in its description only."""
        data = super().upgraded(data)
        data.setdefault("arm_id", data.get("schedule_id"))
        data.setdefault("total_images", data.get("images"))
        if data.get("control") == "rival":
            data.setdefault("rival", str(data.get("description", "")).removesuffix(PLAIN))
        return data

    @property
    def ran_in(self) -> Path:
        """The folder of a run of this study."""
        assert self.folder is not None
        return self.folder

    @property
    def drawn_by(self) -> CurriculumSchedule:
        """The schedule of a run of this study; ConfigError where another release wrote it."""
        from curriculum_ray.curriculum import CurriculumSchedule

        assert self.schedule is not None
        return CurriculumSchedule.from_dict(self.schedule, f"trial {self.key}")

    @property
    def order(self) -> str:
        """The direction of its schedule's order, "other" where that is not known."""
        order: dict[str, Any] = (self.schedule or {}).get("order", {})
        return str(order.get("direction", "other"))

    @property
    def has_curriculum(self) -> bool:
        """Whether clusters join in an order, by its settings; never so of uniform sampling and of rivals."""
        return self.control not in ("uniform", "rival") and self.order != "none"

    @property
    def arm(self) -> str:
        """The arm's short name, or the arm in words where it has none."""
        return self.arm_name or self.describe()

    def describe(self) -> str:
        """Say what the arm trains with."""
        if self.control == "uniform":
            return "uniform sampling"
        return self.drawn_by.describe() if self.description is None else self.description

    def finished(self, result: RunResult, rungs: Iterable[tuple[int, float]] = ()) -> Self:
        """The record of a trial that spent its budget and was evaluated."""
        measured = {name: getattr(result, name) for name in Measured.model_fields}
        if result.loss is not None:
            measured["metrics"] = {**result.metrics, "loss": result.loss}
        return self.model_copy(update={**measured, "status": "finished", "rungs": tuple(rungs)})

    def measured(self, metric: str) -> bool:
        """Whether it finished, and with a finite value of this metric."""
        return self.status == "finished" and math.isfinite(self.metrics.get(metric, math.nan))

    def pruned(self, reason: str, images: int, rungs: Iterable[tuple[int, float]] = ()) -> Self:
        """The record of a trial that was stopped after `images` images."""
        return self.model_copy(
            update={"status": "pruned", "reason": reason, "images": images, "rungs": tuple(rungs)}
        )

    def failed(self, reason: str) -> Self:
        """The record of a trial that could not be finished."""
        return self.model_copy(update={"status": "failed", "reason": reason})


def load_records(folder: Path) -> dict[TrialKey, TrialRecord]:
    """Records of a study's trials that ended, by key; one that is damaged counts as not ended.

    The folder of each is set to where it is now: a study may have been moved or copied.
    ConfigError where a later release wrote one.
    """
    records = {}
    for path, record in _read(folder).items():
        if record is not None and record.status != "running":
            records[record.key] = record.model_copy(update={"folder": path.parent})
    return records


def damaged_records(folder: Path) -> list[Path]:
    """The files of a study's records that cannot be read, or are of another trial; ConfigError as in `load_records`."""
    return [path for path, record in _read(folder).items() if record is None]


def begun_trials(folder: Path, ended: Collection[TrialKey]) -> set[TrialKey]:
    """The keys of a study's trials that workers began and that are not among those that `ended`."""
    found: set[TrialKey] = set()
    for path in (folder / TRIALS).glob(f"*/{CONFIG_FILE}"):
        with suppress(ValueError):  # a folder of another program
            found.add(TrialKey(path.parent.name))
    return found.difference(ended)


def _read(folder: Path) -> dict[Path, TrialRecord | None]:
    """The record in each file of a study's records; None for one that is damaged or of another trial."""
    found: dict[Path, TrialRecord | None] = {}
    for path in sorted((folder / TRIALS).glob(f"*/{RECORD_FILE}")):
        record = TrialRecord.read(path)
        sound = record is not None and record.key == path.parent.name and record.schedule is not None
        found[path] = record if sound else None
    return found
