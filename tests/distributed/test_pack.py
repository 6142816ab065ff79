"""A slot that packs: its runs share a worker and its steps, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.data import Batches, InMemoryBatches, load_data
from curriculum_ray.distributed import job as single
from curriculum_ray.distributed import pack as packs
from curriculum_ray.distributed.board import create_board
from curriculum_ray.distributed.pack import run_pack
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.distributed.slots import Slots
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import Failed, Finished, Job, Started, Stopped
from curriculum_ray.runs.prepared import cached_data
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.loop import train
from curriculum_ray.training.packed import PackedTrainer, pack_key
from curriculum_ray.training.prefetch import Prefetched
from curriculum_ray.training.trainer import NonFiniteLoss, Trainer
from curriculum_ray.training.world import World
from tests.distributed.jobs import as_job, training_processes, wait

SETTINGS: dict[str, Any] = {
    "evaluation": None,
    "batch_size": 16,
    "images": 16 * 40,
    "window": 2,
    "log_every_images": 64,
    "checkpoint": {"every_images": 64},
    "model": {"base_channels": 16, "channel_mult": [1, 1]},
}


def _config(seed: int, **changes: Any) -> RunConfig:
    schedule = {
        "version": 1,
        "clusters": {"by": "uniform", "count": 2 + seed},
        "order": {"direction": "easy_to_hard"},
        "pacing": {"rule": "plateau", "patience": 2},
    }
    return RunConfig.model_validate({**SETTINGS, "seed": seed, "schedule": schedule, **changes})


def _job(folder: Path, key: str, config: RunConfig) -> Job:
    return as_job(folder, key, config, pack_key(config.train))


def _alone(config: RunConfig) -> Trainer:
    trainer = Trainer(config.train, load_data(config.data))
    train(trainer)
    return trainer


def _equals(result: RunResult, config: RunConfig) -> None:
    """The run ended as it would have by itself, within the rounding of batched kernels."""
    wanted, got = _alone(config), checkpoints.read(result.checkpoint)
    assert [list(start) for start in result.stage_starts] == wanted.stage_starts
    assert result.loss == pytest.approx(wanted.loss, rel=1e-3)
    for name, value in wanted.model.state_dict().items():
        torch.testing.assert_close(got.tensors["model"][name], value, rtol=1e-3, atol=1e-4)


def _pack(folder: Path, configs: dict[str, RunConfig]) -> tuple[dict[str, Any], list[Path | None]]:
    """How each run of a pack ended, and what Ray Train was told of."""
    ends: dict[str, Any] = {}
    announced: list[Path | None] = []
    jobs = [_job(folder, key, config).assigned(folder / "slot") for key, config in configs.items()]
    run_pack(
        jobs,
        World(),
        [lambda progress: False] * len(jobs),
        lambda path, metrics: announced.append(path),
        lambda key, how: ends.update({key: how}),
    )
    return ends, announced


def test_each_run_of_a_pack_leaves_its_own_folder_and_ends_as_it_would_alone(tmp_path: Path) -> None:
    configs = {f"run{seed}": _config(seed) for seed in (1, 2, 3)}
    ends, announced = _pack(tmp_path, configs)
    for key, config in configs.items():
        _equals(ends[key], config)
        assert (ends[key].packed, ends[key].slot_seconds) == (3, ends[key].seconds / 3)
        lines = [json.loads(line) for line in (tmp_path / key / "metrics.jsonl").read_text().splitlines()]
        assert [line["images"] for line in lines] == list(range(64, 641, 64))
        assert (tmp_path / key / "schedule.yaml").exists()
        assert not checkpoints.find_checkpoints(tmp_path / "slot", key), (
            "a finished run leaves none in its slot"
        )
    # One checkpoint of the three at each interval but the last.
    assert len(announced) == 9


def test_data_that_stay_on_the_host_are_read_ahead_for_each_run_of_a_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = {f"run{seed}": _config(seed, images=16 * 16) for seed in (1, 2)}
    data = cached_data(configs["run1"].data)
    sources: list[Batches] = []
    asked: list[Any] = []

    class Seen(Prefetched):
        def __init__(self, source: Batches, total_images: int) -> None:
            super().__init__(source, total_images)
            sources.append(source)

    def stays(*of: Any) -> bool:
        asked.append(of)
        return True

    monkeypatch.setattr(packs, "stays_on_host", stays)
    monkeypatch.setattr(single, "Prefetched", Seen)
    ends, _ = _pack(tmp_path, configs)
    for key, config in configs.items():
        _equals(ends[key], config)
    assert asked == [(data, torch.device("cpu"))]
    items = [source.items.data_ptr() for source in sources if isinstance(source, InMemoryBatches)]
    assert items == 2 * [data.stored.data_ptr()]
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


@pytest.mark.slow
def test_a_run_that_is_not_finite_and_one_that_cannot_be_scored_end_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = {f"run{seed}": _config(seed) for seed in (1, 2, 3)}

    class Broken(PackedTrainer):
        """The first member's weights are no numbers."""

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            with torch.no_grad():
                next(self.members[0].model.parameters()).fill_(float("nan"))

    def end(self: packs.RunHooks, whole: bool) -> RunResult | None:
        if self.config.seed == 2:
            raise FloatingPointError("training diverged")
        return ended(self, whole)

    ended = packs.RunHooks.end
    monkeypatch.setattr(packs, "PackedTrainer", Broken)
    monkeypatch.setattr(packs.RunHooks, "end", end)
    ends, _ = _pack(tmp_path, configs)
    assert isinstance(ends["run1"], NonFiniteLoss)
    assert "64 images" in str(ends["run1"])
    assert isinstance(ends["run2"], FloatingPointError)
    _equals(ends["run3"], configs["run3"])


