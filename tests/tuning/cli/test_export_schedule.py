"""`python -m tune export-schedule`: its files, and bad input refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.export.trainers import TARGETS
from curriculum_ray.runs.result import RunResult
from tuning.cli import main
from tuning.cli.export_schedule import export_schedule

FIXED = {
    "version": 1,
    "clusters": {"by": "uniform", "count": 4},
    "order": {"direction": "easy_to_hard"},
    "pacing": {"rule": "fixed", "finish_by": 0.75},
}
PLATEAU = {**FIXED, "pacing": {"rule": "plateau", "patience": 5}}
LENGTHS = ("--images", "6400", "--batch-size", "64")


@pytest.fixture
def schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A schedule by images in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = Path("schedule.yaml")
    CurriculumSchedule.from_dict(FIXED).to_file(path)
    return path


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of a finished run of a plateau schedule."""
    folder = tmp_path / "run"
    folder.mkdir()
    CurriculumSchedule.from_dict(PLATEAU).to_file(folder / "schedule.yaml")
    starts = ((0, 0), (640, 1), (1920, 2), (3200, 3))
    result = RunResult(
        images=6400, seconds=1.0, checkpoint="last", resumed_at=0, loss=0.5, stage_starts=starts
    )
    (folder / "result.json").write_text(json.dumps(result.to_json()))
    return folder


def run(*arguments: str) -> int:
    """The exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["export-schedule", *arguments])
    return int(ended.value.code or 0)


def test_every_trainer_can_be_named() -> None:
    (choice,) = [param for param in export_schedule.params if param.name == "target"]
    assert list(choice.type.choices) == list(TARGETS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("target", list(TARGETS))
def test_each_file_says_where_it_came_from_and_is_written_over_only_if_it_is_ours(
    schedule: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(schedule), "--to", target, *LENGTHS, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    schedule_id = CurriculumSchedule.from_file(schedule).schedule_id
    assert answer["schedule"] == schedule_id
    assert [(stage["start"], stage["end"]) for stage in answer["stages"]] == [
        (0, 25),
        (25, 50),
        (50, 75),
        (75, 100),
    ]
    files = [Path(name) for name in answer["files"]]
    assert len(files) == (1 if target in ("diffusers", "torchtitan") else 4)
    for path in files:
        assert schedule_id in path.name
        assert f"# curriculum-ray schedule {schedule_id} of schedule.yaml" in path.read_text()
    before = files[-1].read_text()
    files[-1].write_text("mine")
    assert run(str(schedule), "--to", target, *LENGTHS) == 2
    assert files[-1].read_text() == "mine"
    assert run(str(schedule), "--to", target, *LENGTHS, "--force") == 0
    assert files[-1].read_text() == before
    assert files[-1].with_name(f"{files[-1].name}.kept-1").read_text() == "mine"


def test_into_names_a_file_or_a_folder(schedule: Path) -> None:
    assert run(str(schedule), "--to", "torchtitan", *LENGTHS, "--into", "sub/levels.py") == 0
    assert Path("sub/levels.py").is_file()
    assert run(str(schedule), "--to", "diffusers", "--levels", "flow", *LENGTHS, "--into", "times.py") == 0
    assert "class CurriculumTimes:" in Path("times.py").read_text()
    assert run(str(schedule), "--to", "ai-toolkit", *LENGTHS, "--into", "plan") == 0
    assert len(list(Path("plan").glob("*.yaml"))) == 4


@pytest.mark.parametrize("target", list(TARGETS))
def test_no_file_says_where_the_schedule_lay(schedule: Path, target: str, tmp_path: Path) -> None:
    assert run(str(schedule.absolute()), "--to", target, *LENGTHS, "--into", "out.py") == 0
    files = [Path("out.py")] if Path("out.py").is_file() else list(Path("out.py").iterdir())
    for path in files:
        assert str(tmp_path) not in path.read_text()


def test_a_run_lends_its_stages_and_images_to_a_plateau(
    schedule: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("plateau.yaml").write_text(yaml.safe_dump(PLATEAU))
    arguments = ["plateau.yaml", "--to", "diffusers", "--batch-size", "64"]
    assert run(*arguments, "--images", "6400") == 2
    assert "pacing.rule must go by images" in capsys.readouterr().err
    assert run(*arguments, "--run", str(finished), "--json") == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert [(stage["start"], stage["end"]) for stage in stages] == [(0, 10), (10, 30), (30, 50), (50, 100)]
    assert run(str(schedule), *arguments[1:], "--run", str(finished)) == 2
    assert "but it trained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "kohya", "--batch-size", "64"], "--images is required without --run"),
        (["--to", "torchtitan", *LENGTHS, "--levels", "timesteps"], "--levels must be flow for torchtitan"),
        (["--to", "kohya", *LENGTHS, "--num-timesteps", "500"], "--num-timesteps does not apply to kohya"),
        (["--to", "diffusers", *LENGTHS, "--levels", "flow", "--betas", "linear"], "--betas does not apply"),
        (
            ["--to", "diffusers", *LENGTHS, "--betas", "linear"],
            "--betas does not apply to a schedule that reads no",
        ),
        (["--to", "diffusers", *LENGTHS, "--into", "levels.txt"], "--into must end in .py"),
        (["--to", "diffusers", *LENGTHS, "--run", "nowhere"], "--run nowhere has no result.json"),
        (["--to", "diffusers", "--images", "128", "--batch-size", "64"], "4 stages need 3 steps"),
        (["--to", "diffusers", *LENGTHS, "--num-timesteps", "100001"], "not in the range 2<=x<=100000"),
        (["--to", "sora", *LENGTHS], "'sora' is not one of"),
        (["--to", "kohya", *LENGTHS, "--into", "schedule.yaml"], "schedule.yaml"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    schedule: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(schedule), *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert {path.name for path in Path().iterdir()} == {"schedule.yaml"}
