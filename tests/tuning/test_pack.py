"""A study whose trials are packed finds what it would without, and survives its driver's death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from curriculum_ray.training.checkpoint import find_checkpoints
from tests.door import start_tune
from tuning.study.config import StudyConfig

TINY = [
    *("search", "--trials", "3", "--images", "3200", "--num-samples", "64", "--confirm-seeds", "2"),
    *("--space", str(Path(__file__).with_name("small_space.yaml"))),
    *("--name", "study", "--concurrent"),
]
SETTINGS = ["run.log_every_images=640", "run.checkpoint.every_images=640", "run.model.base_channels=16"]


def test_packing_changes_nothing_of_what_a_study_is() -> None:
    assert StudyConfig(pack=4).decisive() == StudyConfig().decisive()


def _start(folder: Path, *options: str) -> subprocess.Popen[str]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    return start_tune(folder, *TINY, *options, *settings)


def _end(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    return out


def _records(folder: Path) -> dict[str, dict[str, Any]]:
    paths = (folder / "runs" / "study" / "trials").glob("*/record.json")
    records = [json.loads(path.read_text()) for path in paths]
    return {record["key"]: record for record in records}


def _curves(folder: Path) -> dict[str, list[tuple[int, int]]]:
    """Images and stages of the log lines of each trial."""
    paths = (folder / "runs" / "study" / "trials").glob("*/metrics.jsonl")
    return {
        path.parent.name: [
            (line["images"], line["stage"]) for line in map(json.loads, path.read_text().splitlines())
        ]
        for path in paths
    }


@pytest.mark.slow
def test_a_packed_study_finds_what_an_unpacked_one_does_through_the_death_of_its_driver(
    tmp_path: Path,
) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    for folder in (plain, packed):
        folder.mkdir()
    _end(_start(plain, "2"))
    first = _start(packed, "4", "--pack", "4")
    slot = packed / "runs" / "study" / "slots" / "slot-0"
    end = time.monotonic() + 120
    while not find_checkpoints(slot, "search-002"):
        assert time.monotonic() < end, first.communicate()[0] if first.poll() is not None else "no checkpoint"
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    _end(_start(packed, "4", "--pack", "4"))
    wanted, got = _records(plain), _records(packed)
    assert set(got) == set(wanted)
    assert "control-uniform" in wanted
    for key, record in wanted.items():
        assert got[key]["schedule"] == record["schedule"]
        assert got[key]["stage_starts"] == record["stage_starts"]
        assert got[key]["metrics"]["fid"] == pytest.approx(record["metrics"]["fid"], rel=0.02), key
    curves = _curves(plain)
    assert set(curves) == set(wanted)
    assert all(curves.values())
    assert _curves(packed) == curves
