"""Files in runs' folders that are damaged: a report goes without them, and says so."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.report.test_build import STUDY, write_run
from tests.tuning.studies import UNIFORM, record, schedule
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord, load_records
from tuning.figures.levels import plot_sampled
from tuning.figures.run_files import read_run
from tuning.report import build_report

DAMAGED = [
    "{}",
    '{"images": [0, 1], "u": [0, 1], "counts": []}',
    '{"images": [], "u": [], "counts": []}',
    "[]",
]


def test_a_report_of_runs_whose_files_are_damaged_has_their_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = [write_run(tmp_path / "uniform", record(9.9, **UNIFORM))]
    for place, text in enumerate(DAMAGED):
        key = TrialKey.search(place)
        made = write_run(tmp_path / key, record(8.0 + place, key=key, schedule=schedule(4 + place)))
        (made.ran_in / "sampled_timesteps.json").write_text(text)
        records.append(made)
    for name, text in (("metrics.jsonl", '{"images": 5}\nnull\n'), ("config.yaml", "process: [")):
        (records[1].ran_in / name).write_text(text)
    (records[1].ran_in / "samples.png").unlink()
    (records[1].ran_in / "samples.png").mkdir()
    report = build_report(records, STUDY, tmp_path).read_text(encoding="utf-8")
    assert all(f">{8 + place}.00<" in report for place in range(len(DAMAGED)))
    said = "\n".join(caplog.messages)
    for each in records[1:]:
        assert f"what was sampled is left out: {each.ran_in / 'sampled_timesteps.json'}" in said
    assert f"1 line of {records[1].ran_in / 'metrics.jsonl'} cannot be read: left out" in said
    assert f"the settings of a run are left out: {records[1].ran_in / 'config.yaml'}" in said
    assert f"{records[1].ran_in / 'samples.png'} is left out: it is not a regular file" in said


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_histogram_is_not_plotted(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    plot_sampled(tmp_path / "s.json", tmp_path / "s.png")
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]


HELDOUT: dict[str, Any] = {
    "fingerprint": "abc",
    "u": [0.25, 0.75],
    "items": 5,
    "held_out": 20,
    "history": [[64, [0.5, 0.25]]],
}


@pytest.mark.parametrize(
    "change",
    [
        {"heldout": {**HELDOUT, "u": []}},
        {"heldout": {**HELDOUT, "u": [0.5]}},
        {"heldout": {**HELDOUT, "history": [[64, [0.5]]]}},
        {"heldout": {**HELDOUT, "history": [[64, [0.5, math.nan]]]}},
        {"heldout": {**HELDOUT, "history": [[64, []]]}},
        {"history": [[0, {"fid": 3.0}]]},
        {"history": [5]},
        {"stage_starts": [[0, -1]]},
        {"packed": 0},
    ],
)
def test_a_record_that_no_run_could_have_written_counts_as_damaged(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    folder = tmp_path / "trials" / "search-000"
    folder.mkdir(parents=True)
    whole = {**record(8.0).to_json(), "heldout": HELDOUT}
    (folder / "record.json").write_text(json.dumps(whole))
    assert list(load_records(tmp_path)) == ["search-000"]
    (folder / "record.json").write_text(json.dumps({**whole, **change}))
    assert load_records(tmp_path) == {}


def _previewed(history: list[Any], **changes: Any) -> TrialRecord:
    return TrialRecord.from_json({**record(8.0, **changes).to_json(), "history": history}, "test")


@pytest.mark.parametrize("seen", [{}, {"fid": math.nan}, {"kid": 1.0}])
def test_previews_without_a_finite_metric_draw_nothing(tmp_path: Path, seen: dict[str, float]) -> None:
    twice = {"role": "confirmation", "seed": 1000}
    records = [
        _previewed([[64, seen]], key=TrialKey.search(0).confirmation(1000), **twice),
        _previewed([[64, seen]], **{**UNIFORM, **twice, "key": TrialKey.uniform().confirmation(1000)}),
    ]
    text = build_report(records, STUDY, tmp_path).read_text(encoding="utf-8")
    assert "FID over images seen" not in text


def test_a_whole_run_has_all_its_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = write_run(tmp_path / "run", record(8.0))
    log = made.ran_in / "metrics.jsonl"
    log.write_text(log.read_text().rpartition("\n")[0] + "\n")
    run = read_run(made)
    assert run.sampled is not None
    assert run.sampled.densities == [[0.0, 2.0], [0.0, 0.0]]
    assert run.active is not None
    assert (len(run.log), run.samples is None) == (11, False)
    assert caplog.messages == []
