"""A search goes on from a bundle, in another folder, as it would have where it was packed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuning.bundle.test_proof import tune
from tests.tuning.test_main_job import TINY
from tuning.evidence.records import load_records


@pytest.mark.slow
def test_a_search_goes_on_from_a_bundle(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    tune(here, "search", *TINY, "--name", "first")
    tune(here, "bundle", "first", "--into", "../first.zip")
    told = tune(there, "unbundle", "../first.zip")
    assert (told["written"], told["trials"], told["differs"], told["notes"]) == ("runs/first", 9, [], [])
    assert told["search"].endswith("--set trials=2 --set confirm_seeds=2 --name first --output runs")
    tune(here, "search", *TINY, "--trials", "4", "--name", "first")
    again = ["--config", "runs/first/study.json", "--confirm-seeds", "2", "--name", "first"]
    tune(there, "search", *again, "--trials", "4")

    went, goes = load_records(here / "runs" / "first"), load_records(there / "runs" / "first")
    assert went.keys() == goes.keys()
    assert len(went) > told["trials"]
    for key, record in went.items():
        assert (goes[key].schedule, goes[key].settings) == (record.schedule, record.settings), key
        assert goes[key].metrics == record.metrics, key
    asked = [tune(folder, "best", "--study", "first") for folder in (here, there)]
    assert asked[0]["metrics"] == asked[1]["metrics"]
    assert asked[0]["verdict"] == asked[1]["verdict"]
