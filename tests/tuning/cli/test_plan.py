"""`python -m tune plan`: what a search, or a comparison of arms, would run and take, before anything is spent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuning.cli import main
from tuning.study.calibration import Calibration

ROOT = Path(__file__).parents[3]
LONG = str(ROOT / "examples/long_runs.yaml")


@pytest.fixture(autouse=True)
def calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes 10 ms, an evaluation 5 s."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("tuning.study.forecast.calibrate", lambda *_: Calibration("CPU", 0.01, 5.0))


def _plan(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *words])
    printed = capsys.readouterr()
    assert ended.value.code == code, printed.err
    return printed.err if code else printed.out


def _as_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(_plan(capsys, *words, "--json"))


def test_a_search_is_planned_with_its_controls_twins_and_confirmations(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--output", str(output), "--trials", "3", "--confirm-seeds", "4", "--concurrent", "2"]
    found = _as_json(capsys, *words)
    assert (found["space"]["name"], found["arms"], found["controls"]) == ("default", [], ["uniform"])
    counts = {"controls": 1, "searched": 3, "twins of the best": 2, "confirmations": 8, "smaller budgets": 0}
    assert found["trials"] == counts
    assert found["trial_seconds"] == pytest.approx(350 * 0.01 + 5)
    assert found["wall_seconds"] == pytest.approx(14 * 8.5 / 2)
    assert len(found["schedules"]) == 4
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")
    text = _plan(capsys, *words)
    assert "space default, chosen by tpe" in text
    assert "3 searched, 2 twins of the best, 8 confirmations" in text
    assert "confirmed on 4 fresh seeds; paired differences vary by 9% of FID" in text


def test_the_hours_of_packs_are_those_that_are_expected(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--output", str(output), "--trials", "63", "--confirm-seeds", "7", "--hours", "1"]
    found = _as_json(capsys, *words, "--pack", "8", "--concurrent", "8")
    # A trial's share is 8.5 s. On one slot, nine packs are full, and one, of the twins, has six places empty and one,
    # of the confirmations, two.
    assert found["wall_seconds"] == pytest.approx(80 * 8.5)
    assert found["hours"]["whole"] * 3600 == pytest.approx((80 + 6 + 2) * 8.5)
    one_by_one = _as_json(capsys, *words, "--concurrent", "1")
    assert one_by_one["wall_seconds"] == pytest.approx(one_by_one["hours"]["whole"] * 3600)


def test_arms_are_planned_as_they_are_compared(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", LONG, "--images", "512000", "--output", str(output), "--concurrent", "2"]
    found = _as_json(capsys, *words, "--confirm-seeds", "6-7")
    assert found["arms"][:2] == ["paper_10", "paper_2"]
    assert sum(found["trials"].values()) == found["trials"]["confirmations"] == 10 * 7
    # Eight previews of 500 samples, and the end's of 2,000.
    assert found["wall_seconds"] == pytest.approx(70 * (4000 * 0.01 + 3 * 5) / 2)
    assert found["least_wall_seconds"] == pytest.approx(60 * (4000 * 0.01 + 3 * 5) / 2)
    assert [schedule["order"]["direction"] for schedule in found["schedules"]][3] == "hard_to_easy"
    assert {each["given_up"] for each in found["expected_seeds"]} == {0.0}
    text = _plan(capsys, *words, "--pictures", "2")
    assert "arms, beside uniform sampling: paper_10, paper_2, " in text
    assert "trials, at most: 120 confirmations\n" in text
    assert "trained on 6 to 12 fresh seeds" in text
    assert "\npaper_10: 20 uniform clusters, easy_to_hard" in text
    assert "random_order: " not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--trials", "3"), "arms are compared without a search: leave trials out, which is 3"),
        (("--hours", "2"), "arms are compared without a search: leave hours out, which is 2"),
        (("--images", "12800"), "arms.paper_10: schedule.pacing: 20 stages need 19 steps before finish_by"),
    ],
)
def test_what_arms_cannot_have_is_refused_in_one_line(
    output: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    error = _plan(capsys, "--config", LONG, "--output", str(output), *words, code=2)
    assert said in error
    assert error.count("\n") == 1


def test_an_effect_without_confirmations_is_refused_in_one_line(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--output", str(output), "--effect", "7", "--effect", "2.5", "--set", "confirm_top=0"]
    error = _plan(capsys, *words, code=2)
    assert error == "error: --effect is for confirmations, of which confirm_top 0 has none, but got 7, 2.5\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--gpus", "1", "--num-workers", "4"),
            "4 GPUs are needed (4 workers x 1), but there is 1: lower --num-workers, or raise --gpus",
        ),
        (
            ("--gpus", "4", "--num-workers", "2", "--concurrent", "3"),
            "6 GPUs are needed (3 at a time x 2 workers x 1), but there are 4: lower --num-workers or --concurrent, "
            "or raise --gpus",
        ),
        (
            ("--gpus", "2", "--set", "resources.gpus_per_worker=0.6", "--concurrent", "3"),
            "3 workers of 0.6 GPUs are needed, each on one GPU, but 2 GPUs hold 2: lower --num-workers or "
            "--concurrent, or raise --gpus",
        ),
        (
            ("--gpus", "4", "--num-workers", "2", "--share", "0.25"),
            "share must hold a trial of 2 workers, but 0.25 of the 4 that the cluster can hold is 1: give at least 0.5",
        ),
    ],
)
def test_no_study_is_priced_that_the_gpus_do_not_hold(
    output: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert f"error: {said}\n" in _plan(capsys, "--output", str(output), "--use-gpu", *words, code=2)


def test_a_study_that_would_not_start_on_this_machine_is_said_not_to(
    output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("tuning.study.study_room", "curriculum_ray.distributed.capacity"):
        monkeypatch.setattr(f"{module}.available_cpus", lambda: 2)
    words = ["--output", str(output), "--num-workers", "4"]
    text = _plan(capsys, *words)
    assert (
        "room: 1 slot of 4 workers; there is room for 2; search would not start here: 4 CPUs are needed (4 workers x "
        "1), but there are 2: lower --num-workers\n"
    ) in text
    assert "there is room for 2\n" in _plan(capsys, "--output", str(output))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert "there is room for 2\n" in _plan(capsys, *words)
