"""Previews: sample grids and a metric during training, and the checkpoint with the best value of it."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curriculum_ray.data import Conditioning, DataInfo, Dataset
from curriculum_ray.data.autoencoder import decode_latents
from curriculum_ray.diffusion import Process, build_process
from curriculum_ray.evaluation import EvaluationSpec, save_grid
from curriculum_ray.evaluation.evaluator import SHOWN
from curriculum_ray.evaluation.sampling import draw_condition, draw_samples
from curriculum_ray.evaluation.together import evaluate_together
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.folder import BEST, PREVIEWS
from curriculum_ray.runs.log import LoggedLine, logged
from curriculum_ray.runs.prepared import cached_preview_evaluator, items_of
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.exchange import Exchange
from curriculum_ray.training.network import build_network
from curriculum_ray.training.precision import allow_tf32
from curriculum_ray.training.trainer import Trainer
from curriculum_ray.training.world import World

__all__ = ["Preview", "Previews"]

_LOG = logging.getLogger(__name__)

_SIGN_S = 30.0
"""Seconds between two signs to the ranks that wait for a task with this one; they give up after 1,800 without any."""

Preview = tuple[LoggedLine, dict[str, float]]
"""A log line, and the metrics of the model at that moment."""


class Previews:
    """The previews of one run. `history` holds [images, metrics] of each that was scored, resumed ones included.

    All ranks generate, and wait until rank 0 has scored, without a collective; with `preview.asynchronous` a Ray task
    generates while all of them continue. Each step seeds its own random numbers, so training is the same with and
    without previews.
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
        model, world = trainer.whole_model(ema), trainer.world
        best = False
        made: list[Preview] = []
        if self._config.preview.asynchronous:
            if world.rank == 0:
                self._pending.append((line, _start(self._config, model)))
            return made
        drawn = _draw(self._config, self._data, trainer.process, model, trainer.conditioning, world)
        if drawn is not None:
            lowest = min((metrics["fid"] for _, metrics in self.history), default=float("inf"))
            made = self._take(line, *drawn)
            best = any(metrics["fid"] < lowest for _, metrics in made)
        if _agree(best, trainer) and self._config.checkpoint.best:
            self._keep(trainer)
        return made

    def lacks(self, trainer: Trainer) -> bool:
        """Whether the preview of this moment, by a Ray task, is lost; every rank must call it, and gets the same."""
        assert self._config.preview is not None
        if not self._config.preview.asynchronous:
            return False
        return _agree(not self._is_made(trainer.images), trainer)

    def admit_lost(self, every: int, before: int) -> None:
        """Log which previews by Ray tasks, due every `every` images, a resumed run lacks before `before`; on rank 0.

        They cannot be made any more: a checkpoint at a warning does not wait for them, and holds other weights.
        """
        assert self._config.preview is not None
        if not self._config.preview.asynchronous:
            return
        lost = [images for images in range(every, before, every) if not self._is_made(images)]
        if lost:
            _LOG.warning(
                "there is no preview after %s images: it failed, or was under way when the run was interrupted",
                ", ".join(map(str, lost)),
            )

    def _is_made(self, images: int) -> bool:
        assert self._config.preview is not None
        scored = not self._config.preview.metric or images in (known for known, _ in self.history)
        return scored and self._picture(images).exists()

    def collect(self) -> list[Preview]:
        """Previews that Ray tasks have scored since the last call, in order.

        A preview whose task failed is lost, and reported in one line; training continues.
        """
        made: list[Preview] = []
        while self._pending and _is_over(self._pending[0][1], 0):
            made += self._take_first()
        return made

    def await_due(self, before: int, exchange: Exchange, longest_s: float = math.inf) -> list[Preview]:
        """As `collect`, after those due before `before` images are over; every rank must call it, and waits for that.

        However long a task takes, no collective is open meanwhile. longest_s: seconds after which those that are still
        under way are given up, each with a line in the log.
        """
        made: list[Preview] = []
        if self._config.preview is None or not self._config.preview.asynchronous:
            return made
        end = time.monotonic() + longest_s
        while self._due(before) and self._await_first(end, exchange):
            made += self._take_first()
        made += self.collect()
        for line in self._due(before):
            _LOG.warning(
                "the preview after %d images is lost: the run stops while it is under way", line.images
            )
        exchange.tell(b"")
        return made

    def _due(self, before: int) -> list[LoggedLine]:
        """The log lines of those under way that were due before `before` images."""
        return [line for line, _ in self._pending if line.images < before]

    def _await_first(self, end: float, exchange: Exchange) -> bool:
        """Wait for the first of those under way until `end` of the monotonic clock; returns whether it is over."""
        while not _is_over(self._pending[0][1], min(_SIGN_S, max(0.0, end - time.monotonic()))):
            exchange.work()
            if time.monotonic() >= end:
                return False
        return True

    def _take_first(self) -> list[Preview]:
        import ray

        line, task = self._pending.pop(0)
        try:
            drawn = ray.get(task)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            _LOG.warning("the preview after %d images is lost: %s", line.images, reason)
            return []
        return self._take(line, *drawn)

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
            path = self._folder / BEST / checkpoints.checkpoint_name(self._key, trainer.images)
            try:
                checkpoints.write(path, state)
            except checkpoints.CheckpointNotWritten as error:
                _LOG.warning("%s", error)
            else:
                checkpoints.keep_only(path, self._key)


def _draw(
    config: RunConfig,
    data: Dataset | DataInfo,
    process: Process,
    model: nn.Module,
    conditioning: Conditioning,
    world: World,
) -> tuple[dict[str, float], Tensor] | None:
    """On rank 0 the metrics of a model, empty where previews are not scored, and its first samples; None on others."""
    assert config.preview is not None
    evaluator = cached_preview_evaluator(config)
    if evaluator is not None:
        return evaluate_together(evaluator, process, model, conditioning, world)
    if world.rank:
        return None
    spec = (config.evaluation or EvaluationSpec()).model_copy(
        update={"num_samples": config.preview.num_samples}
    )
    condition, shown = None, data.reference or data.heldout
    if conditioning and shown is not None and shown.condition is not None:
        condition = draw_condition(shown.condition, spec.num_samples, spec.seed)
    few = spec.model_copy(update={"num_samples": min(SHOWN, spec.num_samples)})
    samples = draw_samples(few, process, model, data.shape, condition, world.device)
    return {}, samples if config.data.vae is None else decode_latents(config.data, samples, world.device)


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
    allow_tf32(device, run.tf32)
    data = items_of(run.data, run.evaluation)
    model = build_network(run, data.shape, data.conditioning)
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    conditioning: Any = model.conditioning
    process = build_process(run.process, run.weighting).to(device)
    drawn = _draw(run, data, process, model.to(device).eval(), conditioning, World(device=device))
    assert drawn is not None
    return drawn


def _is_over(task: Any, seconds: float) -> bool:
    """Whether a Ray task is over, for which it waits so many seconds."""
    import ray

    return bool(ray.wait([task], timeout=seconds)[0])


def _agree(mine: bool, trainer: Trainer) -> bool:
    """Rank 0's answer, on every rank, which waits for it without a collective."""
    return trainer.world.exchange.tell(b"yes" if mine else b"") == b"yes"


def _read_history(folder: Path) -> list[tuple[int, dict[str, float]]]:
    return [(line.images, line.preview) for line in logged(folder) if line.preview is not None]
