"""The arms of a study without a search: declared settings that are trained on fresh seeds beside uniform sampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import CurriculumSchedule
from tuning.evidence.keys import TrialKey
from tuning.study.comparable import check_distinct, check_may_differ, check_name
from tuning.study.config import StudyConfig
from tuning.study.overlay import dotted, over_plain
from tuning.study.trial_spec import TrialSpec

__all__ = ["check_arms", "named_arm"]


def named_arm(name: str, keys: Mapping[str, Any], plain: CurriculumSchedule, seed: int) -> TrialSpec:
    """The trial of an arm on a fresh seed. keys: its settings, dotted or nested, laid over uniform sampling's.

    plain: the schedule of uniform sampling. ConfigError where they give no schedule.
    """
    arm, (schedule, settings) = TrialKey.arm(name), over_plain(keys, plain, f"arms.{name}")
    return TrialSpec(
        key=arm.confirmation(seed),
        role="confirmation",
        seed=seed,
        schedule=schedule,
        settings=settings,
        origin=arm,
    )


def check_arms(config: StudyConfig, plain: CurriculumSchedule) -> None:
    """Raise ConfigError for an arm that cannot be compared, cannot be walked, or trains like another one."""
    for name, keys in config.arms.items():
        check_name("an arm", name, keys)
        for key in dotted(keys, f"arms.{name}"):
            check_may_differ(key, f"arms.{name}: {key}", "changed by an arm")
        arm = named_arm(name, keys, plain, config.seed)
        assert arm.schedule is not None
        try:
            arm.schedule.check_ladder(config.run.batch_size, config.run.total_images)
        except ConfigError as error:
            raise ConfigError(f"arms.{name}: schedule.{error}") from None
    uniform = {**config.run.model_dump(mode="json"), "schedule": plain.model_dump(mode="json")}
    check_distinct("arms", config.arms, uniform)
