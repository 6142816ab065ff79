"""The rehearsal passes: what a lab runs, disturbed on the way, comes to the answer of an undisturbed study."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(3600)
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
