"""A budget of time that is surely too short is refused before a search starts, whatever the trials share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.config import ConfigError
from curriculum_ray.data import load_data
from tests.buckets.places import bucket_in_memory, failing
from tuning.folder.layout import TIME_FILE
from tuning.search import pace
from tuning.search.pace import first_guess
from tuning.study.calibration import Calibration, TrialSpeed
from tuning.study.config import StudyConfig
from tuning.study.controls import Controls

# A trial of 400 images takes 10 s of its slot.
FOUND = Calibration("CPU", seconds_per_step=0.2, seconds_per_evaluation=2.0)


@pytest.fixture(autouse=True)
def calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(pace.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(pace, "calibrate", lambda *_: FOUND)


def _guess(folder: Path, copy: WorkingCopy | None = None, **changes: Any) -> TrialSpeed | None:
    run = {"batch_size": 10, "images": 400, "log_every_images": 100}
    config = StudyConfig.model_validate({"run": run, "trials": 30, "confirm_seeds": 8, **changes})
    return first_guess(config, config.run, load_data(config.run.data), folder, Controls(), 1, copy)


@pytest.mark.parametrize(
    ("pack", "seconds", "least"),
    [
        # Uniform, one schedule, two twins and two arms of eight fresh seeds.
        (1, 95, 200),
        # Four at a time take 40 s, and the two twins as long.
        (4, 115, 240),
    ],
)
def test_hours_that_are_surely_too_short_are_refused(
    tmp_path: Path, pack: int, seconds: float, least: float
) -> None:
    with pytest.raises(ConfigError) as raised:
        _guess(tmp_path, pack=pack, hours=seconds / 3600)
    assert f"hours must be about {least / 3600:.2g} for controls, one schedule" in str(raised.value)
    _guess(tmp_path, pack=pack, hours=(least / 2 + 1) / 3600)


@pytest.mark.parametrize("pack", [1, 4])
def test_the_guess_is_the_speed_of_a_trial_beside_the_others_of_its_pack(tmp_path: Path, pack: int) -> None:
    guess = _guess(tmp_path, pack=pack, hours=1)
    assert guess is not None
    assert guess.seconds_per_image == pytest.approx(pack * 0.02)
    assert guess.seconds_per_evaluation == pack * 2.0


def test_without_hours_nothing_is_guessed(tmp_path: Path) -> None:
    assert _guess(tmp_path) is None


def test_a_study_that_was_started_before_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere, too: its folder is fetched from the bucket only later."""
    monkeypatch.setattr(pace, "calibrate", lambda *_: Calibration("CPU", 20.0, 200.0))
    copy = WorkingCopy(tmp_path, bucket_in_memory())
    with pytest.raises(ConfigError, match="hours must be about"):
        _guess(tmp_path / "study", copy, hours=1)
    (copy.bucket / "study").write(TIME_FILE, b"{}")
    assert _guess(tmp_path / "study", copy, hours=1) is None


def test_a_bucket_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = WorkingCopy(tmp_path, bucket_in_memory())
    (copy.bucket / "study").write(TIME_FILE, b"{}")
    failing(monkeypatch, lambda mode, path: mode == "read")
    with pytest.raises(ConfigError, match=r"--output memory://.*/runs/study cannot be used: 503"):
        _guess(tmp_path / "study", copy, hours=1)
