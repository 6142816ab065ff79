"""The held-out loss by noise level: on items that no run trains on, with the same noise and levels every time.

The training losses of two schedules cannot be compared, because each averages over different noise levels. Here all
runs are measured alike: at K levels, evenly spaced in u of the process's default base distribution whatever the
schedule's, the averaged weights denoise the same items under the same noise, and the squared error of the network's
prediction is averaged without a weighting.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, Protocol

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import default_base
from curriculum_ray.curriculum.base import level_of
from curriculum_ray.data import Conditioning, DataInfo, Dataset
from curriculum_ray.diffusion import Process
from curriculum_ray.splitmix import mix
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.ema import Ema
from curriculum_ray.training.heldout_spec import HeldoutSpec
from curriculum_ray.training.precision import Precision
from curriculum_ray.training.world import World

__all__ = ["COST", "Heldout", "MeasuredRun", "check_heldout"]

COST = 0.015
"""Share of a run's compute that the measurements take, unless `items` is set."""
_LEAST_ITEMS = 4
# A training step is a forward pass, and a backward pass of twice as many operations.
_FORWARDS_PER_STEP = 3


def _affordable(spec: HeldoutSpec, held_out: int, total_images: int, measurements: int) -> int:
    """Items at each level: `spec.items`, else as many as cost `COST` of the run, at least 4 and at most `held_out`.

    total_images / (measurements * levels) * 3 * COST: a measurement costs one forward pass, a training step about
    three. Raises ConfigError where more items are requested than are held out.
    """
    if spec.items is not None:
        if spec.items > held_out:
            raise ConfigError(
                f"heldout.items must be at most {held_out}, the items that are held out, but got {spec.items}"
            )
        return spec.items
    share = COST * _FORWARDS_PER_STEP * total_images / (measurements * spec.levels)
    return min(held_out, max(_LEAST_ITEMS, math.floor(share)))


def check_heldout(config: TrainConfig, data: Dataset | DataInfo) -> int:
    """Items at each level of a run, 0 where nothing is measured; ConfigError where that was not asked for."""
    spec = config.heldout
    held = data.heldout
    if spec is None or config.heldout_steps is None:
        return 0
    if held is None:
        if spec != HeldoutSpec():
            raise ConfigError(
                f"heldout is set, but {data.name} holds nothing out: set data.holdout_share above 0 (for a "
                "stream, leave it unset), or leave heldout unset"
            )
        return 0
    measurements = -(-config.total_steps // config.heldout_steps)
    return _affordable(spec, len(held), config.total_images, measurements)


class MeasuredRun(Protocol):
    """The part of a `Trainer` that a measurement reads."""

    config: TrainConfig
    data: Dataset | DataInfo
    world: World
    process: Process
    conditioning: Conditioning
    ema: Ema
    precision: Precision
    sharded: bool


class Heldout:
    """Measures one run: n items at each of K levels; of the K·n rows, r = k·n + i is item r mod N at level k.

    So each level has its own items, as long as there are enough. The noise of a row is drawn on the CPU from (seed,
    row): it is the same on every device and with any number of ranks.
    """

    def __init__(self, run: MeasuredRun, count: int) -> None:
        config, data = run.config, run.data
        assert config.heldout is not None
        assert data.heldout is not None
        self.spec = spec = config.heldout
        self.count = count
        self.u = (torch.arange(spec.levels, dtype=torch.float64) + 0.5) / spec.levels
        base = default_base(config.process.kind)
        levels = level_of(base, self.u, run.process.levels)
        self._levels = levels if levels.dtype == torch.long else levels.float()
        self._data = data.heldout
        self._conditional = bool(run.conditioning) and data.heldout.condition is not None
        contents = {
            "items": data.heldout.fingerprint,
            "count": self.count,
            "levels": spec.levels,
            "seed": spec.seed,
            "process": config.process.model_dump(mode="json"),
            "base": base.model_dump(mode="json"),
            "conditional": self._conditional,
        }
        text = json.dumps(contents, sort_keys=True)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:12]
        """12 hexadecimal digits that change with everything that affects the losses, except the weights."""

    def as_json(self) -> dict[str, Any]:
        """The fingerprint, the u of each level (0 clean, 1 noise), the items at each, and how many are held out."""
        return {
            "fingerprint": self.fingerprint,
            "u": self.u.tolist(),
            "items": self.count,
            "held_out": len(self._data),
        }

    @torch.no_grad()
    def measure(self, run: MeasuredRun) -> list[float]:
        """The mean loss at each of the K levels, the cleanest first; every rank must call it, and gets the same.

        Ranks share the rows. The random generators that training uses are left alone.
        """
        world, config = run.world, run.config
        rows = torch.arange(self.count * self.spec.levels)
        # Ranks that hold shards must run as many forward passes as the others: surplus rows have no effect.
        each = -(-len(rows) // world.size)
        mine = rows[world.rank :: world.size]
        counted = len(mine)
        mine = torch.cat([mine, rows[: each - counted]])
        size = max(1, config.batch_size // world.size // config.accumulate)
        losses = torch.cat([self._losses(run, part) for part in mine.split(size)])[:counted]
        if run.sharded:
            # Otherwise the weights gathered for this pass would be reused in the next one.
            reshard: Any = run.ema.model
            reshard.reshard()
        sums = torch.zeros(self.spec.levels, dtype=torch.float64, device=losses.device)
        sums.index_add_(0, (mine[:counted] // self.count).to(losses.device), losses.double())
        if world.size > 1:
            torch.distributed.all_reduce(sums)
        means: list[float] = (sums / self.count).tolist()
        return means

    def _losses(self, run: MeasuredRun, rows: Tensor) -> Tensor:
        """Unweighted losses of these rows, float32 (len(rows),)."""
        device = run.world.device
        item = rows % len(self._data)
        x0 = self._data.take(item).to(device)
        condition = None
        if self._conditional:
            assert self._data.condition is not None
            condition = self._data.condition[item].to(device)
        levels = self._levels[rows // self.count].to(device)
        # Not by `losses`, which would weight them too: a learned weighting's own weights may lie in shards here.
        with run.precision.autocast():
            x, noise_cond, target = run.process.corrupt(x0, levels, self._noise(rows).to(device))
            return run.process.errors(run.ema.model(x, noise_cond, condition), target)

    def _noise(self, rows: Tensor) -> Tensor:
        noise = torch.empty(len(rows), *self._data.shape)
        source = torch.Generator()
        for place, row in enumerate(rows.tolist()):
            source.manual_seed(mix(self.spec.seed, row))
            noise[place].normal_(generator=source)
        return noise
