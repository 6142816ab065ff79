"""Checks the ranges of a search space: every schedule in them can be walked, and both halves of each range sample
differently."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training.batch_size import DEFAULT_BATCH_SIZE, batch_sizes, choice_line
from tuning.study.config import StudyConfig
from tuning.study.parameters import CategoricalRange, FloatRange, IntRange
from tuning.study.space import SearchSpace

__all__ = ["check_ranges", "with_batch_size"]

# Keys that determine how a curriculum is walked.
_WALK = (
    "schedule.clusters.count",
    "schedule.order.direction",
    "schedule.pacing.",
    "schedule.active.set",
    "schedule.active.width",
)
# Those whose effect does not depend on losses, which are not known yet.
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
    """Refuse, in one line, a space with a schedule that cannot be walked, or with a range that changes nothing.

    run: the settings that the space is laid over. budgets: images of every kind of run, the full budget last. Corners
    are tried: each choice and each end of the keys that make a curriculum.
    """
    try:
        _check(space, run, budgets)
    except ConfigError as error:
        raise ConfigError(f"{error}{_enough(space, run, budgets)}") from None


def with_batch_size(config: StudyConfig, space: SearchSpace) -> tuple[StudyConfig, str | None]:
    """The study with its batch size chosen, and a line that says so where it is not the default.

    A given one is kept. Else it is 128, or the largest smaller power of two with which every schedule of the space can
    be walked at every budget of the study and, if images are fewer than the default budget, each range makes a
    difference; workers and accumulated parts divide it. ConfigError if even the smallest is too large.
    """
    run = config.run
    if "batch_size" in run.model_fields_set:
        return config, None
    # With many images, a range without effect is not due to too few steps.
    check = _check if run.images < RunConfig.model_fields["images"].default else _check_walks
    for size in batch_sizes(_parts(config.resources) * run.accumulate):
        run = run.model_copy(update={"batch_size": size})
        try:
            check(space, run, config.halving.budgets(run.total_images))
        except ConfigError:
            continue
        settled = config.model_copy(update={"run": run})
        if size == DEFAULT_BATCH_SIZE:
            return settled, None
        most = max(schedule.num_stages for _, schedule in _schedules(space, run))
        images = min(config.halving.budgets(config.run.images))
        return settled, choice_line(
            size, images, f"the {most} stages in space {space.name}", "run.batch_size"
        )
    check_ranges(space, run, config.halving.budgets(run.total_images))
    raise AssertionError("a space that no batch size fits was refused before")


def _parts(resources: ResourceSpec) -> int:
    """What a batch must be a multiple of, so that every number of workers divides it; beyond the default, no matter."""
    least, most = resources.workers
    parts, count = least, least
    while count < most and parts <= DEFAULT_BATCH_SIZE:
        count += 1
        parts = math.lcm(parts, count)
    return parts


def _enough(space: SearchSpace, run: RunConfig, budgets: list[int]) -> str:
    """ ", or give at least N images", where more of them would do."""

    def fits(factor: float) -> bool:
        try:
            _check(space, run, [round(images * factor) for images in budgets])
        except ConfigError:
            return False
        return True

    low, high = 1.0, 2.0
    while not fits(high):
        low, high = high, 2 * high
        if high > 1024:
            return ""
    for _ in range(4):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return f", or give at least {math.ceil(budgets[-1] * high / 100) * 100:,} images"


def _check(space: SearchSpace, run: RunConfig, budgets: list[int]) -> None:
    _check_walks(space, run, budgets)
    _check_differences(space, run, _whole(run, budgets[-1]))


def _whole(run: RunConfig, images: int) -> int:
    """`images` rounded up to whole steps."""
    return -(-images // run.batch_size) * run.batch_size


def _varied(space: SearchSpace) -> list[str]:
    return [key for key in space.search if key.startswith(_WALK)]


def _schedules(space: SearchSpace, run: RunConfig) -> Iterator[tuple[str, CurriculumSchedule]]:
    """Name and schedule of every corner."""
    base = {"schedule": run.schedule.model_dump(mode="json")}
    for point in _corners(space, _varied(space)):
        source = f"space {space.name} with {_shown(point)}"
        yield source, _schedule(space, base, point, source)


def _check_walks(space: SearchSpace, run: RunConfig, budgets: list[int]) -> None:
    """Every schedule can be walked at every budget."""
    whole = [_whole(run, images) for images in budgets]
    for source, schedule in _schedules(space, run):
        for images in whole:
            try:
                schedule.check_ladder(run.batch_size, images)
            except ConfigError as error:
                smaller = f" at the smaller budget of {images:,} images" if images < whole[-1] else ""
                raise ConfigError(f"{source}{smaller}: schedule.{error}") from None


def _check_differences(space: SearchSpace, run: RunConfig, images: int) -> None:
    """Each range of a length makes a difference in a run of so many images."""
    base = {"schedule": run.schedule.model_dump(mode="json")}
    varied = _varied(space)
    for key in varied:
        span = space.search[key]
        if not isinstance(span, CategoricalRange) and key.endswith(_LENGTHS) and span.low < span.high:
            beside = [other for other in varied if other not in (key, "schedule.order.direction")]
            if key.startswith("schedule.active"):
                beside = [other for other in beside if not other.startswith("schedule.pacing")]
            _check_halves(space, base, key, beside, run, images)


def _check_halves(
    space: SearchSpace, base: Mapping[str, Any], key: str, others: list[str], run: RunConfig, images: int
) -> None:
    """The low end, the middle and the high end of a range sample differently beside every corner of the others."""
    span = space.search[key]
    assert not isinstance(span, CategoricalRange)
    values = sorted({span.low, _middle(span), span.high})
    for point in _corners(space, others):
        if not span.exists(point):
            continue
        beside = {other: value for other, value in point.items() if other != key}
        schedules = [
            _schedule(space, base, {**beside, key: value}, f"space {space.name}") for value in values
        ]
        walks = [_sampled(schedule, key, images, run.batch_size) for schedule in schedules]
        for (low, one), (high, other) in itertools.pairwise(zip(values, walks, strict=True)):
            if one == other:
                raise ConfigError(
                    f"space {space.name}: search.{key}: {low:.3g} and {high:.3g} sample alike with {_shown(beside)} in "
                    f"{images // run.batch_size} steps: narrow the range, or search fewer clusters"
                )


def _sampled(schedule: CurriculumSchedule, key: str, images: int, batch: int) -> Any:
    """The part of the draws that `key` determines: each stage's densities, or its earliest and latest start."""
    stages, order = schedule.num_stages, range(schedule.clusters.count)
    if key.startswith("schedule.active"):
        return [schedule.densities(order, stage) for stage in range(stages)]
    assert schedule.pacing is not None
    when = (stages, images, batch)
    return schedule.pacing.earliest(*when), schedule.pacing.latest(*when)


def _corners(space: SearchSpace, keys: list[str]) -> Iterator[dict[str, Any]]:
    """Every combination of choices and ends of `keys`, if they exist; other keys take their first value."""

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
