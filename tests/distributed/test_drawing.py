"""Workers that draw a checkpoint's samples get what one process gets; here each is a plain call, not a Ray task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.buckets.copy import STAGE_VARIABLE
from curriculum_ray.config import ConfigError
from curriculum_ray.data import load_data
from curriculum_ray.distributed import drawing
from curriculum_ray.distributed.drawing import (
    DrawingTask,
    draw_on_workers,
    draws_in_process,
    score_on_workers,
)
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.evaluation import EvaluationSpec, prepare, reference
from curriculum_ray.evaluation.sampling import Share, draw_samples
from curriculum_ray.evaluation.trained import load_trained
from curriculum_ray.runs import stored_checkpoints
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.trainer import Trainer
from tests.buckets.places import bucket_in_memory
from tuning.cli.workers import worker_resources

SPEC = EvaluationSpec(num_samples=100, steps=2, sampler="ddim")
TWO = ResourceSpec(num_workers=2)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An untrained network for the digits; tasks are plain calls."""

    def here(work: Callable[[Share, torch.device], Any], resources: ResourceSpec) -> list[Any]:
        size = resources.workers[0]
        return [work(Share(rank, size), torch.device("cpu")) for rank in range(size)]

    monkeypatch.setattr(drawing, "on_workers", here)
    config = TrainConfig.model_validate({"batch_size": 4, "images": 4, "model": {"base_channels": 8}})
    trainer = Trainer(config, load_data(config.data))
    return checkpoints.write(tmp_path / "checkpoint-run-000000000000", trainer.checkpoint())


def test_workers_score_what_one_process_scores(checkpoint: Path) -> None:
    trained = load_trained(checkpoint)
    evaluator = prepare(SPEC, load_data(trained.config.data), trained.process)
    task = DrawingTask(checkpoint=checkpoint, spec=SPEC, trust_code=False)
    alone, _ = evaluator.evaluate(trained.process, trained.model, trained.conditioning)
    for known in (True, False):
        if not known:
            reference._extracted.clear()
        metrics = score_on_workers(task, trained.config.data, evaluator, TWO)
        assert metrics == pytest.approx(alone, rel=1e-6)


def test_workers_draw_what_one_process_draws(checkpoint: Path) -> None:
    trained = load_trained(checkpoint)
    condition = torch.arange(100) % 10
    task = DrawingTask(checkpoint=checkpoint, spec=SPEC, trust_code=False)
    samples = draw_on_workers(task, condition, TWO)
    assert torch.equal(samples, draw_samples(SPEC, trained.process, trained.model, trained.shape, condition))


def test_workers_bring_what_lies_in_a_bucket(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "stage"))
    bucket, elsewhere = bucket_in_memory(), tmp_path / "elsewhere" / checkpoint.name
    elsewhere.parent.mkdir()
    checkpoint.rename(elsewhere)
    stored_checkpoints.send(elsewhere, bucket / "run")
    trained = load_trained(elsewhere)
    # The driver's copy is on no other node.
    task = DrawingTask(
        checkpoint=checkpoint, spec=SPEC, trust_code=False, stored=bucket / "run" / checkpoint.name
    )
    condition = torch.arange(100) % 10
    samples = draw_on_workers(task, condition, TWO)
    assert torch.equal(samples, draw_samples(SPEC, trained.process, trained.model, trained.shape, condition))
    assert not list((tmp_path / "stage").iterdir())


def test_one_worker_of_this_machine_needs_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert draws_in_process(worker_resources(None, None))
    assert not draws_in_process(worker_resources(2, None))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert not draws_in_process(worker_resources(1, None))


def test_a_range_of_workers_is_for_training() -> None:
    with pytest.raises(ConfigError, match=r"--num-workers must be one number here.*but got 1-4"):
        worker_resources((1, 4), None)
