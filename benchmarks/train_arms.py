"""What `bench_train.py` measures: networks of equal size with their data, and the arms that train them.

An arm is a function that trains for a round's steps and returns how many images it saw. It leaves no gradients behind:
those of five DiT-XL/2 at once would not fit beside their weights and averages on a GPU of 80 GB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from curriculum_ray.config import parse
from curriculum_ray.data import Dataset, load_data
from curriculum_ray.models import DiT, build_model
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.flops import training_flops
from curriculum_ray.training.hooks import NoHooks
from curriculum_ray.training.loop import train
from curriculum_ray.training.trainer import LogLine, Trainer
from curriculum_ray.training.world import World

__all__ = [
    "PLATEAU",
    "Row",
    "bare_arm",
    "dit_row",
    "heldout_arm",
    "loop_arm",
    "network",
    "operations",
    "script_arm",
    "unet_row",
]

PLATEAU = {
    "clusters": {"by": "uniform", "count": 20},
    "order": {"direction": "easy_to_hard"},
    "pacing": {"rule": "plateau", "patience": 10**5},
}


@dataclass(frozen=True)
class Row:
    """What is measured: our network, diffusers' of equal size, the data, the batch and the steps of a round."""

    model: dict[str, Any]
    rival: dict[str, Any]
    data: Dataset
    batch: int
    steps: int
    compile: bool | Literal["blocks"] = True
    """How the networks are compiled on a GPU, except that of the script."""


def latents(count: int = 512) -> Dataset:
    """Noise in the shape of an autoencoder's latents of 256x256 images, with 1000 classes."""
    generator = torch.Generator().manual_seed(0)
    return Dataset(
        name="latents",
        stored=torch.randn(count, 4, 32, 32, generator=generator),
        condition=torch.randint(1000, (count,), generator=generator),
        class_names=tuple(str(number) for number in range(1000)),
    )


def dit_row(
    size: str,
    layers: int,
    heads: int,
    width: int,
    batch: int,
    steps: int,
    compiled: bool | Literal["blocks"] = True,
) -> Row:
    """DiT of a published size on latents."""
    config = {"num_layers": layers, "num_attention_heads": heads, "attention_head_dim": width // heads}
    rival = {"kind": "diffusers", "class_name": "DiTTransformer2DModel", "config": config}
    return Row({"kind": "dit", "size": size}, rival, latents(), batch, steps, compiled)


def unet_row() -> Row:
    """The digits' U-Net, and the UNet2DModel whose operations come nearest to it."""
    data = load_data(TrainConfig().data)
    ours: dict[str, Any] = {"kind": "unet"}
    aim = operations(ours, data)

    def rival(channels: int) -> dict[str, Any]:
        config = {
            "block_out_channels": [channels, 2 * channels],
            "down_block_types": ["DownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "UpBlock2D"],
            "layers_per_block": 1,
            "norm_num_groups": 2,
            "attention_head_dim": 2 * channels,
        }
        return {"kind": "diffusers", "class_name": "UNet2DModel", "config": config}

    nearest = min((rival(c) for c in range(8, 33, 2)), key=lambda spec: abs(operations(spec, data) - aim))
    return Row(ours, nearest, data, 128, 60)


def network(model: dict[str, Any], data: Dataset) -> nn.Module:
    """The network as a training run would build it."""
    return build_model(parse(TrainConfig, {"model": model}, "model").model, data.shape, data.conditioning)


def operations(model: dict[str, Any], data: Dataset) -> int:
    """Operations of a training step per item."""
    told = None if data.condition is None else data.condition[:1]
    return training_flops(network(model, data), data.shape, 1, told)


class _StopAtSecondLine(NoHooks):
    def __init__(self) -> None:
        self._lines = 0

    def on_log(self, line: LogLine) -> bool:
        self._lines += 1
        return self._lines == 2


def loop_arm(
    row: Row, steps: int, device: torch.device, schedule: dict[str, Any] | None
) -> Callable[[], int]:
    """The whole loop for `steps` steps, in which it logs twice, rounded up to whole windows; returns its images."""
    cuda = device.type == "cuda"
    settings: dict[str, Any] = {
        "model": row.model,
        "batch_size": row.batch,
        "images": 10**7 * row.batch,
        "window": min(10, steps // 2),
        "log_every_images": steps // 2 * row.batch,
        "precision": "bf16" if cuda else "fp32",
        "compile": cuda and row.compile,
    }
    if schedule:
        settings["schedule"] = schedule
    trainer = Trainer(parse(TrainConfig, settings, "bench"), row.data, World(device=device))

    def run() -> int:
        before = trainer.images
        train(trainer, _StopAtSecondLine())
        trainer.optimizer.zero_grad()
        return trainer.images - before

    return run


def heldout_arm(row: Row, device: torch.device) -> tuple[Callable[[], int], int]:
    """One measurement of the held-out loss at the default settings, and the images of training between two.

    The arm returns 1.
    """
    settings = {
        "model": row.model,
        "batch_size": row.batch,
        "precision": "bf16" if device.type == "cuda" else "fp32",
    }
    config = parse(TrainConfig, settings, "bench")
    trainer = Trainer(config, row.data, World(device=device))

    def run() -> int:
        assert trainer.heldout is not None
        trainer.heldout.measure(trainer)
        return 1

    assert config.heldout_steps is not None
    return run, config.heldout_steps * config.batch_size


def bare_arm(model: dict[str, Any], row: Row, steps: int, device: torch.device) -> Callable[[], int]:
    """`steps` times forward, squared error, backward and optimizer on one batch; returns the images."""
    cuda = device.type == "cuda"
    net: Any = network(model, row.data).to(device)
    if cuda and row.compile == "blocks":
        for block in net.blocks if isinstance(net, DiT) else net.network.transformer_blocks:
            block.compile(dynamic=False)
    elif cuda:
        net.compile(dynamic=False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    x, target = (torch.randn(row.batch, *row.data.shape, device=device) for _ in range(2))
    level = 1000 * torch.rand(row.batch, device=device)
    told: Tensor | None = None if row.data.condition is None else row.data.condition[: row.batch].to(device)

    def run() -> int:
        for _ in range(steps):
            with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
                output = net(x, level, told)
            loss = (output.float() - target).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return steps * row.batch

    return run


def script_arm(row: Row, steps: int, device: torch.device) -> Callable[[], int]:
    """`steps` of diffusers' own training script, at its settings, with its `--use_ema`; returns the images."""
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    cuda = device.type == "cuda"
    net = network(row.rival, row.data).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    average = EMAModel(net.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    items = row.data.items.to(device)
    labels = None if row.data.condition is None else row.data.condition.to(device)

    def run() -> int:
        for _ in range(steps):
            chosen = torch.randint(len(items), (row.batch,), device=device)
            clean = items[chosen]
            noise = torch.randn_like(clean)
            t = torch.randint(1000, (row.batch,), device=device)
            noisy = scheduler.add_noise(clean, noise, t)
            with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
                output = net(noisy, t.float(), None if labels is None else labels[chosen])
            loss = nn.functional.mse_loss(output.float(), noise)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            average.step(net.parameters())
        return steps * row.batch

    return run
