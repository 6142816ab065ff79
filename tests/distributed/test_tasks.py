"""Tasks of a piece of work: what has ended is never cancelled, which may abort the driver; what has not, is."""

from __future__ import annotations

import time
from typing import Any

import pytest
import ray
import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.drawing import on_workers
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.evaluation.sampling import Share

TWO = ResourceSpec(num_workers=2, cpus_per_worker=0.5)


@pytest.fixture
def cancelled(ray_of_two: None, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The tasks that were cancelled, which they are."""
    found: list[Any] = []
    real = ray.cancel

    def cancel(task: Any, **options: Any) -> None:
        found.append(task)
        real(task, **options)

    monkeypatch.setattr(ray, "cancel", cancel)
    return found


def test_work_that_succeeds_cancels_nothing(cancelled: list[Any]) -> None:
    def work(share: Share, device: torch.device) -> int:
        return share.rank

    assert on_workers(work, TWO) == [0, 1]
    assert cancelled == []


def test_where_a_share_fails_only_what_has_not_ended_is_cancelled(cancelled: list[Any]) -> None:
    def work(share: Share, device: torch.device) -> int:
        if share.rank == 0:
            raise ConfigError("this share cannot be read")
        time.sleep(600)
        return share.rank

    with pytest.raises(ConfigError, match="this share cannot be read"):
        on_workers(work, TWO)
    assert len(cancelled) == 1
    with pytest.raises(ray.exceptions.RayError):
        ray.get(cancelled[0], timeout=60)
