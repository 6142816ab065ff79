"""A trial that a study will run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curriculum_ray.config import flatten
from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.runs.config import RunConfig
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import PLAIN, Control, Role, TrialRecord
from tuning.evidence.short_names import UNIFORM, arm_name

__all__ = ["TrialSpec"]


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """A trial to run; `schedule` is None where the sampler has yet to choose it."""

    key: TrialKey
    role: Role
    control: Control | None = None
    seed: int
    schedule: CurriculumSchedule | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Dotted keys that distinguish the arm, besides the schedule, e.g. {"weighting.kind": "min_snr"}."""
    rival: str | None = None
    """The rival's name, for a trial of one."""
    images: int | None = None
    """The budget, if it is not that of the study."""
    optuna: TrialKey | None = None
    """Optuna's key of a searched schedule: the key of its run at the full budget."""
    origin: TrialKey | None = None
    """The trial whose schedule this one varies or repeats."""

    def describe(self, schedule: CurriculumSchedule) -> str | None:
        """The arm in words, where its schedule alone does not describe it."""
        if self.rival is not None:
            return f"{self.rival}{PLAIN}"
        if not self.settings:
            return None
        words = [f"{key.removesuffix('.kind')} {_short(value)}" for key, value in self.settings.items()]
        return ", ".join([schedule.describe(), *words])

    def begun(
        self, trial: int, run: RunConfig, folder: Path, known: Mapping[str, str] | None = None
    ) -> TrialRecord:
        """The record of the trial as `run` starts in `folder`; `trial` is its number.

        known: the names of the study's arms so far, by id.
        """
        arm = self.arm_id(run.schedule)
        name = arm_name(
            arm,
            run.schedule,
            self._settings_in_full(run),
            known or {},
            rival=self.rival,
            given=self.key.named or (UNIFORM if self.control == "uniform" else None),
        )
        return TrialRecord(
            trial=trial,
            key=self.key,
            name=self._name(name, run),
            role=self.role,
            control=self.control,
            rival=self.rival,
            origin=self.origin,
            seed=run.seed,
            schedule=run.schedule.model_dump(mode="json"),
            schedule_id=run.schedule.schedule_id,
            arm_id=arm,
            arm_name=name,
            settings=dict(self.settings),
            description=self.describe(run.schedule),
            total_images=run.total_images,
            folder=folder,
            status="running",
            images=0,
        )

    def _name(self, arm: str, run: RunConfig) -> str:
        if self.role == "rung":
            return f"{arm} ({run.total_images:,} images)"
        if self.role == "confirmation":
            return f"{arm} (seed {self.seed})"
        return f"{self.control}: {arm}" if self.control and self.control != "uniform" else arm

    def _settings_in_full(self, run: RunConfig) -> dict[str, Any]:
        """Its settings, with all those of a weighting that it chooses: its numbers belong into a name."""
        if "weighting.kind" not in self.settings:
            return dict(self.settings)
        return {**flatten({"weighting": run.weighting.model_dump(mode="json")}), **self.settings}

    def arm_id(self, schedule: CurriculumSchedule) -> str:
        """Equal for arms that train alike: with equal settings, and schedules with equal draws."""
        drawn = schedule.simplest().schedule_id
        if not self.settings:
            return drawn
        text = json.dumps(dict(self.settings), sort_keys=True)
        return f"{drawn}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
