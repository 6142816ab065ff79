"""Draw the images to evaluate, with the same noise for every arm, and no side effects on the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from curriculum_ray.data import is_image, to_uint8
from curriculum_ray.diffusion import Process
from curriculum_ray.evaluation.spec import EvaluationSpec

__all__ = ["draw_condition", "draw_samples", "evaluating"]


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


def draw_condition(reference: Tensor, count: int, seed: int) -> Tensor:
    """Return `count` conditions in the proportions of `reference`, in an order that `seed` determines.

    reference: (N, ...), `Dataset.condition`. Labels are quantiles of the sorted reference, so that the count
    of each class is exact to one image; captions are evenly spaced entries.
    """
    quantiles = ((torch.arange(count, dtype=torch.float64) + 0.5) / count * len(reference)).long()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    ordered = reference.sort().values if reference.ndim == 1 else reference
    return ordered[quantiles][order]


def draw_samples(
    spec: EvaluationSpec,
    process: Process,
    model: nn.Module,
    shape: tuple[int, ...],
    condition: Tensor | None = None,
    device: str | torch.device = "cpu",
    guidance: float = 1.0,
    guidance_interval: tuple[float, float] | None = None,
) -> Tensor:
    """Generate `spec.num_samples` items of `shape`; returns uint8 images (n, C, H, W), else float32, on the CPU.

    Noise is drawn image by image from `spec.seed`, so that image i starts from the same noise for each model,
    batch size and device. guidance, guidance_interval: see `Process.generate`. Raises `FloatingPointError` if the
    model produces non-finite values.
    """
    noise_source = torch.Generator().manual_seed(spec.seed)
    sampler_source = torch.Generator(device).manual_seed(spec.seed + 1)
    batches = []
    with evaluating(model):
        for start in range(0, spec.num_samples, spec.batch_size):
            stop = min(start + spec.batch_size, spec.num_samples)
            noise = torch.stack([torch.randn(shape, generator=noise_source) for _ in range(start, stop)])
            images = process.generate(
                model,
                noise.to(device),
                sampler=None if spec.sampler == "auto" else spec.sampler,
                steps=spec.steps,
                generator=sampler_source,
                condition=None if condition is None else condition[start:stop].to(device),
                guidance=guidance,
                guidance_interval=guidance_interval,
                clip=is_image(shape),
            )
            if not images.isfinite().all():
                raise FloatingPointError(
                    f"training diverged: the model generates non-finite values (images {start} to {stop - 1})"
                )
            batches.append((to_uint8(images) if is_image(shape) else images.float()).cpu())
    return torch.cat(batches)
