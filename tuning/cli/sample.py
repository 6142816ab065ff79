"""`python -m tune sample`: images, signals or points from a checkpoint, as a PNG grid."""

from __future__ import annotations

from pathlib import Path

import click

from curriculum_ray.config import ConfigError
from curriculum_ray.runs.folder import BEST
from tuning.cli.options import example, read_settings, shared, writable_folder
from tuning.cli.output import json_text
from tuning.cli.parameters import FiniteRange, stored_checkpoint
from tuning.folder.layout import TRIALS

__all__ = ["sample"]


@click.command(
    short_help="Draw samples from a checkpoint.",
    epilog=example(
        "python -m tune sample --checkpoint runs/train-digits-1f2e3d/ --num-samples 64 --output runs"
    ),
)
@shared(
    "checkpoint",
    "output",
    "num_samples",
    "num_workers",
    "use_gpu",
    "seed",
    "trust_code",
    "force",
    "log_level",
    "json",
)
@click.option("--steps", type=click.IntRange(min=1), help="Steps of the sampler.")
@click.option("--sampler", help="How to reverse the process: ddim, ancestral, heun, euler or stochastic.")
@click.option(
    "--caption",
    "captions",
    multiple=True,
    help="Caption for a model conditioned on captions; several take turns, by default there is none.",
)
@click.option(
    "--guidance",
    type=FiniteRange(min=0),
    default=1.0,
    show_default=True,
    help="Scale of classifier-free guidance, for a conditional model; 1 is none.",
)
@click.option(
    "--guidance-interval",
    type=click.Tuple([FiniteRange(min=0), FiniteRange(min=0)]),
    metavar="LOW HIGH",
    help="The lowest and highest noise that is guided, as sigma; by default all.",
)
@click.option("--raw-weights", is_flag=True, help="Sample from the last weights instead of their average.")
def sample(
    checkpoint: Path,
    output: Path,
    num_samples: int | None,
    num_workers: int | tuple[int, int] | None,
    use_gpu: bool | None,
    seed: int | None,
    trust_code: bool,
    force: bool,
    as_json: bool,
    steps: int | None,
    sampler: str | None,
    captions: tuple[str, ...],
    guidance: float,
    guidance_interval: tuple[float, float] | None,
    raw_weights: bool,
) -> int:
    """Generate items from a checkpoint and write them as one PNG grid, `samples-RUN-IMAGES.png`, into --output.

    Classes or captions of a conditional model take turns. Signals become line plots, points scatter plots,
    and cached latents images, decoded by their autoencoder (data.vae). Several workers share the work as Ray tasks, on
    the cluster at RAY_ADDRESS if it is set, and draw the same samples as one.
    """
    import torch

    from curriculum_ray.data.autoencoder import decode_latents
    from curriculum_ray.data.prompts import condition_from_prompts
    from curriculum_ray.distributed.capacity import check_resources
    from curriculum_ray.distributed.connection import connected
    from curriculum_ray.distributed.drawing import DrawingTask, draw_on_workers, draws_in_process
    from curriculum_ray.evaluation import EvaluationSpec, grid_png
    from curriculum_ray.evaluation.guidance import check_guidance
    from curriculum_ray.evaluation.preparation import resolve_sampler
    from curriculum_ray.evaluation.sampling import draw_samples
    from curriculum_ray.evaluation.trained import load_trained
    from curriculum_ray.own_files import check_own, write_own
    from tuning.cli.workers import worker_resources

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
            "guidance": ("--guidance", guidance),
            "guidance_interval": ("--guidance-interval", guidance_interval),
        },
    )
    if len(captions) > spec.num_samples:
        raise ConfigError(
            f"--num-samples must be at least {len(captions)}, the number of captions that take turns, but got "
            f"{spec.num_samples}"
        )
    resources = worker_resources(num_workers, use_gpu)
    check_resources(1, resources)
    trained = load_trained(checkpoint, ema=spec.ema, trust_code=trust_code)
    spec = resolve_sampler(spec, trained.process, ("--sampler", "--steps"))
    path = writable_folder(output) / f"samples-{_source(trained.path)}-{trained.images}.png"
    check_own(path, force=force)
    conditioning = trained.conditioning
    check_guidance((guidance,), conditioning, trained.config.model, "--guidance", str(trained.path))
    if guidance != 1 and conditioning.length and not captions:
        raise ConfigError("--guidance needs --caption for a model conditioned on captions")
    condition = None
    if captions:
        if not conditioning.length:
            raise ConfigError(
                f"--caption is for a model conditioned on captions, but {trained.path} has {conditioning}"
            )
        each = condition_from_prompts(captions, trained.config.data, conditioning, trained.vocabulary)
        condition = each[torch.arange(spec.num_samples) % len(captions)]
    elif conditioning.kind == "class":
        condition = torch.arange(spec.num_samples) % conditioning.size
    if draws_in_process(resources):
        device = "cuda" if use_gpu else "cpu"
        trained = trained.to(device)
        samples = draw_samples(spec, trained.process, trained.model, trained.shape, condition, device)
        if trained.config.data.vae is not None:
            samples = decode_latents(trained.config.data, samples, device)
    else:
        task = DrawingTask(
            checkpoint=trained.path.resolve(), spec=spec, trust_code=trust_code, stored=stored_checkpoint()
        )
        with connected(1, resources, say=lambda line: click.echo(line, err=True)):
            samples = draw_on_workers(task, condition, resources)
    kept = write_own(path, grid_png(samples), force=force)
    if kept is not None:
        click.echo(f"an earlier file was kept as {kept}", err=True)
    if as_json:
        found = {"path": str(path), "num_samples": len(samples), "images": trained.images}
        click.echo(json_text({**found, "captions": list(captions)} if captions else found))
    else:
        click.echo(f"{len(samples)} samples from {trained.path} ({trained.images:,} images seen): {path}")
        if len(captions) > 1:
            click.echo(f"captions in turn, from the top left: {', '.join(captions)}")
    return 0


def _source(checkpoint: Path) -> str:
    """The name of the run, for a trial after that of its study; a checkpoint outside a run's folder is named itself."""
    folder = checkpoint.resolve()
    while folder.name == BEST or folder.name.startswith("checkpoint-"):
        folder = folder.parent
    if folder.parent.name == TRIALS:
        return f"{folder.parent.parent.name}-{folder.name}"
    return folder.name
