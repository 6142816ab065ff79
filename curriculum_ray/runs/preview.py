"""Previews: sample grids and a metric during training, and the checkpoint with the best value of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curriculum_ray.data import Conditioning, DataInfo, Dataset, data_info
from curriculum_ray.diffusion import Process, build_process
from curriculum_ray.evaluation import EvaluationSpec, save_grid
from curriculum_ray.evaluation.sampling import draw_condition, draw_samples
from curriculum_ray.models import build_model
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.folder import BEST, PREVIEWS
from curriculum_ray.runs.log import LoggedLine, logged
from curriculum_ray.runs.prepared import cached_data, cached_preview_evaluator
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.trainer import Trainer

__all__ = ["Preview", "Previews"]

_LOG = logging.getLogger(__name__)

_SHOWN = 64

Preview = tuple[LoggedLine, dict[str, float]]
"""A log line, and the metrics of the model at that moment."""


class Previews:
    """The previews of one run. `history` holds [images, metrics] of each that was scored, resumed ones included.

    Rank 0 generates while the others wait at the next step; with `preview.asynchronous` a Ray task generates while all
    of them continue. Each step seeds its own random numbers, so training is the same with and without previews.
    """

    def __init__(
        self, config: RunConfig, data: Dataset | DataInfo, folder: Path, key: str, lead: bool
    ) -> None:
        self._config, self._data = config, data
        self._folder, self._key = folder, key
        self._pending: list[tuple[LoggedLine, Any]] = []
        self.history: list[tuple[int, dict[str, float]]] = _read_history(folder) if lead else []

    def make(self, trainer: Trainer, line: LoggedLine) -> list[Preview]:
        """Generate, score and keep a preview; every rank must call it. Returns scores on rank 0, unless a task does it.

        line: the log line of this moment.
        """
        assert self._config.preview is not None
        ema = self._config.evaluation is None or self._config.evaluation.ema
        model = trainer.whole_model(ema)
        best = False
        made: list[Preview] = []
        if trainer.world.rank == 0:
            if self._config.preview.asynchronous:
                self._pending.append((line, _start(self._config, model)))
            else:
                drawn = _draw(
                    self._config,
                    self._data,
                    trainer.process,
                    model,
                    trainer.conditioning,
                    trainer.world.device,
                )
                lowest = min((metrics["fid"] for _, metrics in self.history), default=float("inf"))
                made = self._take(line, *drawn)
                best = any(metrics["fid"] < lowest for _, metrics in made)
        if self._config.checkpoint.best and _agree(best, trainer):
            self._keep(trainer)
        return made

    def lacks(self, trainer: Trainer) -> bool:
        """Whether the preview of this moment, by a Ray task, is lost; every rank must call it, and gets the same."""
        assert self._config.preview is not None
        if not self._config.preview.asynchronous:
            return False
        scored = not self._config.preview.metric or trainer.images in (images for images, _ in self.history)
        return _agree(not (scored and self._picture(trainer.images).exists()), trainer)

    def collect(self, before: int = 0) -> list[Preview]:
        """Previews that Ray tasks scored since the last call, in order; waits for those due before `before` images.

        A preview whose task failed is lost, and reported in one line; training continues.
        """
        made: list[Preview] = []
        if not self._pending:
            return made
        import ray

        while self._pending:
            line, task = self._pending[0]
            if line.images >= before and not ray.wait([task], timeout=0)[0]:
                break
            self._pending.pop(0)
            try:
                drawn = ray.get(task)
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                _LOG.warning("the preview after %d images is lost: %s", line.images, reason)
                continue
            made += self._take(line, *drawn)
        return made

    def _take(self, line: LoggedLine, metrics: dict[str, float], samples: Tensor) -> list[Preview]:
        path = self._picture(line.images)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_grid(samples, path)
        except OSError as error:
            _LOG.warning("the preview %s was not written: %s", path, error.strerror)
        if not metrics:
            return []
        self.history.append((line.images, metrics))
        return [(line, metrics)]

    def _picture(self, images: int) -> Path:
        return self._folder / PREVIEWS / f"{images:012d}.png"

    def _keep(self, trainer: Trainer) -> None:
        state = trainer.checkpoint()
        if trainer.world.rank == 0:
            folder = self._folder / BEST
            try:
                checkpoints.write(folder / checkpoints.checkpoint_name(self._key, trainer.images), state)
            except checkpoints.CheckpointNotWritten as error:
                _LOG.warning("%s", error)
            else:
                checkpoints.prune(folder, self._key, keep=1)


def _draw(
    config: RunConfig,
    data: Dataset | DataInfo,
    process: Process,
    model: nn.Module,
    conditioning: Conditioning,
    device: torch.device,
) -> tuple[dict[str, float], Tensor]:
    """The metrics of a model, empty where previews are not scored, and its first samples."""
    assert config.preview is not None
    evaluator = cached_preview_evaluator(config)
    if evaluator is not None:
        metrics, samples = evaluator.evaluate(process, model, conditioning, device=device)
        return metrics, samples[:_SHOWN]
    spec = (config.evaluation or EvaluationSpec()).model_copy(
        update={"num_samples": config.preview.num_samples}
    )
    condition = None
    if conditioning and isinstance(data, Dataset) and data.condition is not None:
        condition = draw_condition(data.condition, spec.num_samples, spec.seed)
    return {}, draw_samples(spec, process, model, data.shape, condition, device)[:_SHOWN]


def _start(config: RunConfig, model: nn.Module) -> Any:
    """Score `model` as it is now in a Ray task; returns the reference of what `_draw` returns."""
    import ray

    assert config.preview is not None
    weights = {name: value.detach().cpu().numpy().copy() for name, value in model.state_dict().items()}
    task = ray.remote(num_cpus=0, num_gpus=config.preview.num_gpus, max_calls=0)(_draw_from)
    return task.remote(config.model_dump(mode="json"), weights)


def _draw_from(config: dict[str, Any], weights: dict[str, Any]) -> tuple[dict[str, float], Tensor]:
    """`_draw` in another process, on the GPU assigned to it, if any."""
    run = RunConfig.model_validate(config)
    assert run.preview is not None
    device = torch.device("cuda" if run.preview.num_gpus else "cpu")
    data = data_info(run.data) if run.data.streamed else cached_data(run.data)
    model = build_model(run.model, data.shape, data.conditioning)
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    conditioning: Any = model.conditioning
    process = build_process(run.process, run.weighting).to(device)
    metrics, samples = _draw(run, data, process, model.to(device).eval(), conditioning, device)
    return metrics, samples.cpu()


def _agree(mine: bool, trainer: Trainer) -> bool:
    """Rank 0's answer, on every rank."""
    if trainer.world.size == 1:
        return mine
    said = torch.tensor(float(mine), device=trainer.world.device)
    torch.distributed.broadcast(said, src=0)
    return said.item() > 0


def _read_history(folder: Path) -> list[tuple[int, dict[str, float]]]:
    return [(line.images, line.preview) for line in logged(folder) if line.preview is not None]
