"""The rehearsal passes: what a lab runs, disturbed on the way, comes to the answer of an undisturbed study."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_table_says_when_what_happened_and_what_it_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    table = importlib.import_module("rehearsal.table").table
    lost = {"at": 61.2, "what": "node one killed", "trial": "search-000", "lost": 320, "seconds": 13.31}
    away = {
        "at": 90.0,
        "what": "S3 server stopped for 20 s",
        "trial": "search-002",
        "lost": 0,
        "meanwhile": 480,
    }
    ended = {"at": 200.0, "what": "the study ended", "trial": ""}
    facts = {
        "search": {"events": [lost, away, ended], "found": {"answer": "it beats"}},
        "undisturbed": {"answer": "it beats", "trials": 13, "weights": 13, "seconds": 80.0},
    }
    lines = table(facts).splitlines()
    for word in ("61 s", "node one killed", "search-000", "320", "13.3 until it trained again"):
        assert word in lines[1]
    assert "480 images trained meanwhile" in lines[2]
    assert lines[-2:] == ["answer       it beats", "undisturbed  it beats"]


def test_the_table_has_words_for_every_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    table = importlib.import_module("rehearsal.table").table
    stages = importlib.import_module("rehearsal.stages").STAGES
    numbers = dict.fromkeys(("seconds", "images", "count", "trials", "weights"), 1)
    words = {"answer": "undecided", "samples": [2, 3], "events": [{"at": 1.0, "what": "ended", "trial": ""}]}
    found = {"found": {"verdict": "undecided", "answer": "undecided"}}
    assert len(table(dict.fromkeys(stages, numbers | words | found)).splitlines()) == len(stages) + 4


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_rehearsal_passes(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "benchmarks" / "rehearse.py"), "--folder", str(tmp_path / "lab")]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ok"]
    assert found["whole"]
    search = found["stages"]["search"]
    assert len([event for event in search["events"] if event["trial"]]) == 4
    assert found["stages"]["undisturbed"]["answer"] == search["found"]["answer"]
