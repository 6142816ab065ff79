"""How small a difference FID, KID, precision and recall can see on the digits; four minutes on one core.

    python benchmarks/metric_noise_floor.py

Three tables of mean and standard deviation:

- real: one half of the digits against the other, over random splits. No model comes closer than this.
- one model: a U-Net trained with uniform sampling, over sampling seeds.
- two models: the difference between two such models of different training seeds, over shared sampling seeds.
  This is how arms are compared: sampling noise of this size is in each difference.

The last line is JSON: "real", "model" and "paired", each by number of samples ("898", "1797", ...), each with
"fid", "kid", "precision" and "recall", each with "mean" and "sd".
"""

from __future__ import annotations

import json
import statistics

import click
import torch

from curriculum_ray.data import Dataset, DataSpec, load_data, to_uint8
from curriculum_ray.evaluation import EvaluationSpec, prepare
from curriculum_ray.training import loop
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.trainer import Trainer

Metrics = dict[str, float]
Summary = dict[str, dict[str, float]]
NAMES = ("fid", "kid", "precision", "recall")


def summarise(rows: list[Metrics]) -> Summary:
    """Mean and standard deviation of each metric over `rows`, at least two."""
    columns = {name: [row[name] for row in rows] for name in NAMES}
    return {
        name: {"mean": round(statistics.mean(values), 4), "sd": round(statistics.stdev(values), 4)}
        for name, values in columns.items()
    }


def real_halves(data: Dataset, splits: int) -> tuple[int, list[Metrics]]:
    """Score one half of the images against the other; returns the size of a half and a row for each split."""
    half = len(data) // 2
    rows = []
    for split in range(splits):
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(split))
        reference = Dataset("half of the digits", data.items[order[:half]])
        evaluator = prepare(EvaluationSpec(num_samples=half), reference)
        rows.append(evaluator.score(to_uint8(data.items[order[half : 2 * half]])))
    return half, rows


def train(data: Dataset, images: int, seed: int) -> Trainer:
    """Train the default model with uniform sampling."""
    trainer = Trainer(TrainConfig(images=images, seed=seed), data)
    loop.train(trainer)
    return trainer


def over_sampling_seeds(
    data: Dataset, trainer: Trainer, sizes: list[int], seeds: int
) -> dict[int, list[Metrics]]:
    """Score the model's first n samples, for each n of `sizes` and each sampling seed."""
    rows: dict[int, list[Metrics]] = {size: [] for size in sizes}
    for seed in range(seeds):
        spec = EvaluationSpec(num_samples=max(sizes), seed=seed)
        samples = prepare(spec, data, trainer.process).generate(trainer.process, trainer.ema.model)
        for size in sizes:
            evaluator = prepare(EvaluationSpec(num_samples=size, seed=seed), data)
            rows[size].append(evaluator.score(samples[:size]))
    return rows


def show(title: str, count: int, rows: list[Metrics]) -> Summary:
    """Print a line of the table; returns what it says."""
    summary = summarise(rows)
    cells = "".join(f"{summary[name]['mean']:12.3f} ± {summary[name]['sd']:<7.3f}" for name in NAMES)
    print(f"{title:<12}{count:>6}{cells}", flush=True)
    return summary


@click.command()
@click.option("--images", default=89_600, show_default=True, help="Training budget of each model.")
@click.option("--splits", default=10, show_default=True, help="Random splits of the real digits.")
@click.option("--seeds", default=6, show_default=True, help="Sampling seeds.")
@click.option(
    "--num-samples", "sizes", multiple=True, type=int, default=(1797, 2000, 5000), show_default=True
)
def main(images: int, splits: int, seeds: int, sizes: tuple[int, ...]) -> None:
    torch.set_num_threads(1)
    data = load_data(DataSpec(holdout_share=0))
    print(f"{'mean ± sd':<12}{'n':>6}" + "".join(f"{name:>15}{'':7}" for name in NAMES))
    half, rows = real_halves(data, splits)
    results: dict[str, dict[str, Summary]] = {"real": {str(half): show("real", half, rows)}}
    first, second = (
        over_sampling_seeds(data, train(data, images, seed), list(sizes), seeds) for seed in (0, 1)
    )
    results["model"] = {str(n): show("one model", n, first[n]) for n in sizes}
    paired = {
        n: [{name: a[name] - b[name] for name in NAMES} for a, b in zip(first[n], second[n], strict=True)]
        for n in sizes
    }
    results["paired"] = {str(n): show("two models", n, paired[n]) for n in sizes}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
