"""Two courses are equal to the bit, or part at an image count that is named."""

from __future__ import annotations

import math

from curriculum_ray.runs.log import LoggedLine
from curriculum_ray.runs.result import HeldoutLosses
from tests.tuning.studies import result
from tuning.bundle.course import Course, compared, course_of, without_metrics

LINES = [LoggedLine(images=images, loss=1 / images, stage=0, images_per_second=7.0) for images in (100, 200)]
HELDOUT = HeldoutLosses(fingerprint="a", u=(0.25, 0.75), items=4, held_out=8, history=((150, (0.5, 0.25)),))
WEIGHTS = {"model": "aa", "ema": "bb", "counts": "cc"}


def _course(lines: list[LoggedLine] = LINES, fid: float = 10.0, weights: dict[str, str] = WEIGHTS) -> Course:
    return course_of(lines, HELDOUT, result(fid, images=200, stage_starts=((0, 0),)), weights)


def test_a_course_equals_itself_whatever_its_speed() -> None:
    slower = [line.model_copy(update={"images_per_second": 1.0}) for line in LINES]
    found = compared(_course(), _course(slower))
    assert found.equal
    assert found.same_weights
    # Two losses, two stages, two held-out losses, a start of a stage, four metrics, two digests.
    assert (found.numbers, found.until) == (13, 200)


def test_the_first_difference_is_that_after_the_fewest_images() -> None:
    other = [LINES[0], LINES[1].model_copy(update={"loss": math.nextafter(1 / 200, 1)})]
    found = compared(_course(), _course(other, fid=11.0))
    assert not found.equal
    assert [(each.images, each.what) for each in found.mismatches] == [
        (200, "loss"),
        (200, "fid"),
        (200, "kid"),
    ]
    assert found.mismatches[1].in_words() == "after 200 images: fid 10 in the bundle, 11 here (+1, +10%)"
    assert found.same_weights


def test_other_weights_differ_even_where_no_number_does() -> None:
    found = compared(_course(), _course(weights={**WEIGHTS, "ema": "b"}))
    assert [each.what for each in found.mismatches] == ["SHA-256 of the ema tensors"]
    assert not found.same_weights


def test_a_run_that_was_stopped_is_compared_as_far_as_it_went() -> None:
    here = course_of(LINES[:1], None)
    assert compared(course_of(LINES, HELDOUT), here, until=100).equal
    assert not compared(course_of(LINES, HELDOUT), here).equal


def test_nothing_in_common_is_not_equal() -> None:
    assert not compared({}, {}).equal


def test_what_is_not_a_number_on_both_sides_is_no_difference() -> None:
    assert compared({(1, "loss"): math.nan}, {(1, "loss"): math.nan}).equal


def test_metrics_of_another_protocol_are_left_out_but_losses_stay() -> None:
    left = without_metrics(_course(), {"fid", "kid", "precision", "recall", "loss"})
    assert {what for _, what in left} >= {"loss", "stage"}
    assert not {"fid", "kid"} & {what for _, what in left}
