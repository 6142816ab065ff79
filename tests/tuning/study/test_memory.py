"""The memory of a worker is that of its copies of the weights, its data and its share of the batch."""

from __future__ import annotations

import torch

from curriculum_ray.data import DataInfo, Dataset
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training.footprint import Footprint
from tuning.study.cost_lines import memory_lines
from tuning.study.memory import Memory, memory_per_worker

NETWORK = Footprint(1000, 1, 1, kept_bytes=10, kept_once_bytes=7)
DATA = Dataset("two", torch.zeros(2, 3), heldout=Dataset("one", torch.zeros(1, 3)))


def _memory(network: Footprint = NETWORK, workers: int = 1, pack: int = 1, **settings: object) -> Memory:
    run = RunConfig.model_validate({"batch_size": 64, **settings})
    return memory_per_worker(run, network, DATA, workers, pack)


def test_weights_are_held_five_times_and_once_more_for_each_further_average() -> None:
    plain = _memory()
    assert (plain.weights, plain.gradients, plain.moments, plain.averages) == (4000, 4000, 8000, 4000)
    assert (plain.data, plain.activations) == (36, 647)
    assert plain.total == 20_000 + 36 + 647
    assert _memory(ema={"power": {"sigma_rels": [0.05, 0.1]}}).averages == 12_000


def test_workers_share_the_batch_and_with_fsdp_the_weights() -> None:
    replica, shard = _memory(workers=4), _memory(workers=4, parallel="fsdp")
    assert replica.activations == shard.activations == 16 * 10 + 7
    assert (replica.weights, shard.weights) == (4000, 1000)
    assert replica.data == shard.data == 36
    assert _memory(workers=4, accumulate=2).activations == 8 * 10 + 7


def test_the_runs_of_a_pack_share_the_data() -> None:
    single, pack = _memory(), _memory(pack=3)
    assert (pack.weights, pack.activations) == (12_000, 3 * 647)
    assert pack.data == single.data == 36


def test_of_a_stream_a_worker_holds_nothing_and_the_workers_of_a_node_share_its_items() -> None:
    run = RunConfig.model_validate({"batch_size": 64})
    stream = DataInfo(
        "stream", (3,), count=1_000, heldout=DATA.heldout, reference=Dataset("two", torch.zeros(2, 3))
    )
    found = memory_per_worker(run, NETWORK, stream)
    assert (found.data, found.shared, found.total) == (0, 36, _memory().total - 36)
    assert any(
        "in the memory of each node 0.0 MiB of the stream's items" in line for line in memory_lines(found)
    )


def test_activations_that_cannot_be_counted_are_said_to_be_unknown() -> None:
    unknown = _memory(Footprint(1000, None, None, None, None))
    assert unknown.total == unknown.without_activations == 20_036
    lines = memory_lines(unknown)
    assert lines[0].endswith(" and activations")
    assert any("unknown" in line for line in lines)