@pytest.mark.slow
def test_runs_of_a_pack_go_on_from_checkpoints_at_different_images(tmp_path: Path) -> None:
    configs = {f"run{seed}": _config(seed) for seed in (1, 2)}
    ahead = Trainer(configs["run2"].train, load_data(configs["run2"].data))
    while ahead.images < 128:
        ahead.step()
        if ahead.images % 64 == 0:
            ahead.log(4, False)
    checkpoints.write(tmp_path / "slot" / checkpoints.checkpoint_name("run2", 128), ahead.checkpoint())
    ends, _ = _pack(tmp_path, configs)
    assert [ends[key].resumed_at for key in configs] == [0, 128]
    for key, config in configs.items():
        _equals(ends[key], config)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packs")


@pytest.fixture(scope="module")
def board(ray_of_two: None, place: Path) -> Iterator[Any]:
    """A board served by one slot of one worker that packs three."""
    board = create_board()
    slots = Slots(board, [place / "slot-0"], ResourceSpec(), pack=3)
    yield board
    slots.close()


def _submit(board: Any, folder: Path, configs: dict[str, RunConfig]) -> None:
    import ray

    for key, config in configs.items():
        ray.get(board.submit.remote(_job(folder, key, config)))


def _ends(board: Any, keys: list[str]) -> dict[str, tuple[Any, int]]:
    """The last event of each of these jobs, and how often it was started."""
    found = {}
    for key in keys:
        seen = wait(board, key, Finished, Failed, Stopped)
        found[key] = seen[-1], sum(isinstance(event, Started) for event in seen)
    return found


@pytest.mark.slow
def test_a_slot_trains_a_pack_and_then_the_next(board: Any, place: Path) -> None:
    configs = {f"first{seed}": _config(seed) for seed in range(4)}
    _submit(board, place, configs)
    for key, (end, _) in _ends(board, list(configs)).items():
        assert isinstance(end, Finished), end
        _equals(end.result, configs[key])


@pytest.mark.slow
def test_a_killed_worker_costs_a_pack_no_more_than_what_followed_its_checkpoints(
    board: Any, place: Path
) -> None:
    configs = {f"killed{seed}": _config(seed, images=16 * 200) for seed in range(3)}
    _submit(board, place, configs)
    while not checkpoints.find_checkpoints(place / "slot-0", "killed2"):
        time.sleep(0.01)
    os.kill(training_processes()[0], signal.SIGKILL)
    for key, (end, starts) in _ends(board, list(configs)).items():
        assert isinstance(end, Finished), end
        assert starts == 2
        assert end.result.resumed_at > 0
        _equals(end.result, configs[key])


@pytest.mark.slow
def test_what_cannot_be_trained_fails_by_itself_and_its_companions_end(board: Any, place: Path) -> None:
    configs = {f"mixed{seed}": _config(seed) for seed in range(3)}
    # Of the pack by its key, but no run of it: the others must not suffer.
    jobs = [_job(place, key, config) for key, config in configs.items()]
    jobs[1] = replace(jobs[1], settings={**jobs[1].settings, "data": {"name": str(place / "nowhere")}})
    import ray

    for job in jobs:
        ray.get(board.submit.remote(job))
    ends = _ends(board, list(configs))
    assert [type(end) for end, _ in ends.values()] == [Finished, Failed, Finished]
    assert "nowhere" in ends["mixed1"][0].reason
    assert "Traceback" in (place / "mixed1" / "error.txt").read_text()
    assert not (place / "mixed0" / "error.txt").exists()


@pytest.mark.slow
def test_a_run_that_finds_no_memory_fails_with_the_reason_and_the_slot_serves_the_next(
    board: Any, place: Path
) -> None:
    import ray

    network = {"folder": str(place / "processes"), "hungry": True}
    model = {"kind": "python", "path": "witness.Witness", "config": network}
    ray.get(board.submit.remote(as_job(place, "hungry", _config(0, model=model))))
    _submit(board, place, {"fed": _config(1)})
    (hungry, _), (fed, _) = _ends(board, ["hungry", "fed"]).values()
    assert isinstance(hungry, Failed)
    assert "alloc" in hungry.reason
    assert isinstance(fed, Finished)
