"""A trial that a study is to run, before anything has run it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from curriculum_ray.curriculum import CurriculumSchedule

__all__ = ["PLAIN", "TrialSpec", "index_of"]

PLAIN = ", no curriculum"
"""How a rival's description ends."""


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """A trial to run; `schedule` is None where the sampler is still to choose it."""

    key: str
    role: str
    control: str | None = None
    seed: int
    schedule: CurriculumSchedule | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Dotted keys beside the schedule that make this arm what it is, e.g. {"weighting.kind": "min_snr"}."""
    rival: str | None = None
    """The rival's name, for a trial of one."""
    images: int | None = None
    """The budget where it is not the study's own."""
    optuna: str | None = None
    """The key by which Optuna knows a searched schedule: that of its run at the full budget."""
    origin: str | None = None
    """The key of the trial whose schedule this one varies or repeats."""

    def describe(self, schedule: CurriculumSchedule) -> str | None:
        """The arm in words where its schedule alone does not say it."""
        if self.rival is not None:
            return f"{self.rival}{PLAIN}"
        if not self.settings:
            return None
        words = [f"{key.removesuffix('.kind')} {_short(value)}" for key, value in self.settings.items()]
        return ", ".join([schedule.describe(), *words])

    def arm_id(self, schedule: CurriculumSchedule) -> str:
        """Equal for arms that train alike: with equal settings, and schedules that draw alike."""
        drawn = schedule.simplest().schedule_id
        if not self.settings:
            return drawn
        text = json.dumps(dict(self.settings), sort_keys=True)
        return f"{drawn}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def index_of(key: str) -> int:
    """The number of a searched schedule, from the key of any of its runs: 7 for "search-007" and "rung0-007"."""
    return int(key.rpartition("-")[2])


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
