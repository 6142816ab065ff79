"""Stages as plain windows of noise levels, the most that trainers with a lowest and a highest timestep can say."""

from __future__ import annotations

from collections.abc import Sequence

from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import one_line
from curriculum_ray.curriculum import SortedOrder
from curriculum_ray.export.trainers.plan import Plan, PlannedStage

__all__ = ["commented", "one_window", "windows"]


def windows(plan: Plan, trainer: str, parts: int) -> list[tuple[int, int]]:
    """The one window of each stage in `parts` equal parts of u: from the first (clean) to below the second (noise).

    Borders between parts are moved to the nearest. Raises ConfigError naming the key where a stage is not one window of
    one density, or narrower than a part.
    """
    found = []
    for stage in plan.stages:
        low, high = (round(edge * parts) for edge in one_window(plan, stage, trainer))
        if low == high:
            raise ConfigError(
                f"clusters.count {plan.schedule.clusters.count} is too fine for {trainer}: stage {stage.stage} draws u "
                f"from {stage.intervals[0][0]:.6g} to {stage.intervals[0][1]:.6g}, less than one of {parts} timesteps"
            )
        found.append((low, high))
    return found


def one_window(plan: Plan, stage: PlannedStage, trainer: str) -> tuple[float, float]:
    """The window of u, 1 is noise, that `stage` draws evenly; ConfigError naming the key where it is not one."""
    if len(stage.intervals) == 1:
        return stage.intervals[0][:2]
    active, order = plan.schedule.active, plan.schedule.order
    if active.floor > 0:
        key, got = "active.floor must be 0", f"{active.floor:g}"
    elif active.set == "newest_weighted":
        key, got = "active.set must be cumulative or window", active.set
    elif isinstance(order, SortedOrder) and order.by != "noise_level":
        key, got = "order.by must be noise_level", one_line(order.by)
    else:
        key, got = "order.direction must be easy_to_hard or hard_to_easy", order.direction
    raise ConfigError(
        f"{key} for {trainer}, which draws from one window of timesteps evenly, but got {got}: stage {stage.stage} has "
        f"{len(stage.intervals)} intervals of its own density"
    )


def commented(lines: Sequence[str]) -> str:
    """Lines as the comment at the head of a TOML or YAML file."""
    return "".join(f"# {line}\n" for line in lines)
