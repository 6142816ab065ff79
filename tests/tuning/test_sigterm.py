"""A search that receives SIGTERM leaves checkpoints, and the same command resumes from them."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from curriculum_ray.config import load_yaml
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training import checkpoint as checkpoints
from tests.distributed.nodes import ROOT, Command, log, result, state, undisturbed
from tests.tuning.test_kill import TINY

# No checkpoint is due before the end, so that only the warning can have led to one.
BUDGET = 48_000
OPTIONS = [*TINY, "--images", str(BUDGET), "--set", f"run.checkpoint.every_images={BUDGET}"]


def _search(folder: Path, *options: str) -> Command:
    dropped = {"RAY_ADDRESS", "MLFLOW_TRACKING_URI"}
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    return Command(
        ["-m", "tune", "search", *OPTIONS, *options],
        folder,
        {**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_search_ends_on_sigterm_with_checkpoints_and_the_same_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "runs" / "killed"
    command = _search(tmp_path)
    deadline = time.monotonic() + 200
    while not (running := [log(path.parent) for path in study.glob("trials/*/metrics.jsonl")]) or not all(
        running
    ):
        assert command.process.poll() is None, command.lines[-9:]
        assert time.monotonic() < deadline, command.lines
        time.sleep(0.01)
    told = time.monotonic()
    command.process.send_signal(signal.SIGTERM)
    assert command.end(100) == 143, command.lines
    seconds = time.monotonic() - told
    assert command.lines[-1] == "error: ended by SIGTERM; the same command resumes", command.lines
    kept = {
        path.name.removeprefix("checkpoint-").rpartition("-")[0]: path
        for path in study.glob("slots/slot-*/checkpoint-*")
    }
    logs = {path.parent.name: log(path.parent) for path in study.glob("trials/*/metrics.jsonl")}
    cut = {key: lines[-1]["images"] for key, lines in logs.items() if lines[-1]["images"] < BUDGET}
    assert cut, "every trial had ended before it was told to"
    lost = {key: images - int(checkpoints.read(kept[key]).state["images"]) for key, images in cut.items()}
    assert all(missing <= 0 for missing in lost.values()), lost
    again = _search(tmp_path, "--json")
    assert again.end(500) == 0, again.lines
    text = "\n".join(again.lines)
    found: dict[str, Any] = json.loads(text[text.index("{") :])
    assert found["problems"] == []
    assert {trial["status"] for trial in found["trials"]} == {"finished"}
    for key in cut:
        folder = study / "trials" / key
        assert result(folder)["resumed_at"] >= cut[key]
        config = RunConfig.model_validate(load_yaml(folder / "config.yaml"))
        assert state(folder) == undisturbed(config)
    with capsys.disabled():
        print(f"\n  search told by SIGTERM: images lost 0, ended with checkpoints after {seconds:.1f} s")
