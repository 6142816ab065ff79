"""One small model for each process and data set, and a picture of what it generates.

    python benchmarks/gallery.py --output gallery                     # all
    python benchmarks/gallery.py --process flow --data tones --data mixture2d

One to five minutes each on one core, and about forty for shapes. Writes PROCESS-DATA.png and, beside them,
DATA.png with real items. Each model is conditioned on the data's labels: classes, or captions of the shapes, which are
drawn with guidance. The last line is JSON: by picture, the images seen, the last loss and the seconds.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import torch

from curriculum_ray.config import parse
from curriculum_ray.data import Dataset, load_data, to_uint8
from curriculum_ray.evaluation import EvaluationSpec, save_grid
from curriculum_ray.evaluation.sampling import draw_condition, draw_samples
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.loop import train
from curriculum_ray.training.trainer import Trainer

PROCESSES: dict[str, dict[str, Any]] = {
    "ddpm": {"kind": "ddpm", "prediction": "v"},
    "ddpm-ztsnr": {"kind": "ddpm", "prediction": "v", "zero_terminal_snr": True},
    "edm": {"kind": "edm"},
    "flow": {"kind": "flow"},
}
# Sigmas have no uniform time: EDM draws them from a log-normal distribution (Karras et al. 2022, Table 1).
SCHEDULES: dict[str, dict[str, Any]] = {
    "edm": {"base": {"kind": "log_normal_sigma", "mean": -1.2, "std": 1.2}}
}
IMAGES = {"digits": 89_600, "photos": 64_000, "shapes": 320_000, "mixture2d": 256_000, "tones": 128_000}
MODELS: dict[str, dict[str, Any]] = {
    "digits": {"kind": "unet", "blocks": 2},
    "photos": {"kind": "unet", "base_channels": 24},
    "shapes": {"kind": "unet", "base_channels": 32, "channel_mult": [1, 2, 4]},
    "mixture2d": {"kind": "mlp"},
    "tones": {"kind": "dit", "depth": 4, "width": 128, "heads": 4, "patch": 4},
}
# What else differs from the defaults. Crisp edges take many small steps, and a caption says what is to be drawn.
CHANGES: dict[str, dict[str, Any]] = {
    "shapes": {"data": {"name": "shapes", "conditioning": "text"}, "batch_size": 32},
}
LEARNING_RATES = {"tones": 1e-3, "shapes": 1e-3}
GUIDANCE = {"shapes": 2.0}


def settings(process: str, data: str, share: float) -> TrainConfig:
    """The training of one picture; `share` of its full budget."""
    values = {
        "data": {"name": data},
        "process": PROCESSES[process],
        "model": MODELS[data],
        "schedule": SCHEDULES.get(process, {}),
        "images": round(IMAGES[data] * share),
        "optimizer": {"schedule": "cosine", "learning_rate": LEARNING_RATES.get(data, 2e-3)},
        **CHANGES.get(data, {}),
    }
    return parse(TrainConfig, values, f"{process}-{data}")


def generate(trainer: Trainer, data: Dataset, count: int) -> torch.Tensor:
    """Samples of the averaged weights, 50 steps of the process's first sampler; guided where `GUIDANCE` says so."""
    spec = EvaluationSpec(num_samples=count, steps=50, guidance=GUIDANCE.get(data.name, 1.0))
    told = None
    if data.condition is not None and trainer.conditioning:
        told = draw_condition(data.condition, count, 0)
    return draw_samples(spec, trainer.process, trainer.ema.model, data.shape, told)


@click.command()
@click.option("--process", "processes", multiple=True, type=click.Choice(list(PROCESSES)))
@click.option("--data", "names", multiple=True, type=click.Choice(list(MODELS)))
@click.option("--output", type=click.Path(path_type=Path), default=Path("gallery"), show_default=True)
@click.option("--share", default=1.0, show_default=True, help="Of the full training budget.")
def main(processes: tuple[str, ...], names: tuple[str, ...], output: Path, share: float) -> None:
    torch.set_num_threads(1)
    made = {}
    for name in names or MODELS:
        data = load_data(settings("ddpm", name, share).data)
        count = 1000 if len(data.shape) == 1 else 64
        real = data.items[torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:count]]
        save_grid(to_uint8(real) if len(data.shape) == 3 else real, output / f"{name}.png", count)
        for process in processes or PROCESSES:
            start = time.perf_counter()
            trainer = Trainer(settings(process, name, share), data)
            train(trainer)
            save_grid(generate(trainer, data, count), output / f"{process}-{name}.png", count)
            seconds = round(time.perf_counter() - start)
            made[f"{process}-{name}"] = {"images": trainer.images, "loss": trainer.loss, "seconds": seconds}
            print(
                f"{output / f'{process}-{name}.png'}: {trainer.images:,} images seen, {seconds} s", flush=True
            )
    print(json.dumps(made))


if __name__ == "__main__":
    main()
