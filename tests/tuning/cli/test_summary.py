"""The end of a study names what is undecided, and shows the comparisons of named arms with each other."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.tuning.studies import UNIFORM, fresh, named_runs, record, trials
from tuning.cli.summary import as_object, show
from tuning.evidence.records import TrialRecord
from tuning.search.launch import Outcome
from tuning.study.config import StudyConfig

ARMS: dict[str, Any] = {
    "min_snr": {"weighting.kind": "min_snr"},
    "clean": {"schedule.base": {"kind": "beta", "alpha": 0.5}},
    "p2": {"weighting.kind": "p2"},
}
FIDS = {
    "min_snr": [7.0, 7.71, 7.36, 7.0],
    "clean": [12.0, 13.3, 12.5, 12.1],
    "p2": [6.9, 7.9, 7.2, 7.1],
    "uniform": [10.0, 11.0, 10.5, 10.1],
}


def _outcome(folder: Path, *records: TrialRecord) -> Outcome:
    return Outcome(
        name="a",
        folder=folder,
        records=list(records),
        experiment="digits/ddpm",
        report=folder / "report.html",
        ui_command="mlflow ui",
        problems=[],
    )


def _shown(config: StudyConfig, outcome: Outcome) -> list[str]:
    text = io.StringIO()
    show(config, outcome, Console(file=text, width=120))
    return text.getvalue().splitlines()


def _named(folder: Path) -> Outcome:
    runs = (each for name, fids in FIDS.items() for each in named_runs(name, fids, curriculum=False))
    return _outcome(folder, *runs)


def test_named_arms_are_shown_in_turn_and_the_open_comparison_is_named(tmp_path: Path) -> None:
    config = StudyConfig(arms=ARMS, confirm_seeds=(3, 4))
    lines = _shown(config, _named(tmp_path))
    place = lines.index("min_snr against the other arms in turn, as long as it wins:")
    assert lines[place + 1].startswith("  clean: beats: +41.")
    assert lines[place + 2].startswith("  p2: undecided: +0.1% [-4.1, 4.0]")
    assert (
        "undecided      min_snr against p2: the same command with --confirm-seeds 3-8 adds seeds, which needs no "
        "correction" in lines
    )
    found = as_object(config, _named(tmp_path))["in_turn"]
    assert [(turn["against"], turn["asked"], turn["compared"]["word"]) for turn in found] == [
        ("clean", True, "beats"),
        ("p2", True, "undecided"),
    ]


def test_more_open_comparisons_than_a_line_holds_are_counted(tmp_path: Path) -> None:
    names = [f"a{place}" for place in range(5)]
    config = StudyConfig(arms={name: {"optimizer.learning_rate": 1e-3} for name in names}, confirm_seeds=3)
    noisy = [9.0, 12.0, 10.0]
    runs = [named_runs(name, [fid + place / 9 for fid in noisy], False) for place, name in enumerate(names)]
    outcome = _outcome(
        tmp_path, *(each for arm in runs for each in arm), *named_runs("uniform", [10.1, 10.8, 10.6])
    )
    (line,) = (line for line in _shown(config, outcome) if line.startswith("undecided  "))
    assert line.startswith(
        "undecided      a0 against uniform sampling, a1 against uniform sampling, a2 against uniform sampling and 2 "
        "more: the same command with --confirm-seeds 3-6 "
    )


def test_a_search_names_its_open_comparison_and_has_none_in_turn(tmp_path: Path) -> None:
    searched = (*trials(7.0), record(8.0, **UNIFORM))
    outcome = _outcome(tmp_path, *searched, *fresh([10.2, 10.9, 10.6], 7), *fresh([10.0, 11.0, 10.5], 1))
    lines = _shown(StudyConfig(), outcome)
    (line,) = (line for line in lines if line.startswith("undecided  "))
    name = outcome.records[0].arm
    assert line.startswith(
        f"undecided      {name} against uniform sampling: the same command with --confirm-seeds 3-20"
    )
    assert not any("in turn" in line for line in lines)
    assert as_object(StudyConfig(), outcome)["in_turn"] == []
