"""What a log line says beside the loss: the same for a run alone and in a pack, and in the log as on the board."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch

from curriculum_ray.data import Dataset, load_data
from curriculum_ray.runs.jobs import Progress
from curriculum_ray.runs.log import LoggedLine
from curriculum_ray.training import trainer as trainers
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.loop import train, train_together
from curriculum_ray.training.meter import Meter
from curriculum_ray.training.packed import PackedTrainer
from curriculum_ray.training.readings import Readings
from curriculum_ray.training.trainer import LogLine, Trainer
from curriculum_ray.training.world import World
from tests.training.calls import calling

CONFIG = TrainConfig.model_validate(
    {
        "batch_size": 16,
        "images": 16 * 4,
        "window": 2,
        "log_every_images": 32,
        "model": {"base_channels": 8},
        "optimizer": {"learning_rate": 1e-3, "warmup_images": 64},
        "heldout": None,
    }
)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data(CONFIG.data)


def _log(trainer: Trainer, runs: Any = None) -> list[LogLine]:
    log: list[LogLine] = []
    hooks = calling(on_log=lambda line: bool(log.append(line)))
    if runs is None:
        train(trainer, hooks)
    else:
        train_together(runs, [hooks])
    return log


def test_a_log_line_has_rate_norm_and_wait_alone_and_in_a_pack(data: Dataset) -> None:
    log = _log(Trainer(CONFIG, data))
    assert [line.readings.learning_rate for line in log] == pytest.approx([0.5e-3, 1e-3])
    assert all(0 <= (line.readings.data_wait or 0.0) <= 1 for line in log)
    assert {line.readings.mfu for line in log} == {line.readings.gpu_memory_gib for line in log} == {None}
    norms = [line.readings.gradient_norm for line in log]
    packed = PackedTrainer([CONFIG], data)
    in_pack = [line.readings.gradient_norm for line in _log(packed.members[0], packed)]
    assert norms == pytest.approx(in_pack, rel=1e-3)
    assert all(norm is not None and norm > 0 for norm in norms)


def test_the_norm_is_that_before_clipping(data: Dataset) -> None:
    clipped = CONFIG.model_copy(
        update={"optimizer": CONFIG.optimizer.model_copy(update={"clip_grad_norm": 1e-6})}
    )
    first, other = (_log(Trainer(config, data))[0].readings.gradient_norm for config in (CONFIG, clipped))
    assert other is not None
    assert first is not None
    assert other > 1e-2 * first


def test_a_norm_that_overflowed_is_none_and_waits_add_up() -> None:
    meter = Meter(World())
    meter.start()
    meter.gradient_norm = torch.tensor(math.inf)
    meter.waited(time.perf_counter() - 1e6)
    found = meter.read(1, stop=True)
    assert (found.gradient_norm, found.data_wait, found.stop) == (None, 1.0, True)


def test_utilisation_is_that_of_the_peak_where_it_is_known(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainers, "peak_flops", lambda device: 1e9)
    trainer = Trainer(CONFIG, data)
    needed = trainers.operations_per_item(CONFIG.model, data.shape, data.conditioning)
    assert needed is not None
    for line in _log(trainer):
        assert line.readings.mfu == pytest.approx(line.images_per_second * needed / 1e9)


def test_readings_in_words_leave_out_what_is_not_known() -> None:
    assert list(Readings(learning_rate=2e-3, gradient_norm=1.234, data_wait=0.01).words()) == [
        "lr 2.0e-03",
        "gradient 1.23",
        "data 1%",
    ]


def test_the_log_and_the_board_say_the_same_of_a_line(data: Dataset) -> None:
    for line in _log(Trainer(CONFIG, data)):
        assert LoggedLine.of(line).metrics() == Progress.of(line, 64).metrics()
