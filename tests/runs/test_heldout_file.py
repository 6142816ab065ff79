"""heldout.json of a run: whole after each measurement, the same after a resume, and no reason for a run to fail."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from curriculum_ray.data import load_data
from curriculum_ray.distributed.pack import run_pack
from curriculum_ray.runs import heldout_file as heldout
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.heldout_file import read_heldout
from curriculum_ray.runs.jobs import Assignment, Progress
from curriculum_ray.training.trainer import Trainer
from curriculum_ray.training.world import World
from tests.distributed.jobs import as_job, run_up_to

SETTINGS: dict[str, Any] = {
    "evaluation": None,
    "batch_size": 16,
    "images": 16 * 12,
    "window": 2,
    "log_every_images": 32,
    "checkpoint": {"every_images": 64, "keep": 3},
    "model": {"base_channels": 8},
    "heldout": {"levels": 3, "every_images": 48, "items": 4},
}


def _job(place: Path, key: str = "run", **changes: Any) -> Assignment:
    config = RunConfig.model_validate({**SETTINGS, **changes})
    return as_job(place, key, config).assigned(place / "slot")


def _run(place: Path, stop_at: int | None = None, **changes: Any) -> tuple[Any, list[Progress]]:
    return run_up_to(_job(place, **changes), stop_at)


def test_a_run_leaves_its_measurements_and_reports_each_once(tmp_path: Path) -> None:
    result, reports = _run(tmp_path)
    assert result.heldout == read_heldout(tmp_path / "run")
    assert [images for images, _ in result.heldout.history] == [48, 96, 144, 192]
    assert all(len(losses) == 3 for _, losses in result.heldout.history)
    assert (result.heldout.items, result.heldout.u) == (4, pytest.approx([1 / 6, 1 / 2, 5 / 6]))
    told = [point for report in reports for point in report.heldout]
    assert told == list(result.heldout.history)


def test_a_crashed_run_ends_with_the_measurements_of_the_uninterrupted_one(tmp_path: Path) -> None:
    whole, _ = _run(tmp_path / "whole")
    _run(tmp_path, stop_at=128)
    left = read_heldout(tmp_path / "run")
    assert left is not None
    assert [images for images, _ in left.history] == [48, 96]
    # What a crash left of a later moment is measured again.
    heldout.replace_file(
        tmp_path / "run" / heldout.HELDOUT_FILE,
        (tmp_path / "run" / heldout.HELDOUT_FILE).read_text().replace("[96,", "[160,"),
    )
    result, _ = _run(tmp_path)
    assert result.resumed_at == 128
    history = dict(result.heldout.history)
    assert history == {images: losses for images, losses in whole.heldout.history if images != 96}


def test_a_full_disk_costs_the_file_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(heldout, "replace_file", full)
    result, _ = _run(tmp_path)
    said = [line for line in caplog.text.splitlines() if "heldout.json was not written" in line]
    assert len(said) == 4
    assert len(result.heldout.history) == 4


def test_a_loss_that_is_not_finite_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = RunConfig.model_validate(SETTINGS)
    trainer = Trainer(config.train, load_data(config.data))
    kept = heldout.HeldoutFile(tmp_path, trainer.heldout, 0)
    kept.add(16, [1.0, float("nan")])
    kept.add(32, [1.0, 2.0])
    assert kept.news() == ((32, (1.0, 2.0)),)
    assert kept.news() == ()
    assert "after 16 images is not finite" in caplog.text


def test_data_that_hold_nothing_out_leave_no_file_and_no_result(tmp_path: Path) -> None:
    result, _ = _run(tmp_path, data={"holdout_share": 0}, heldout={})
    assert result.heldout is None
    assert not (tmp_path / "run" / heldout.HELDOUT_FILE).exists()


def test_each_run_of_a_pack_leaves_its_own(tmp_path: Path) -> None:
    results: dict[str, Any] = {}
    run_pack(
        [_job(tmp_path, key, seed=seed) for seed, key in enumerate(("one", "two"))],
        World(),
        [lambda _: False, lambda _: False],
        lambda *_: None,
        lambda key, how: results.update({key: how}),
    )
    histories = [results[key].heldout.history for key in ("one", "two")]
    assert [[images for images, _ in history] for history in histories] == [[48, 96, 144, 192]] * 2
    assert histories[0] != histories[1]
    assert read_heldout(tmp_path / "two") == results["two"].heldout
