"""`tune best` shows fresh seeds first, writes what the study stands for, and names the way to the curriculum."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from curriculum_ray.curriculum import CurriculumSchedule
from tests.tuning.studies import UNIFORM, fresh, named_runs, record, trials
from tuning.cli import cli
from tuning.cli.best import best

SEARCHED = (*trials(7.0), record(8.0, **UNIFORM))
UNIFORM_FRESH = fresh([10.0, 11.0, 10.5], 1)
LOST = (*SEARCHED, *fresh([10.2, 10.9, 10.6], 7), *UNIFORM_FRESH)
WON = (*SEARCHED, *fresh([8.0, 9.01, 8.5], 7), *UNIFORM_FRESH)


@pytest.fixture
def ask(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run `tune best` in the folder of the test."""
    monkeypatch.chdir(tmp_path)

    def ask(*words: str) -> str:
        done = CliRunner().invoke(best, ["--output", str(output), *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return ask


def _rows(text: str) -> dict[str, str]:
    return {line[:9].strip(): line[10:] for line in text.partition("\n\n")[0].splitlines()}


def test_a_lost_study_gives_uniform_sampling_and_the_way_to_its_best_curriculum(
    write: Callable[..., None], ask: Callable[..., str]
) -> None:
    write(*LOST)
    lines = ask().splitlines()
    assert lines[0] == "FID       10.57 ± 0.35 over 3 fresh seeds, 7 clusters"
    assert lines[1] == "          10.50 ± 0.50 over 3 fresh seeds, uniform sampling"
    assert lines[2].startswith("answer    undecided: no schedule beat uniform sampling beyond noise")
    assert lines[3] == "chosen    uniform sampling: no curriculum beat it on fresh seeds"
    assert CurriculumSchedule.from_file("schedule.yaml").clusters.count == 1
    words = shlex.split(_rows("\n".join(lines))["instead"].partition("  (")[0])
    ask(*words[words.index("best") + 1 :])
    assert CurriculumSchedule.from_file("curriculum.yaml").clusters.count == 7
    assert "asked for, though it did not beat" in Path("curriculum.yaml").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("records", "chosen"),
    [
        (WON, "7 clusters: it beat uniform sampling on fresh seeds"),
        (SEARCHED, "7 clusters: unconfirmed, as it was not compared with uniform sampling on three or more "),
    ],
)
def test_a_curriculum_that_won_or_is_unconfirmed_is_written_and_called_so(
    write: Callable[..., None], ask: Callable[..., str], records: tuple[object, ...], chosen: str
) -> None:
    write(*records)
    rows = _rows(ask())
    assert rows["chosen"].startswith(chosen)
    assert "instead" not in rows
    assert CurriculumSchedule.from_file("schedule.yaml").clusters.count == 7


def test_json_has_the_same_fields_whatever_was_found(
    write: Callable[..., None], ask: Callable[..., str]
) -> None:
    write(*LOST, study="lost")
    write(*WON, study="won")
    write(*SEARCHED, study="unconfirmed")
    found = {name: json.loads(ask("--study", name, "--json")) for name in ("lost", "won", "unconfirmed")}
    assert len({frozenset(each) for each in found.values()}) == 1
    verdicts = {name: each["verdict"] for name, each in found.items()}
    assert verdicts == {"lost": "undecided", "won": "beats", "unconfirmed": "unconfirmed"}
    assert found["lost"]["uniform"]["mean"] == 10.5


@pytest.mark.parametrize("name", ["schedule.json", "schedule.md", "schedule.png", "schedule"])
def test_a_schedule_is_written_to_no_file_that_is_not_yaml_by_its_name(
    write: Callable[..., None], output: Path, tmp_path: Path, name: str
) -> None:
    write(*WON)
    words = ["best", "--output", str(output), "--write", str(tmp_path / name)]
    done = CliRunner().invoke(cli, words)
    assert str(done.exception) == f"--write must end in .yaml or .yml, but got {tmp_path / name}"
    assert not (tmp_path / name).exists()
    for kept in ("schedule.yaml", "schedule.yml"):
        words[-1] = str(tmp_path / kept)
        assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
        assert CurriculumSchedule.from_file(tmp_path / kept).clusters.count == 7


def test_an_arm_that_is_not_its_schedule_alone_is_said_to_be_more(
    write: Callable[..., None], ask: Callable[..., str]
) -> None:
    weighting = {"weighting": {"kind": "min_snr"}}
    uniform = named_runs("uniform", [10.0, 11.0, 10.5])
    won, lost = (
        named_runs("min_snr", fids, curriculum=False) for fids in ([7.0, 7.71, 7.36], [10.2, 10.8, 10.7])
    )
    write(*uniform, *won, study="won", settings={"min_snr": weighting})
    rows = _rows(ask("--study", "won", "--write", "min_snr.yaml"))
    assert rows["besides"] == "its run also sets weighting.kind min_snr, which min_snr.yaml does not hold"
    assert "weighting.kind min_snr" in Path("min_snr.yaml").read_text().splitlines()[2]
    write(*uniform, *lost, study="lost", settings={"min_snr": weighting})
    rows = _rows(ask("--study", "lost", "--write", "uniform.yaml"))
    assert rows["chosen"] == "uniform sampling: no arm beat it on fresh seeds"
    assert not {"besides", "instead"} & rows.keys()
