"""`python -m tune sample`: images from a checkpoint, as a PNG grid."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tuning.cli.options import example, read_settings, shared, writable_folder

__all__ = ["sample"]


@click.command(
    epilog=example(
        "python -m tune sample --checkpoint runs/train-digits-1f2e3d/ --num-samples 64 --output runs"
    )
)
@shared("checkpoint", "output", "num_samples", "seed", "json")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of the sampler.")
@click.option("--sampler", help="How the process is run backwards: ddim or ancestral, euler or heun.")
@click.option("--raw-weights", is_flag=True, help="Sample from the last weights instead of their average.")
def sample(
    checkpoint: Path,
    output: Path,
    num_samples: int | None,
    seed: int | None,
    as_json: bool,
    steps: int | None,
    sampler: str | None,
    raw_weights: bool,
) -> int:
    """Generate images from a checkpoint and write them as one PNG grid, `samples.png`, into --output.

    A model that is told classes draws them in turn.
    """
    import torch

    from curriculum_ray.evaluation import EvaluationSpec, save_grid
    from curriculum_ray.evaluation.sampling import draw_samples
    from curriculum_ray.evaluation.trained import load_trained

    spec = read_settings(
        EvaluationSpec,
        None,
        (),
        {
            "num_samples": ("--num-samples", num_samples or 64),
            "seed": ("--seed", seed),
            "steps": ("--steps", steps or 50),
            "sampler": ("--sampler", sampler),
            "ema": ("--raw-weights", not raw_weights),
        },
    )
    trained = load_trained(checkpoint, ema=spec.ema)
    folder = writable_folder(output)
    told = trained.conditioning
    condition = torch.arange(spec.num_samples) % told.size if told else None
    samples = draw_samples(spec, trained.process, trained.model, trained.shape, condition)
    path = folder / "samples.png"
    save_grid(samples, path)
    if as_json:
        click.echo(json.dumps({"path": str(path), "num_samples": len(samples), "images": trained.images}))
    else:
        click.echo(f"{len(samples)} images from {trained.path} ({trained.images:,} images seen): {path}")
    return 0
