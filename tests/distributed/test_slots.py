"""Slots train through a real TorchTrainer: two ranks as one worker would, through deaths, failures and stops."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.data import load_data
from curriculum_ray.distributed.board import create_board
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.distributed.slots import Slots
from curriculum_ray.evaluation import prepare
from curriculum_ray.evaluation.trained import load_trained
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Failed, Finished, Progress, Started, Stopped
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.loop import train
from curriculum_ray.training.trainer import Trainer
from tests.distributed.jobs import SMALL, as_job, training_processes, wait, weights

SETTINGS: dict[str, Any] = {**SMALL, "images": 16 * 40, "window": 2}


def _config(**changes: Any) -> RunConfig:
    return RunConfig.model_validate({**SETTINGS, **changes})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slots")


@pytest.fixture(scope="module")
def board(ray_of_two: None, place: Path) -> Iterator[Any]:
    """A board served by one slot of two workers."""
    board = create_board()
    slots = Slots(board, [place / "slot-0"], ResourceSpec(num_workers=2, cpus_per_worker=0.5))
    yield board
    slots.close()


def _submit(board: Any, place: Path, key: str, config: RunConfig) -> None:
    import ray

    ray.get(board.submit.remote(as_job(place, key, config)))


def _finish(board: Any, place: Path, key: str, config: RunConfig) -> RunResult:
    _submit(board, place, key, config)
    last = wait(board, key, Finished, Failed)[-1]
    assert isinstance(last, Finished), last
    return last.result


def _curve(place: Path, key: str) -> list[tuple[int, float, int]]:
    lines = [json.loads(line) for line in (place / key / "metrics.jsonl").read_text().splitlines()]
    return [(line["images"], line["loss"], line["stage"]) for line in lines]


def test_two_ranks_draw_and_switch_stage_as_a_single_worker_does(board: Any, place: Path) -> None:
    config = _config()
    result = _finish(board, place, "pair", config)
    single = Trainer(config.train, load_data(config.data))
    train(single)
    sampled = json.loads((place / "pair" / "sampled_timesteps.json").read_text())
    assert sampled["counts"] == single.histogram.as_json()["counts"]
    assert [list(start) for start in result.stage_starts] == single.stage_starts
    assert len(single.stage_starts) == 3, "the test needs a run that changes stage"


def test_a_run_does_not_depend_on_what_its_slot_ran_before(board: Any, place: Path) -> None:
    first = weights(_finish(board, place, "first", _config()))
    _finish(board, place, "other", _config(seed=5, model={"base_channels": 12}))
    second = weights(_finish(board, place, "second", _config()))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert _curve(place, "first") == _curve(place, "second")


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_all_ranks_draw_and_the_numbers_are_those_of_one(board: Any, place: Path, parallel: str) -> None:
    config = _config(
        parallel=parallel,
        evaluation={"num_samples": 170, "steps": 2},
        preview={"every_images": 16 * 20, "num_samples": 64},
        checkpoint={"every_images": 16 * 20, "best": True},
    )
    result = _finish(board, place, f"scored-{parallel}", config)
    assert [images for images, _ in result.history] == [16 * 20, 16 * 40]
    assert list((place / f"scored-{parallel}" / "best").iterdir())
    assert (place / f"scored-{parallel}" / "samples.png").exists()
    trained = load_trained(Path(result.checkpoint))
    assert config.evaluation is not None
    evaluator = prepare(config.evaluation, load_data(config.data), trained.process)
    assert result.fingerprint == evaluator.fingerprint
    alone, _ = evaluator.evaluate(trained.process, trained.model, trained.conditioning)
    assert result.metrics == pytest.approx(alone, rel=1e-6)


@pytest.mark.slow
def test_a_killed_worker_resumes_and_the_run_equals_the_uninterrupted_one_to_the_bit(
    board: Any, place: Path
) -> None:
    config = _config(images=16 * 400)
    whole = _finish(board, place, "whole", config)
    _submit(board, place, "killed", config)
    while not checkpoints.find_checkpoints(place / "slot-0", "killed"):
        wait(board, "killed", Progress)
        time.sleep(0.01)
    os.kill(training_processes()[0], signal.SIGKILL)
    last = wait(board, "killed", Finished, Failed)[-1]
    assert isinstance(last, Finished), last
    assert last.result.resumed_at > 0
    assert _curve(place, "killed") == _curve(place, "whole")
    assert last.result.stage_starts == whole.stage_starts
    theirs, ours = weights(whole), weights(last.result)
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    counts = [json.loads((place / key / "sampled_timesteps.json").read_text()) for key in ("whole", "killed")]
    assert counts[0] == counts[1]


def test_a_run_that_cannot_go_on_is_marked_with_the_reason_and_the_slot_serves_the_next(
    board: Any, place: Path
) -> None:
    _submit(board, place, "hopeless", _config(data={"name": str(place / "nowhere")}))
    last = wait(board, "hopeless", Finished, Failed)[-1]
    assert isinstance(last, Failed)
    assert "nowhere" in last.reason
    assert "Traceback" in (place / "hopeless" / "error.txt").read_text()
    _finish(board, place, "after", _config())


@pytest.mark.slow
def test_a_run_that_finds_no_memory_fails_with_the_reason_and_the_slot_serves_the_next(
    board: Any, place: Path
) -> None:
    network = {"folder": str(place / "hungry-processes"), "hungry": True}
    model = {"kind": "python", "path": "witness.Witness", "config": network}
    _submit(board, place, "hungry", _config(model=model))
    events = wait(board, "hungry", Finished, Failed, seconds=240.0)
    assert isinstance(events[-1], Failed)
    assert "alloc" in events[-1].reason
    _finish(board, place, "fed", _config())


def test_a_stopped_run_keeps_a_checkpoint_from_which_it_goes_on(board: Any, place: Path) -> None:
    import ray

    config = _config(images=16 * 2000)
    _submit(board, place, "stopped", config)
    wait(board, "stopped", Progress)
    ray.get(board.cancel.remote("stopped"))
    wait(board, "stopped", Stopped)
    kept = checkpoints.find_checkpoints(place / "slot-0", "stopped")
    assert kept
    assert int(checkpoints.read(kept[0]).state["images"]) < config.total_images


@pytest.mark.slow
def test_a_run_that_crashes_in_native_code_is_tried_again_then_failed_and_the_slot_serves_the_next(
    board: Any, place: Path
) -> None:
    network = {"folder": str(place / "processes"), "crashes": 100}
    model = {"kind": "python", "path": "witness.Witness", "config": network}
    _submit(board, place, "crashing", _config(model=model))
    events = wait(board, "crashing", Finished, Failed, seconds=240.0)
    assert [event.attempt for event in events if isinstance(event, Started)] == [1, 2, 3]
    assert isinstance(events[-1], Failed)
    assert "died 3 times" in events[-1].reason
    assert "crash in native code" in events[-1].reason
    _finish(board, place, "next", _config())
