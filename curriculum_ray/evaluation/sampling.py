"""Draw the items to evaluate: sample i is the same for every arm and number of ranks; the model is left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from curriculum_ray.data import is_image, to_uint8
from curriculum_ray.diffusion import Process
from curriculum_ray.evaluation.spec import EvaluationSpec
from curriculum_ray.splitmix import mix

__all__ = [
    "WHOLE",
    "Conditions",
    "Share",
    "block_size",
    "draw_blocks",
    "draw_condition",
    "draw_samples",
    "evaluating",
]

_BLOCKS = 8
_LEAST = 32


@dataclass(frozen=True)
class Share:
    """The part of the work that one of `size` ranks does: every `size`-th block, from the `rank`-th on."""

    rank: int = 0
    size: int = 1

    def blocks(self, count: int, length: int) -> Iterator[range]:
        """Its blocks of `count` items, which are cut into blocks of `length`."""
        for start in range(self.rank * length, count, self.size * length):
            yield range(start, min(start + length, count))


WHOLE = Share()
"""All of it."""


def block_size(spec: EvaluationSpec) -> int:
    """Samples that are drawn at a time: an eighth of all, which several ranks can share, but at least 32.

    At most `spec.batch_size`. It does not depend on the number of ranks, because arithmetic may round differently in
    batches of another size.
    """
    return min(spec.batch_size, max(_LEAST, -(-spec.num_samples // _BLOCKS)))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` into evaluation mode without gradients; afterwards the mode of each module is restored."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


class Conditions:
    """The condition of each of `count` samples, in the proportions of a reference and an order that `seed` determines.

    reference: (N, ...), `Dataset.condition`. Labels are quantiles of the sorted reference, so that the count of each
    class is exact to one image; captions are evenly spaced entries.
    """

    def __init__(self, reference: Tensor, count: int, seed: int) -> None:
        quantiles = ((torch.arange(count, dtype=torch.float64) + 0.5) / count * len(reference)).long()
        self._index = quantiles[torch.randperm(count, generator=torch.Generator().manual_seed(seed))]
        self._ordered = reference.sort().values if reference.ndim == 1 else reference

    def __getitem__(self, samples: slice) -> Tensor:
        """Those of some samples, (n, ...)."""
        return self._ordered[self._index[samples]]


def draw_condition(reference: Tensor, count: int, seed: int) -> Tensor:
    """The `Conditions` of all `count` samples, (count, ...)."""
    return Conditions(reference, count, seed)[:]


def draw_blocks(
    spec: EvaluationSpec,
    process: Process,
    model: nn.Module,
    shape: tuple[int, ...],
    condition: Tensor | Conditions | None = None,
    device: str | torch.device = "cpu",
    share: Share = WHOLE,
) -> Iterator[tuple[range, Tensor]]:
    """Generate the share of `spec.num_samples` items of `shape`, a block at a time: their numbers, and the items.

    Items are uint8 images (n, C, H, W), else float32, on `device`. Noise is drawn image by image from `spec.seed`,
    so that image i starts from the same noise for each model, batch size, device and number of ranks; noise that a
    sampler adds on the way is a function of the seed and the block. Of several scales of guidance, the first is
    drawn. Raises `FloatingPointError` if the model produces non-finite values.
    """
    noise_source = torch.Generator().manual_seed(spec.seed)
    drawn = 0
    for block in share.blocks(spec.num_samples, block_size(spec)):
        for _ in range(drawn, block.start):  # other ranks' noise, which costs little beside an image
            torch.randn(shape, generator=noise_source)
        noise = torch.stack([torch.randn(shape, generator=noise_source) for _ in block])
        drawn = block.stop
        with evaluating(model):
            images = process.generate(
                model,
                noise.to(device),
                sampler=None if spec.sampler == "auto" else spec.sampler,
                steps=spec.steps,
                generator=torch.Generator().manual_seed(
                    mix(spec.seed, block.start)
                ),  # on the CPU, for any device
                condition=None if condition is None else condition[block.start : block.stop].to(device),
                guidance=spec.scales[0],
                guidance_interval=spec.guidance_interval,
                clip=is_image(shape),
            )
        if not images.isfinite().all():
            raise FloatingPointError(
                f"training diverged: the model generates non-finite values (images {block.start} to {block.stop - 1})"
            )
        yield block, to_uint8(images) if is_image(shape) else images.float()


def draw_samples(
    spec: EvaluationSpec,
    process: Process,
    model: nn.Module,
    shape: tuple[int, ...],
    condition: Tensor | Conditions | None = None,
    device: str | torch.device = "cpu",
) -> Tensor:
    """All items of `draw_blocks`, on the CPU: uint8 images (n, C, H, W), else float32."""
    blocks = draw_blocks(spec, process, model, shape, condition, device)
    return torch.cat([items.cpu() for _, items in blocks])
