"""`python -m tune export`: convert a checkpoint to a folder for another library."""

from __future__ import annotations

from pathlib import Path

import click

from tuning.cli.options import example, shared
from tuning.cli.output import json_text
from tuning.cli.parameters import PathOption

__all__ = ["export"]


@click.command(
    short_help="Write a trained model for diffusers.",
    epilog=example(
        "python -m tune export --checkpoint runs/train-digits-1f2e3d/ --to diffusers --into exported"
    ),
)
@shared("checkpoint", "trust_code", "json")
@click.option("--to", "target", type=click.Choice(["diffusers"]), required=True, help="The library.")
@click.option("--into", "output", type=PathOption(), required=True, help="A new or empty folder to write.")
@click.option("--raw-weights", is_flag=True, help="Export the last weights instead of their average.")
def export(
    checkpoint: Path, target: str, output: Path, raw_weights: bool, trust_code: bool, as_json: bool
) -> int:
    """Write a trained model as a folder that `DiffusionPipeline.from_pretrained` loads.

    Its samples equal ours for the same noise; its README.md says how to load it and how it was trained.
    """
    from curriculum_ray.evaluation.trained import load_trained
    from curriculum_ray.export import export_diffusers

    trained = load_trained(checkpoint, ema=not raw_weights, trust_code=trust_code)
    export_diffusers(trained, output, raw_weights=raw_weights)
    if as_json:
        click.echo(json_text({"path": str(output), "to": target, "images": trained.images}))
    else:
        click.echo(f"{trained.path} ({trained.images:,} images seen) for {target}: {output}")
    return 0
