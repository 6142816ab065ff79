"""Held-out losses of records: paired by seed, refused where they were not measured alike."""

from __future__ import annotations

import math
from typing import Any

import pytest

from curriculum_ray.runs.result import HeldoutLosses
from tests.tuning.studies import record, schedule
from tuning.evidence.arms import Arm, Ranking
from tuning.evidence.heldout import LevelGain, as_history, as_metrics, beside, heldout_map

IMAGES = [100, 200]


def measured(
    losses: list[list[float]], fingerprint: str = "abc", images: list[int] = IMAGES
) -> HeldoutLosses:
    """heldout.json of a run, from the losses of each measurement."""
    levels = len(losses[0])
    return HeldoutLosses(
        fingerprint=fingerprint,
        u=tuple((level + 0.5) / levels for level in range(levels)),
        items=5,
        held_out=20,
        history=tuple((seen, tuple(found)) for seen, found in zip(images, losses, strict=True)),
    )


def two_arms(ours: dict[int, Any], theirs: dict[int, Any]) -> tuple[Arm, Arm]:
    """A schedule and uniform sampling, confirmed with what each seed measured."""
    best, control = ranked(ours, theirs).arms
    assert control.is_uniform
    return best, control


def ranked(ours: dict[int, Any], theirs: dict[int, Any]) -> Ranking:
    """The ranking of those two."""
    uniform = {"control": "uniform", "schedule": schedule(1, "none")}
    records = [
        record(8.0, key=f"confirm-search-000-seed{seed}", role="confirmation", seed=seed, heldout=found)
        for seed, found in ours.items()
    ]
    records += [
        record(
            9.0,
            key=f"confirm-control-uniform-seed{seed}",
            role="confirmation",
            seed=seed,
            heldout=found,
            **uniform,
        )
        for seed, found in theirs.items()
    ]
    return Ranking.of(records, "fid")


def test_metrics_name_the_mean_and_each_level_from_the_cleanest() -> None:
    assert as_metrics([0.5, 0.25, 0.0]) == {
        "heldout_loss": 0.25,
        "heldout_loss_00": 0.5,
        "heldout_loss_01": 0.25,
        "heldout_loss_02": 0.0,
    }
    history = as_history(record(heldout=measured([[1.0, 3.0], [1.0, 1.0]])))
    assert [(images, metrics["heldout_loss"]) for images, metrics in history] == [(100, 2.0), (200, 1.0)]
    assert as_history(record()) == []


def test_gains_are_paired_by_seed_and_averaged_with_their_standard_error() -> None:
    ours = {
        1: measured([[0.9, 2.0], [0.8, 2.2]]),
        2: measured([[1.8, 4.0], [1.8, 4.0]]),
        3: measured([[1.0, 1.0]], images=[100]),
    }
    theirs = {1: measured([[1.0, 2.0], [1.0, 2.0]]), 2: measured([[2.0, 4.0], [2.0, 4.0]])}
    found = heldout_map(*two_arms(ours, theirs))
    assert found is not None
    assert (found.seeds, found.images, found.u) == (2, IMAGES, [0.25, 0.75])
    assert found.gain[0] == pytest.approx([10.0, 15.0])
    assert found.gain[1] == pytest.approx([0.0, -5.0])
    # Two values: the deviation is their distance over root 2, and the error of the mean half of the distance.
    assert found.error[0] == pytest.approx([0.0, 5.0], abs=1e-9)
    assert found.error[1] == pytest.approx([0.0, 5.0], abs=1e-9)
    # At the end: means 1.5 beside 1.5, and 2.9 beside 3.
    assert found.mean == pytest.approx(100 / 60)


def test_one_seed_has_no_error_and_arms_that_were_not_measured_alike_no_map() -> None:
    one = measured([[1.0, 1.0], [1.0, 1.0]])
    found = heldout_map(*two_arms({1: one}, {1: one}))
    assert found is not None
    assert found.gain == [[0.0, 0.0], [0.0, 0.0]]
    assert found.mean_error == math.inf
    assert heldout_map(*two_arms({1: one}, {2: one})) is None
    assert heldout_map(*two_arms({1: one}, {1: one.model_copy(update={"fingerprint": "other"})})) is None
    assert heldout_map(*two_arms({1: None}, {1: one})) is None


def test_two_runs_are_compared_at_the_last_measurement_that_both_have() -> None:
    a, b = measured([[1.0, 3.0], [2.0, 2.0]]), measured([[0.5, 3.0]], images=[100])
    found = beside(a, b)
    assert isinstance(found, LevelGain)
    assert (found.images, found.gain) == (100, [50.0, 0.0])
    assert found.mean_gain == pytest.approx(12.5)
    assert beside(None, None) is None
    assert "A has none" in str(beside(None, b))
    assert "not measured alike (abc and x)" in str(beside(a, b.model_copy(update={"fingerprint": "x"})))
    assert "equally many images" in str(beside(a, measured([[1.0, 1.0]], images=[150])))


def test_a_gain_beyond_all_bounds_has_no_error_that_says_something() -> None:
    ours = {1: measured([[1e308, 1.0]], images=[100]), 2: measured([[1.0, 1.0]], images=[100])}
    found = heldout_map(*two_arms(ours, {seed: measured([[1e-300, 1.0]], images=[100]) for seed in ours}))
    assert found is not None
    assert found.error == [[math.inf], [0.0]]


def test_losses_at_other_levels_are_not_compared_whatever_the_fingerprint_says() -> None:
    two, three = measured([[0.5, 0.25]], images=[100]), measured([[0.5, 0.25, 0.1]], images=[100])
    assert (
        beside(two, three) == "held-out losses are not compared: they were not measured alike (abc and abc)"
    )
    assert heldout_map(*two_arms({1: two}, {1: three})) is None
