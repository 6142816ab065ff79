"""Train the digits' feature extractor that ships with curriculum_ray.evaluation; half a minute on one core.

    python benchmarks/train_digits_extractor.py --output digits-cnn.safetensors

Prints the accuracy on the held-out fifth of the digits and ends with one line of JSON: "accuracy" (held out,
0 to 1), "train_accuracy", "feature_scale", "bytes" and "sha256" of the file. A new file is a new protocol:
numbers measured with another one no longer compare, and their fingerprints say so.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import click
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from curriculum_ray.data import DataSpec, digits_split, load_data, to_uint8
from curriculum_ray.evaluation.digits_cnn import DIGITS_CNN_WEIGHTS, DigitsCNN, save_digits_cnn

VERSION = 1
SEED = 0
EPOCHS = 60
BATCH_SIZE = 64
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2
LABEL_SMOOTHING = 0.05
# Augmentation: the largest rotation in degrees, change of size, shift in pixels, noise in units of [-1, 1].
ROTATION, ZOOM, SHIFT, NOISE = 12.0, 0.1, 1.0, 0.3
TOTAL_VARIANCE = 350.0
"""Summed variance of the scaled features over all digits; FID between two halves of them is then about 3."""


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate, resize, shift and add noise at random; takes and returns images (B, 1, 8, 8) around [-1, 1]."""
    count = len(images)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator) * 2 - 1

    angle = uniform() * math.radians(ROTATION)
    zoom = 1 + uniform() * ZOOM
    shift = uniform(2, 1) * SHIFT / 4  # the picture is 2 wide in the coordinates of affine_grid
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).reshape(count, 2, 2)
    transform = torch.cat([rotation * zoom[:, None, None], shift], dim=2)
    grid = affine_grid(transform, list(images.shape), align_corners=False)
    moved = grid_sample(images + 1, grid, align_corners=False) - 1  # what comes in from outside is paper, -1
    strength = torch.rand(count, 1, 1, 1, generator=generator) * NOISE
    return moved + strength * torch.randn(images.shape, generator=generator)


def train(images: Tensor, labels: Tensor, seed: int) -> DigitsCNN:
    """Train on `images` (N, 1, 8, 8) in [-1, 1] with `labels` (N,); the seed determines the result."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = DigitsCNN()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = len(images) // BATCH_SIZE
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(images), generator=generator)
        for batch in order[: steps * BATCH_SIZE].split(BATCH_SIZE):
            logits = network.logits(augment(images[batch], generator))
            loss = cross_entropy(logits, labels[batch], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
    return network.eval().requires_grad_(False)


def accuracy(network: DigitsCNN, images: Tensor, labels: Tensor) -> float:
    """Share of `images` whose class the network names."""
    return (network.logits(images).argmax(1) == labels).double().mean().item()


@click.command()
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), default=DIGITS_CNN_WEIGHTS)
@click.option("--seed", type=int, default=SEED, show_default=True)
def main(output: Path, seed: int) -> None:
    torch.set_num_threads(1)  # sums in another order would give other weights
    data = load_data(DataSpec(holdout_share=0))
    assert data.condition is not None
    train_index, held_out = digits_split()
    network = train(data.items[train_index], data.condition[train_index], seed)
    features = network(to_uint8(data.items))
    network.feature_scale = (TOTAL_VARIANCE / features.double().var(dim=0).sum()).sqrt().float()
    results = {
        "accuracy": round(accuracy(network, data.items[held_out], data.condition[held_out]), 4),
        "train_accuracy": round(accuracy(network, data.items[train_index], data.condition[train_index]), 4),
        "feature_scale": round(network.feature_scale.item(), 4),
    }
    save_digits_cnn(network, output, version=VERSION, seed=seed, **results)
    content = output.read_bytes()
    digest = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    print(f"held-out accuracy {results['accuracy']:.2%} on {len(held_out)} digits")
    print(f"{len(content):,} bytes in {output}")
    print(json.dumps(results | digest))


if __name__ == "__main__":
    main()
