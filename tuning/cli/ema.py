"""`python -m tune ema`: rebuild averaged weights of another width from a run's snapshots."""

from __future__ import annotations

from pathlib import Path

import click

from curriculum_ray.config import ConfigError
from tuning.cli.options import example
from tuning.cli.output import json_text
from tuning.cli.parameters import FiniteRange, PathOption

__all__ = ["ema"]


@click.command(
    short_help="Rebuild an average of the weights, of any width.",
    epilog=example("python -m tune ema --run runs/train-digits-1f2e3d/ --sigma-rel 0.1 --into runs/ema-0.1"),
)
@click.option(
    "--run",
    "folder",
    type=PathOption(),
    required=True,
    help="Folder of a run trained with ema.power.",
)
@click.option(
    "--sigma-rel",
    type=FiniteRange(min=0, max=0.28, min_open=True, max_open=True),
    required=True,
    help="Relative width of the average.",
)
@click.option("--into", "output", type=PathOption(), required=True, help="A new or empty folder to write.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def ema(folder: Path, sigma_rel: float, output: Path, as_json: bool) -> int:
    """Rebuild the power-function average of any width after training (Karras et al. 2024, §3.2).

    The result is a checkpoint for `sample` and `evaluate`; its raw weights are the last ones of the run.
    """
    from curriculum_ray.evaluation.trained import resolve_checkpoint
    from curriculum_ray.files import check_new_folder
    from curriculum_ray.runs.folder import SNAPSHOTS
    from curriculum_ray.training import checkpoint as checkpoints
    from curriculum_ray.training.ema_posthoc import find_snapshots, rebuild

    path = resolve_checkpoint(folder, "--run")
    if path == folder:
        raise ConfigError(f"--run takes the folder of a run, but {folder} is a checkpoint")
    check_new_folder(output, "--into")
    content = checkpoints.read(path, groups=("model", "ema"))
    snapshots = find_snapshots(folder / SNAPSHOTS)
    averages, images = rebuild(snapshots, sigma_rel)
    merged = {**content.tensors["ema"], **averages}
    if set(merged) != set(content.tensors["ema"]):
        raise ConfigError(f"the snapshots in {folder / SNAPSHOTS} are of a different model than {path}")
    state = {**content.state, "images": images, "ema_sigma_rel": sigma_rel}
    tensors = {"model": content.tensors["model"], "ema": merged}
    try:
        checkpoints.write(output, checkpoints.Checkpoint(tensors=tensors, state=state))
    except checkpoints.CheckpointNotWritten as error:
        raise ConfigError(f"--into: {error}") from None
    if as_json:
        click.echo(json_text({"path": str(output), "sigma_rel": sigma_rel, "images": images}))
    else:
        click.echo(
            f"average of width {sigma_rel} from {len(snapshots)} snapshots up to {images:,} images: {output}"
        )
    return 0
