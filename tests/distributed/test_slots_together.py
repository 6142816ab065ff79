"""Slots that are workers of one Ray Train run share nothing but that: one that dies is replaced, the other goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.distributed.board import create_board
from curriculum_ray.distributed.fit import fit
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.distributed.slots import Slots
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Failed, Finished, Started
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training import checkpoint as checkpoints
from tests.distributed.jobs import SMALL, as_job, training_processes, wait, weights

SETTINGS: dict[str, Any] = {**SMALL, "images": 16 * 300}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module")
def board(ray_of_two: None, place: Path) -> Iterator[Any]:
    """A board served by two slots of one worker each, which may keep 100 MiB."""
    board = create_board()
    resources = ResourceSpec(cpus_per_worker=0.5, leak_gib=0.1)
    slots = Slots(board, [place / "slot-0", place / "slot-1"], resources)
    yield board
    slots.close()


def _submit(board: Any, place: Path, configs: dict[str, RunConfig]) -> None:
    import ray

    for key, config in configs.items():
        ray.get(board.submit.remote(as_job(place, key, config)))


def _ends(board: Any, keys: list[str]) -> tuple[list[RunResult], list[int]]:
    """The results of these jobs, and how often each was started."""
    results, starts = [], []
    for key in keys:
        seen = wait(board, key, Finished, Failed)
        assert isinstance(seen[-1], Finished), seen[-1]
        results.append(seen[-1].result)
        starts.append(sum(isinstance(event, Started) for event in seen))
    return results, starts


@pytest.mark.slow
def test_a_killed_worker_costs_its_own_run_what_followed_its_checkpoint_and_the_other_nothing(
    board: Any, place: Path
) -> None:
    configs = {f"run{seed}": RunConfig.model_validate({**SETTINGS, "seed": seed}) for seed in range(2)}
    _submit(board, place, configs)
    found: set[str] = set()
    while found != set(configs):
        found = {
            key for key in configs for slot in place.iterdir() if checkpoints.find_checkpoints(slot, key)
        }
        time.sleep(0.01)
    before = training_processes()
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    ends, starts = _ends(board, list(configs))
    assert sorted(starts) == [1, 2]
    for end, started in zip(ends, starts, strict=True):
        assert (end.resumed_at > 0) is (started == 2)
    assert before[1] in training_processes()
    _submit(board, place, {f"{key}-again": config for key, config in configs.items()})
    undisturbed, _ = _ends(board, [f"{key}-again" for key in configs])
    in_process = fit(configs["run0"], place / "in-process", ResourceSpec())
    for end, wanted in (*zip(ends, undisturbed, strict=True), (in_process, undisturbed[0])):
        assert end.stage_starts == wanted.stage_starts
        assert len(end.stage_starts) == 3
        theirs, ours = weights(wanted), weights(end)
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.slow
def test_a_worker_in_which_runs_leave_memory_is_replaced_and_serves_on(board: Any, place: Path) -> None:
    network = {"kind": "python", "path": "witness.Witness"}
    for key, leaks in (("first", 0), ("second", 400), ("third", 400), ("fourth", 0), ("fifth", 0)):
        model = {**network, "config": {"folder": str(place / f"{key}-processes"), "leaks": leaks}}
        config = RunConfig.model_validate({**SETTINGS, "images": 16 * 40, "model": model})
        _submit(board, place, {key: config})
        assert isinstance(wait(board, key, Finished, Failed)[-1], Finished)
    lived = {path.name for path in place.glob("*-processes/*")}
    assert len(lived) > 2
