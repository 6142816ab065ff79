"""`python -m tune evaluate`: FID, KID, precision and recall of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from tuning.cli.options import example, read_settings, shared
from tuning.cli.output import json_text
from tuning.cli.parameters import stored_checkpoint

__all__ = ["evaluate"]


@click.command(
    short_help="Score a checkpoint: FID, KID, precision, recall.",
    epilog=example("python -m tune evaluate --checkpoint runs/train-digits-1f2e3d/ --num-samples 5000"),
)
@shared(
    "checkpoint",
    "data",
    "num_samples",
    "num_workers",
    "use_gpu",
    "seed",
    "config",
    "set",
    "trust_code",
    "log_level",
    "json",
)
@click.option("--raw-weights", is_flag=True, help="Evaluate the last weights instead of their average.")
def evaluate(
    checkpoint: Path,
    data: str | None,
    num_samples: int | None,
    num_workers: int | tuple[int, int] | None,
    use_gpu: bool | None,
    seed: int | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    trust_code: bool,
    as_json: bool,
    raw_weights: bool,
) -> int:
    """Generate images from a checkpoint and compare them with the images it was trained on (or with --data).

    Beside a file of statistics (--set reference=…), --data gives only the conditions of a conditional model. --config
    and --set change the protocol, e.g. --set steps=50; numbers are comparable only if the printed fingerprints are
    equal. Several workers share the work as Ray tasks, on the cluster at RAY_ADDRESS if it is set, and give the same
    numbers as one.
    """
    from curriculum_ray.config import ConfigError, parse
    from curriculum_ray.config.shown import shown
    from curriculum_ray.data import DataSpec, load_data
    from curriculum_ray.data.stream import load_stream
    from curriculum_ray.distributed.capacity import check_resources
    from curriculum_ray.distributed.connection import connected
    from curriculum_ray.distributed.drawing import DrawingTask, draws_in_process, score_on_workers
    from curriculum_ray.evaluation import EvaluationSpec, prepare
    from curriculum_ray.evaluation.guidance import check_guidance
    from curriculum_ray.evaluation.trained import load_trained
    from tuning.cli.workers import worker_resources

    spec = read_settings(
        EvaluationSpec,
        config_file,
        overrides,
        {
            "num_samples": ("--num-samples", num_samples),
            "seed": ("--seed", seed),
            "ema": ("--raw-weights", False if raw_weights else None),
        },
    )
    resources = worker_resources(num_workers, use_gpu)
    check_resources(1, resources)
    trained = load_trained(checkpoint, ema=spec.ema, trust_code=trust_code)
    reference = trained.config.data
    if data is not None and spec.reference is not None and not trained.conditioning:
        raise ConfigError(
            f"--data {shown(data)} and reference {shown(spec.reference)} both say what samples are compared with: "
            "leave one out"
        )
    if data is not None:
        sources = {"": f"--data {shown(data)}, read as {trained.path} says", "name": "--data"}
        reference = parse(DataSpec, {**reference.model_dump(), "name": data}, sources)
    images = load_stream(reference, spec.num_samples).info if reference.streamed else load_data(reference)
    if images.shape != trained.shape:
        there, drawn = ("x".join(map(str, shape)) for shape in (images.shape, trained.shape))
        raise ConfigError(
            f"--data must have items of the model's shape, but those of {images.name} are {there} and {trained.path} "
            f"draws {drawn}"
        )
    if trained.vocabulary and images.vocabulary != trained.vocabulary:
        raise ConfigError(
            f"--data must have captions of the words that the model was trained on, but those of {images.name} differ "
            f"from those of {trained.path}"
        )
    check_guidance(spec.scales, trained.conditioning, trained.config.model, subject=str(trained.path))
    evaluator = prepare(spec, images, trained.process, reference)
    if draws_in_process(resources):
        device = "cuda" if use_gpu else "cpu"
        trained = trained.to(device)
        metrics, _ = evaluator.evaluate(trained.process, trained.model, trained.conditioning, device)
    else:
        task = DrawingTask(
            checkpoint=trained.path.resolve(), spec=spec, trust_code=trust_code, stored=stored_checkpoint()
        )
        with connected(1, resources, say=lambda line: click.echo(line, err=True)):
            metrics = score_on_workers(task, reference, evaluator, resources)
    if as_json:
        result = {"images": trained.images, "metrics": metrics, "fingerprint": evaluator.fingerprint}
        click.echo(json_text({**result, "protocol": evaluator.protocol}))
        return 0
    click.echo(f"{trained.path} ({trained.images:,} images seen)")
    if evaluator.note is not None:
        click.echo(f"  {evaluator.note}")
    width = max(map(len, evaluator.names))
    for name in evaluator.names:
        click.echo(f"  {name:{width}}  {metrics[name]:.4g}")
    protocol = evaluator.protocol
    click.echo(
        f"protocol {evaluator.fingerprint}: {protocol['extractor']}, {protocol['num_samples']} samples, "
        f"{protocol['sampler']} {protocol['steps']} steps, seed {protocol['seed']}"
    )
    return 0
