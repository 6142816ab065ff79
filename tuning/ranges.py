"""Whether a search space's ranges make a difference: every schedule in them can be walked, and both halves of each
range sample differently."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.distributed.config import RunConfig
from tuning.space import CategoricalRange, FloatRange, IntRange, SearchSpace

__all__ = ["check_ranges"]

# Keys that decide how a curriculum is walked.
_WALK = (
    "schedule.clusters.count",
    "schedule.order.direction",
    "schedule.pacing.",
    "schedule.active.set",
    "schedule.active.width",
)
# Those whose effect does not depend on losses that nobody has seen.
_LENGTHS = (
    "_share",
    "_images",
    ".patience",
    ".finish_by",
    ".start_fraction",
    ".start_stage",
    ".increase",
    ".width",
)


def check_ranges(space: SearchSpace, run: RunConfig, budgets: list[int]) -> None:
    """Refuse, in one line, a space that holds a schedule which cannot be walked, or a range that changes nothing.

    run: the settings that the space is laid over. budgets: images of every run that a trial may be, the study's own
    among them. Corners are tried: each choice and each end of the keys that make a curriculum.
    """
    base = {"schedule": run.schedule.model_dump(mode="json")}
    varied = [key for key in space.search if key.startswith(_WALK)]
    for point in _corners(space, varied):
        source = f"space {space.name} with {_shown(point)}"
        schedule = _schedule(space, base, point, source)
        for images in budgets:
            try:
                schedule.check_ladder(run.batch_size, -(-images // run.batch_size) * run.batch_size)
            except ConfigError as error:
                smaller = f" at the smaller budget of {images:,} images" if images < max(budgets) else ""
                raise ConfigError(f"{source}{smaller}: schedule.{error}") from None
    for key in varied:
        span = space.search[key]
        if not isinstance(span, CategoricalRange) and key.endswith(_LENGTHS) and span.low < span.high:
            beside = [other for other in varied if other not in (key, "schedule.order.direction")]
            if key.startswith("schedule.active"):
                beside = [other for other in beside if not other.startswith("schedule.pacing")]
            _check_halves(space, base, key, beside, run)


def _check_halves(
    space: SearchSpace, base: Mapping[str, Any], key: str, others: list[str], run: RunConfig
) -> None:
    """The low end, the middle and the high end of a range sample differently beside every corner of the others."""
    span = space.search[key]
    assert not isinstance(span, CategoricalRange)
    values = sorted({span.low, _middle(span), span.high})
    for point in _corners(space, others):
        if not span.exists(point):
            continue
        beside = {other: value for other, value in point.items() if other != key}
        walks: list[Any] = []
        for value in values:
            schedule = _schedule(space, base, {**beside, key: value}, f"space {space.name}")
            assert schedule.pacing is not None
            stages, order = schedule.num_stages, range(schedule.clusters.count)
            if key.startswith("schedule.active"):
                walks.append([schedule.active.densities(order, stage) for stage in range(stages)])
            else:
                when = (stages, run.total_images, run.batch_size)
                walks.append([schedule.pacing.earliest(*when), schedule.pacing.latest(*when)])
        for (low, one), (high, other) in itertools.pairwise(zip(values, walks, strict=True)):
            if one == other:
                raise ConfigError(
                    f"space {space.name}: search.{key}: {low:.3g} and {high:.3g} sample alike with {_shown(beside)} in "
                    f"{run.total_images // run.batch_size} steps: narrow the range, or search fewer clusters"
                )


def _corners(space: SearchSpace, keys: list[str]) -> Iterator[dict[str, Any]]:
    """Every combination of choices and ends of `keys`, where they exist; other keys take their first value."""

    def extend(point: dict[str, Any], left: list[str]) -> Iterator[dict[str, Any]]:
        if not left:
            yield point
            return
        key, *rest = left
        span = space.search[key]
        if not span.exists(point):
            yield from extend(point, rest)
            return
        for value in _ends(span) if key in keys else _ends(span)[:1]:
            yield from extend({**point, key: value}, rest)

    yield from extend({}, list(space.search))


def _ends(span: IntRange | FloatRange | CategoricalRange) -> list[Any]:
    return list(dict.fromkeys(span.choices if isinstance(span, CategoricalRange) else [span.low, span.high]))


def _middle(span: IntRange | FloatRange) -> float:
    middle = math.sqrt(span.low * span.high) if span.log else (span.low + span.high) / 2
    return round(middle) if isinstance(span, IntRange) else middle


def _schedule(
    space: SearchSpace, base: Mapping[str, Any], point: Mapping[str, Any], source: str
) -> CurriculumSchedule:
    own = {key: value for key, value in point.items() if key.startswith("schedule.")}
    return parse(CurriculumSchedule, space.apply(base, own)["schedule"], source)


def _shown(point: Mapping[str, Any]) -> str:
    walk = {key: value for key, value in point.items() if key.startswith(_WALK)}
    return ", ".join(f"{key.removeprefix('schedule.')} = {value}" for key, value in walk.items())
