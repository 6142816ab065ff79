"""A run of some steps on points in memory, as tests of what it leaves behind need it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from curriculum_ray.data import Dataset
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.trainer import Trainer

POINTS: dict[str, Any] = {"images": 64, "data": {"name": "mixture2d"}, "heldout": None}
DATA = Dataset("points", torch.randn(32, 2), torch.arange(32) % 3, ("a", "b", "c"))


def written_after_four_steps(trainer: Trainer, folder: Path, key: str) -> Path:
    """The checkpoint of the run `key` after four steps."""
    for _ in range(4):
        trainer.step()
    return checkpoints.write(folder / checkpoints.checkpoint_name(key, trainer.images), trainer.checkpoint())
