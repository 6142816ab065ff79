"""`python -m tune search`: find a schedule, beside its controls, and confirm it on fresh seeds."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tuning.cli.options import example, given, opened_output, read_settings, shared
from tuning.cli.output import json_text
from tuning.cli.parameters import FiniteRange, NameOption

__all__ = ["search"]


@click.command(
    short_help="Find a schedule, and confirm it on fresh seeds.",
    epilog=example(
        "python -m tune search\npython -m tune search --data my-images/ --space wide --trials 40 --use-gpu"
    ),
)
@shared("data", "output_or_bucket")
@click.option(
    "--name",
    type=NameOption(),
    help="Name of the study and its folder; by default from data, process, space and seed.",
)
@click.option("--space", help="A shipped search space (default, paper, wide), or a YAML file.")
@click.option(
    "--sampler",
    type=click.Choice(["tpe", "gp", "cmaes", "random", "grid", "nsgaii"]),
    help="How Optuna chooses; default tpe.",
)
@click.option("--trials", type=click.IntRange(min=1), help="Schedules to try, beside the controls.")
@click.option("--images", type=click.IntRange(min=1), help="The budget of each trial in images seen.")
@click.option(
    "--metric",
    type=click.Choice(["fid", "kid", "precision", "recall", "inception_score", "clip_score"]),
    help="What to improve.",
)
@click.option("--concurrent", type=click.IntRange(min=1), help="Trials at a time; by default what fits.")
@click.option(
    "--pack",
    type=click.IntRange(min=1),
    help="Trials that one worker trains at a time as an ensemble: for small networks on a GPU; slower on a CPU.",
)
@click.option(
    "--hours",
    type=FiniteRange(min=0, min_open=True),
    help="Hours for the whole study, over all of its starts: fewer schedules are tried where they would not leave time "
    "for the confirmations.",
)
@shared(
    "confirm_seeds",
    "num_samples",
    "num_workers",
    "share",
    "use_gpu",
    "isolate",
    "seed",
    "mlflow_uri",
    "system_metrics",
    "config",
    "set",
    "trust_code",
    "log_level",
    "json",
)
def search(
    data: str | None,
    output: Path | str,
    name: str | None,
    space: str | None,
    sampler: str | None,
    trials: int | None,
    images: int | None,
    metric: str | None,
    concurrent: int | None,
    pack: int | None,
    hours: float | None,
    confirm_seeds: int | tuple[int, int] | None,
    num_samples: int | None,
    num_workers: int | tuple[int, int] | None,
    share: float | None,
    use_gpu: bool | None,
    isolate: bool | None,
    seed: int | None,
    mlflow_uri: str | None,
    system_metrics: bool,
    config_file: Path | None,
    overrides: tuple[str, ...],
    trust_code: bool,
    as_json: bool,
) -> int:
    """Search cluster count, pacing and order of a timestep curriculum, at an equal budget for every trial.

    Uniform sampling is trained too, and so is the best schedule with its order reversed and in random order, unless
    the settings name the arms. The best schedule and uniform sampling are then trained again on fresh seeds until
    the answer stands: the schedule beats uniform sampling, loses, or equals it within a margin; it may stay
    undecided. The same command run again goes on where it was interrupted.
    """
    from tuning.cli.summary import as_object, show
    from tuning.search.launch import run_study
    from tuning.study.config import StudyConfig
    from tuning.terminal.text import make_console
    from tuning.tracking.leftovers import store_leftovers

    config = read_settings(
        StudyConfig,
        config_file,
        overrides,
        {
            "run.data.name": ("--data", data),
            "space": ("--space", space),
            "sampler": ("--sampler", sampler),
            "trials": ("--trials", trials),
            "run.images": ("--images", images),
            "metric": ("--metric", metric),
            "pack": ("--pack", pack),
            "hours": ("--hours", hours),
            "confirm_seeds": ("--confirm-seeds", confirm_seeds),
            "run.evaluation.num_samples": ("--num-samples", num_samples),
            "resources.num_workers": ("--num-workers", num_workers),
            "share": ("--share", share),
            "resources.use_gpu": ("--use-gpu", use_gpu),
            "resources.isolate": ("--isolate", isolate),
            "seed": ("--seed", seed),
        },
        trust_code,
        within="run",
    )
    console = make_console(stderr=as_json, width=None if sys.stdout.isatty() else 120)
    folder, copy = opened_output(output, mlflow_uri)
    if copy is None:
        store_leftovers(folder, mlflow_uri, lambda line: click.echo(line, err=True))
    outcome = run_study(
        config, folder, name, mlflow_uri, concurrent, console, trust_code, system_metrics, copy
    )
    if as_json:
        click.echo(json_text(as_object(config, outcome), indent=1))
    else:
        show(config, outcome, console, given("output", "mlflow_uri"), trust_code)
    return 0 if outcome.finished else 1
