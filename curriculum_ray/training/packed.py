"""K runs of one network in one process as a vmapped ensemble (torch.func), each with its own schedule and seed.

Small networks leave a GPU idle: a step is then a long row of short kernels, and K runs need as many of them as one. A
search packs its trials when it is told to (`search --pack`), not by default: a CPU is filled by one small network, and
packing loses there. `make bench-pack` measures both ways beside each other.

    packed = PackedTrainer([first, second, third], data)
    train_together(packed, hooks)                    # of `training.loop`
    packed.members[1].checkpoint()                   # of an ordinary run: alone or packed, it goes on from there

Each run is what it would be alone, within the rounding of batched kernels: the draws are those of its own `Trainer`.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Dataset
from curriculum_ray.models import DiTSpec, MLPSpec, UNetSpec
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.ema import ema_decay
from curriculum_ray.training.lockstep import Lockstep
from curriculum_ray.training.packed_weights import PackedWeights
from curriculum_ray.training.rates import learning_rate
from curriculum_ray.training.trainer import Trainer
from curriculum_ray.training.world import World

__all__ = ["PackedTrainer", "check_packable", "pack_key"]

# What may differ between the runs of a pack; everything else decides the shape or the rhythm of a step.
_OWN = frozenset({"schedule", "seed", "process", "weighting", "optimizer", "ema"})


def check_packable(configs: Sequence[TrainConfig]) -> None:
    """Refuse, in one line, runs that cannot be trained as one pack: ConfigError."""
    if not configs:
        raise ConfigError("a pack needs at least one run, but got 0")
    first = configs[0]
    for name, wanted, got in (
        ("model.kind", "unet, dit or mlp", None if _vmaps(first) else first.model.kind),
        ("precision", "fp32 or bf16", "fp16" if first.precision == "fp16" else None),
        ("compile", "false", first.compile or None),
        ("accumulate", "1", first.accumulate if first.accumulate > 1 else None),
        ("parallel", "ddp", None if first.parallel == "ddp" else first.parallel),
        ("stability.spike_factor", "null", first.stability.spike_factor),
        ("data", "held in memory", first.data.name if first.data.streamed else None),
    ):
        if got is not None:
            raise ConfigError(f"{name} must be {wanted} where runs are packed, but got {str(got).lower()}")
    alike = first.model_dump(exclude=set(_OWN))
    for config in configs[1:]:
        theirs = config.model_dump(exclude=set(_OWN))
        for key, value in alike.items():
            if theirs.get(key) != value:
                raise ConfigError(
                    f"packed runs must have equal {key}, but got {value} and {theirs.get(key)}: "
                    f"only {', '.join(sorted(_OWN))} may differ"
                )


def pack_key(config: TrainConfig) -> str:
    """Equal for runs that can be trained as one pack, if each of them is fit for one at all."""
    alike = config.model_dump(mode="json", exclude=set(_OWN))
    return hashlib.sha256(json.dumps(alike, sort_keys=True).encode()).hexdigest()[:16]


def _vmaps(config: TrainConfig) -> bool:
    """Whether the network is one of ours: what others do inside, e.g. draw random numbers, is not known."""
    return isinstance(config.model, UNetSpec | DiTSpec | MLPSpec)


class PackedTrainer(Lockstep):
    """K runs whose steps are one. `members` are ordinary trainers whose weights, averages and moments lie in one pack.

    configs: K runs of equal data, network, batch, budget and intervals; schedule, seed, process, weighting, optimiser
    and averages are each one's own. data: what all of them train on. Raises ConfigError, see `check_packable`.

    A member is restored, from the checkpoint of a run of its settings, packed or not, before the first step.
    """

    def __init__(self, configs: Sequence[TrainConfig], data: Dataset, world: World | None = None) -> None:
        check_packable(configs)
        self.world = world or World()
        if self.world.size > 1:
            raise ConfigError(f"packed runs have one worker, but got {self.world.size}")
        super().__init__([Trainer(config, data, self.world) for config in configs])
        self._base = _without_dropout(self.members[0].model)
        self._weights: PackedWeights | None = None
        self._packed: list[int] = []  # whose state lies in `_weights`

    def step(self) -> None:
        """One optimiser step of every active member."""
        images, active = self.images, self.active
        members = [self.members[place] for place in active]
        batch = members[0].config.batch_size
        if self._weights is None or self._packed != active:
            self._weights, self._packed = PackedWeights(members), active
        weights = self._weights
        drawn = [self._draw(member) for member in members]
        inputs, noise_conds, targets, levels, conditions = zip(*drawn, strict=True)
        condition = None if conditions[0] is None else torch.stack(conditions)
        # Fused attention would be called once for each member on a CPU, and under vmap fails in its backward on a GPU.
        with members[0].precision.autocast(), sdpa_kernel(SDPBackend.MATH):
            outputs = vmap(self._predict, in_dims=(0, 0, 0, None if condition is None else 0))(
                weights.leaves, torch.stack(inputs), torch.stack(noise_conds), condition
            )
            compared = [
                member.process.compare(*each)
                for member, *each in zip(members, outputs.unbind(0), targets, levels, strict=True)
            ]
        # The sum's gradient by a member's weights is that of its own mean loss.
        weighed = [member.weighed(losses) for member, (losses, _) in zip(members, compared, strict=True)]
        weights.backward(torch.stack([losses.mean() for losses in weighed]).sum())
        after = images + batch
        weights.update(
            [learning_rate(m.config.optimizer, after, m.config.total_images) for m in members],
            [ema_decay(m.config.ema, after, batch) for m in members],
            after // batch,
        )
        for member, (losses, raw) in zip(members, compared, strict=True):
            member.count(raw, losses.detach())
            if member.power is not None:
                member.power.update(after, batch)

    def _draw(self, member: Trainer) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """A member's batch as its network sees it: x, noise_cond, target, levels, and condition."""
        x0, levels, noise, condition = member.draw()
        if condition is not None:
            condition = _hidden(condition, member.conditioning.kind, self._dropout(member))
        return (*member.process.corrupt(x0, levels, noise), levels, condition)

    @staticmethod
    def _dropout(member: Trainer) -> float:
        spec: Any = member.config.model
        return spec.label_dropout

    def _predict(
        self, weights: dict[str, Tensor], x: Tensor, noise_cond: Tensor, condition: Tensor | None
    ) -> Tensor:
        return functional_call(self._base, weights, (x, noise_cond, condition))


def _without_dropout(model: nn.Module) -> nn.Module:
    """A copy of the network that hides no condition by itself: random draws under vmap are not a single run's."""
    base = copy.deepcopy(model)
    embedding: Any = base.label_embedding
    if embedding is not None:
        embedding.dropout = 0.0
    return base


def _hidden(condition: Tensor, kind: str, dropout: float) -> Tensor:
    """What the network would hide in a step (see `LabelEmbedding`), by the same draw, written as the null condition."""
    if dropout == 0:
        return condition
    hidden = torch.rand(len(condition), device=condition.device) < dropout
    shape = (-1, *(1,) * (condition.ndim - 1))
    return condition.masked_fill(hidden.view(shape), -1 if kind == "class" else 0)
