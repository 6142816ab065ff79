"""Previews: sample grids and a metric on the way, and the checkpoint that was best by it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from curriculum_ray.data import DataInfo, Dataset
from curriculum_ray.distributed.config import RunConfig
from curriculum_ray.evaluation import EvaluationSpec, Evaluator, save_grid
from curriculum_ray.evaluation.sampling import draw_condition, draw_samples
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.loop import Trainer

__all__ = ["BEST", "Previews"]

BEST = "best"
"""The folder within a run's that holds the checkpoint with the lowest preview FID."""


class Previews:
    """The previews of one run. `history` holds [images, FID] of each that was scored, resumed ones included.

    Rank 0 draws while the others wait at the next step. Everything random in a step is seeded by that step, so that
    the training goes on as it would without.
    """

    def __init__(
        self,
        config: RunConfig,
        data: Dataset | DataInfo,
        evaluator: Evaluator | None,
        folder: Path,
        key: str,
        lead: bool,
    ) -> None:
        self._config, self._data, self._evaluator = config, data, evaluator
        self._folder, self._key = folder, key
        self.history: list[tuple[int, float]] = _read_history(folder / "metrics.jsonl") if lead else []

    def make(self, trainer: Trainer) -> dict[str, float]:
        """Draw, score and keep; every rank must call it. Returns the metrics on rank 0, where there are any."""
        ema = self._config.evaluation is None or self._config.evaluation.ema
        model = trainer.whole_model(ema)
        metrics: dict[str, float] = {}
        best = False
        if trainer.world.rank == 0:
            if self._evaluator is not None:
                metrics, samples = self._evaluator.evaluate(
                    trainer.process, model, trainer.conditioning, device=trainer.world.device
                )
                best = all(metrics["fid"] < value for _, value in self.history)
                self.history.append((trainer.images, metrics["fid"]))
            else:
                samples = self._draw(trainer, model)
            place = self._folder / "previews"
            place.mkdir(parents=True, exist_ok=True)
            save_grid(samples[:64], place / f"{trainer.images:012d}.png")
        if self._config.checkpoint.best and _agree(best, trainer):
            self._keep(trainer)
        return metrics

    def _draw(self, trainer: Trainer, model: torch.nn.Module) -> Tensor:
        assert self._config.preview is not None
        spec = (self._config.evaluation or EvaluationSpec()).model_copy(
            update={"num_samples": self._config.preview.num_samples}
        )
        condition = None
        if trainer.conditioning and isinstance(self._data, Dataset) and self._data.condition is not None:
            condition = draw_condition(self._data.condition, spec.num_samples, spec.seed)
        shape, device = self._data.shape, trainer.world.device
        return draw_samples(spec, trainer.process, model, shape, condition, device)

    def _keep(self, trainer: Trainer) -> None:
        state = trainer.checkpoint()
        if trainer.world.rank == 0:
            folder = self._folder / BEST
            try:
                checkpoints.write(folder / checkpoints.checkpoint_name(self._key, trainer.images), state)
            except checkpoints.CheckpointNotWritten as error:
                print(error, flush=True)
            else:
                checkpoints.prune(folder, self._key, keep=1)


def _agree(mine: bool, trainer: Trainer) -> bool:
    """What rank 0 says, on every rank."""
    if trainer.world.size == 1:
        return mine
    said = torch.tensor(float(mine), device=trainer.world.device)
    torch.distributed.broadcast(said, src=0)
    return said.item() > 0


def _read_history(log: Path) -> list[tuple[int, float]]:
    if not log.exists():
        return []
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [(line["images"], line["preview"]["fid"]) for line in lines if "preview" in line]
