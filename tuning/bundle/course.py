"""The course of a run, number by number, and the first image count at which two courses part."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from curriculum_ray.runs.log import LoggedLine
from curriculum_ray.runs.result import HeldoutLosses, Measured

__all__ = ["Course", "CourseComparison", "Mismatch", "compared", "course_of", "without_metrics"]

Value = float | str
Course = Mapping[tuple[int, str], Value]
"""What was recorded, by images seen and its name in words; in the order in which it was recorded."""

_END = ("model", "ema", "optimizer")
"""Groups of tensors in the last checkpoint that are compared."""
_DIGEST = "SHA-256"


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """A number that is not the same in both courses."""

    images: int
    """Images seen."""
    what: str
    """Its name in words, e.g. loss."""
    recorded: Value | None
    """As the bundle has it; None where it has none."""
    here: Value | None
    """As it was trained here; None where there is none."""

    def in_words(self) -> str:
        """In words: "after 6,400 images: loss 0.91 in the bundle, 0.92 here (+1.1%)"."""
        left, right = (_written(value) for value in (self.recorded, self.here))
        return f"after {self.images:,} images: {self.what} {left} in the bundle, {right} here{self._by()}"

    def _by(self) -> str:
        before, now = self.recorded, self.here
        if not isinstance(before, float | int) or not isinstance(now, float | int):
            return ""
        if not math.isfinite(before) or not math.isfinite(now):
            return ""
        share = f", {100 * (now - before) / abs(before):+.2g}%" if before else ""
        return f" ({now - before:+.3g}{share})"


@dataclass(frozen=True, kw_only=True)
class CourseComparison:
    """The outcome of training a run again."""

    numbers: int
    """How many numbers were compared."""
    until: int
    """Images up to which they were."""
    mismatches: tuple[Mismatch, ...]
    """In the order of images."""
    weights: bool
    """Whether the weights at the end were compared too."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs; something must have been compared."""
        return not self.mismatches and self.numbers > 0

    @property
    def same_weights(self) -> bool:
        """Whether the weights at the end were compared and are equal to the bit."""
        return self.weights and not any(each.what.startswith(_DIGEST) for each in self.mismatches)


def course_of(
    lines: Sequence[LoggedLine],
    heldout: HeldoutLosses | None,
    ended: Measured | None = None,
    weights: Mapping[str, str] | None = None,
) -> Course:
    """The course of a run by its log, its held-out losses and, where it has ended, its outcome.

    weights: digests of the tensors of its last checkpoint, by group.
    """
    found: dict[tuple[int, str], Value] = {}
    for line in lines:
        if line.loss is not None:
            found[line.images, "loss"] = line.loss
        if line.stage is not None:
            found[line.images, "stage"] = float(line.stage)
        for name, value in (line.preview or {}).items():
            found[line.images, _of_preview(name)] = value
    for images, losses in () if heldout is None else heldout.history:
        assert heldout is not None
        for u, loss in zip(heldout.u, losses, strict=False):
            found[images, f"held-out loss at u = {u:.3f}"] = loss
    if ended is not None:
        found |= dict(_end(ended, weights or {}))
    # Sorted by images only: within one count the order stays.
    return dict(sorted(found.items(), key=lambda item: item[0][0]))


def _end(ended: Measured, weights: Mapping[str, str]) -> Iterator[tuple[tuple[int, str], Value]]:
    for images, stage in ended.stage_starts:
        yield (images, f"start of stage {stage + 1}"), "yes"
    for name, value in ended.metrics.items():
        # A study's record has the last logged loss among its metrics; it is in the log.
        if name != "loss":
            yield (ended.images, name), value
    for group in _END:
        if group in weights:
            yield (ended.images, f"{_DIGEST} of the {group} tensors"), weights[group]


def _of_preview(metric: str) -> str:
    return f"{metric} of the preview"


def without_metrics(course: Course, metrics: Iterable[str]) -> Course:
    """A course without these metrics of its evaluations; the logged losses stay."""
    left_out = {name for metric in metrics if metric != "loss" for name in (metric, _of_preview(metric))}
    return {key: value for key, value in course.items() if key[1] not in left_out}


def compared(recorded: Course, here: Course, until: int | None = None) -> CourseComparison:
    """Compare two courses number by number, to the bit.

    until: images after which training was stopped here: at that count, whatever only one of them has does not count.
    """
    ends = max((images for images, _ in here), default=0) if until is None else until
    keys = [
        key
        for key in sorted({**recorded, **here}, key=lambda key: key[0])
        if until is None or key[0] < until or (key[0] == until and key in recorded and key in here)
    ]
    mismatches = tuple(
        Mismatch(images=key[0], what=key[1], recorded=recorded.get(key), here=here.get(key))
        for key in keys
        if not _same(recorded.get(key), here.get(key))
    )
    weights = any(what.startswith(_DIGEST) for _, what in keys)
    return CourseComparison(numbers=len(keys), until=ends, mismatches=mismatches, weights=weights)


def _same(one: Value | None, other: Value | None) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    return one == other


def _written(value: Value | None) -> str:
    match value:
        case None:
            return "none"
        case str():
            return value[:12]
        case _:
            return f"{value:.9g}"
