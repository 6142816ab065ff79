"""K runs of one network in one process as a vmapped ensemble (torch.func), each with its own schedule and seed.

Small networks leave a GPU idle: a step is then a long sequence of short kernels, and K runs need no more of them than
one. A search packs its trials only on request (`search --pack`): one small network already fills a CPU, where packing
is slower. `make bench-pack` compares the two.

    packed = PackedTrainer([first, second, third], data)
    train_together(packed, hooks)                    # of `training.loop`
    packed.members[1].checkpoint()                   # an ordinary checkpoint: a single or packed run can resume from it

Each run is the same as on its own, up to the rounding of batched kernels: it draws as its own `Trainer` would.
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
from curriculum_ray.data import Batches, Dataset, InMemoryBatches
from curriculum_ray.data.augmentation import augmented
from curriculum_ray.models import DiTSpec, MLPSpec, UNetSpec
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.ema import ema_decay
from curriculum_ray.training.lockstep import Lockstep
from curriculum_ray.training.packed_weights import PackedWeights
from curriculum_ray.training.rates import learning_rate
from curriculum_ray.training.trainer import Trainer
from curriculum_ray.training.world import World

__all__ = ["PackedTrainer", "check_packable", "pack_key", "shared_batches"]

# Settings that may differ between the runs of a pack; all others determine the shape or the timing of a step.
_OWN = frozenset({"schedule", "seed", "stratified", "process", "weighting", "optimizer", "ema"})


def check_packable(configs: Sequence[TrainConfig]) -> None:
    """Raise a one-line ConfigError for runs that cannot be trained as one pack."""
    if not configs:
        raise ConfigError("a pack needs at least one run, but got 0")
    first = configs[0]
    for name, wanted, got in (
        ("model.kind", "unet, dit or mlp", None if _vmaps(first) else first.model.kind),
        ("precision", "fp32 or bf16", "fp16" if first.precision == "fp16" else None),
        ("compile", "false", first.compile or None),
        ("gradient_checkpointing", "false", first.gradient_checkpointing or None),
        ("accumulate", "1", first.accumulate if first.accumulate > 1 else None),
        ("parallel", "ddp", None if first.parallel == "ddp" else first.parallel),
        ("stability.spike_factor", "null", first.stability.spike_factor),
        (
            "optimizer.kind",
            "adamw",
            next((config.optimizer.kind for config in configs if config.optimizer.kind != "adamw"), None),
        ),
        (
            "optimizer.options",
            "{}",
            next((config.optimizer.options for config in configs if config.optimizer.options), None),
        ),
        ("lora.dropout", "0", (first.lora and first.lora.dropout) or None),
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
    """Equal for runs that can be trained as one pack, provided that each can be packed at all."""
    alike = config.model_dump(mode="json", exclude=set(_OWN))
    return hashlib.sha256(json.dumps(alike, sort_keys=True).encode()).hexdigest()[:16]


def shared_batches(configs: Sequence[TrainConfig], data: Dataset, device: torch.device) -> list[Batches]:
    """The batches of each run of a pack, in the order that it has alone, from one copy of the data on `device`."""
    first = configs[0]
    held = InMemoryBatches(data, first.seed, device, first.model.conditional is not False)
    return [augmented(held.in_order_of(config.seed), config.data, config.seed) for config in configs]


def _vmaps(config: TrainConfig) -> bool:
    """Whether the network is one of ours: others may do anything inside, e.g. draw random numbers."""
    return isinstance(config.model, UNetSpec | DiTSpec | MLPSpec)


class PackedTrainer(Lockstep):
    """K runs that share their steps. `members` are ordinary trainers whose weights, averages and moments are packed.

    configs: K runs of equal data, network, batch, budget and intervals; schedule, seed, kind of draws, process,
    weighting, optimiser and averages may differ. data: shared by all of them. batches: one for each run, instead of
    `shared_batches` on the device. Raises ConfigError, see `check_packable`.

    Members are restored before the first step, from a checkpoint of a run with the same settings, packed or not.
    """

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        data: Dataset,
        world: World | None = None,
        batches: Sequence[Batches] | None = None,
    ) -> None:
        check_packable(configs)
        self.world = world or World()
        if self.world.size > 1:
            raise ConfigError(f"packed runs have one worker, but got {self.world.size}")
        if batches is None:
            batches = shared_batches(configs, data, self.world.device)
        super().__init__(
            [Trainer(config, data, self.world, own) for config, own in zip(configs, batches, strict=True)]
        )
        self._base = _without_dropout(self.members[0].model)
        self._weights: PackedWeights | None = None
        self._packed: list[int] = []  # indices of the members whose state is in `_weights`

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
        # The gradient of the sum with respect to a member's weights is that of its own mean loss.
        weighed = [member.weighed(losses) for member, (losses, _) in zip(members, compared, strict=True)]
        weights.backward(torch.stack([losses.mean() for losses in weighed]).sum())
        after = images + batch
        weights.update(
            [learning_rate(m.config.optimizer, after, m.config.total_images) for m in members],
            [ema_decay(m.config.ema, after, batch) for m in members],
            after // batch,
        )
        for member, (losses, raw), norm in zip(members, compared, weights.norms.unbind(0), strict=True):
            member.meter.gradient_norm = norm
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
    """A copy of the network that drops no conditions: under vmap its draws would not be those of a single run."""
    base = copy.deepcopy(model)
    embedding: Any = base.label_embedding
    if embedding is not None:
        embedding.dropout = 0.0
    return base


def _hidden(condition: Tensor, kind: str, dropout: float) -> Tensor:
    """The condition with null where the network would drop it in a step (see `LabelEmbedding`), by the same draw."""
    if dropout == 0:
        return condition
    hidden = torch.rand(len(condition), device=condition.device) < dropout
    shape = (-1, *(1,) * (condition.ndim - 1))
    return condition.masked_fill(hidden.view(shape), -1 if kind == "class" else 0)
