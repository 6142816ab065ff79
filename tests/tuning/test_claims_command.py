"""The command that tests claims, as a person meets it: a kill in the middle, the same command again, and the table."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import yaml

from tests.door import start_tune
from tests.tuning.claims.test_claim import GOOD

SMALL = {
    "run": {
        "data": {"name": "digits"},
        "images": 3200,
        "log_every_images": 640,
        "checkpoint": {"every_images": 640},
        "model": {"kind": "unet", "base_channels": 8},
        "evaluation": {"num_samples": 64},
    },
    "seeds": [3, 4],
}


@pytest.mark.slow
def test_a_killed_test_of_a_claim_goes_on_and_writes_its_table(tmp_path: Path) -> None:
    folder = tmp_path / "claims"
    folder.mkdir()
    (folder / "good.yaml").write_text(yaml.safe_dump({**GOOD, **SMALL}, sort_keys=False))
    (folder / "other.yaml").write_text(yaml.safe_dump(GOOD, sort_keys=False))
    arguments = ("claims", "good", "--from", str(folder))
    first = start_tune(tmp_path, *arguments)
    assert first.stdout is not None
    for line in first.stdout:
        if "(2/" in line:
            break
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    study = tmp_path / "runs" / "claim-good"
    before = {path: path.stat().st_mtime_ns for path in study.glob("trials/*/record.json")}
    assert before
    second = start_tune(tmp_path, *arguments)
    out, _ = second.communicate(timeout=400)
    assert second.returncode == 0, out
    records = sorted(study.glob("trials/*/record.json"))
    assert len(records) in (9, 12), "three arms on three or four seeds"
    assert all(path.stat().st_mtime_ns == when for path, when in before.items()), "nothing runs twice"
    table = json.loads((tmp_path / "runs" / "claims.json").read_text())
    results = {entry["name"]: entry["result"] for entry in table["claims"]}
    assert results["other"] is None
    assert results["good"]["seeds"] == len(records) // 3
    assert results["good"]["setting"]["images"] == 3200
    assert "| not run |" in (tmp_path / "runs" / "claims.md").read_text()
    third = start_tune(tmp_path, *arguments, "--json")
    out, _ = third.communicate(timeout=200)
    assert third.returncode == 0, out
    assert len(sorted(study.glob("trials/*/record.json"))) == len(records)
