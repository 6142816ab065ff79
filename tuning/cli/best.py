"""`python -m tune best`: the best schedule that MLflow knows of, and whether it beats uniform sampling."""

from __future__ import annotations

import json
from pathlib import Path

import click

from curriculum_ray.runs.folder import SCHEDULE_FILE
from tuning.cli.options import PathOption, example, shared

__all__ = ["best"]


@click.command(epilog=example("python -m tune best --data digits --metric fid\npython -m tune best --json"))
@shared("output", "data")
@click.option("--process", help="Only trials of this process, e.g. ddpm-epsilon.")
@click.option("--experiment", help="Only this MLflow experiment, e.g. digits/ddpm-epsilon.")
@click.option("--study", help="Only this study.")
@click.option(
    "--metric", type=click.Choice(["fid", "kid", "precision", "recall"]), default="fid", show_default=True
)
@click.option("--fingerprint", help="Only trials measured by this evaluation protocol (or its first digits).")
@click.option("--confirmed", is_flag=True, help="Only studies whose best was run again on fresh seeds.")
@click.option(
    "--write",
    "target",
    type=PathOption(),
    default=Path(SCHEDULE_FILE),
    show_default=True,
    help="Where the schedule is written.",
)
@shared("mlflow_uri", "force", "json")
def best(
    output: Path,
    data: str | None,
    process: str | None,
    experiment: str | None,
    study: str | None,
    metric: str,
    fingerprint: str | None,
    confirmed: bool,
    target: Path,
    mlflow_uri: str | None,
    force: bool,
    as_json: bool,
) -> int:
    """Ask MLflow for the best schedule, print it, and write it to a file that `train` and the library read.

    The store is --mlflow-uri, else MLFLOW_TRACKING_URI, else the embedded one in --output. Only trials measured by
    one evaluation protocol are compared.
    """
    from curriculum_ray.own_files import check_own
    from curriculum_ray.shell import tune_command
    from tuning.tracking.best import best as ask
    from tuning.tracking.leftovers import store_leftovers

    store_leftovers(output, mlflow_uri, lambda line: click.echo(line, err=True))

    settings = target.with_suffix(".run.yaml")
    for path in (target, settings):
        check_own(path, force=force)
    found = ask(
        output,
        mlflow_uri,
        metric=metric,
        experiment=experiment,
        data=data,
        process=process,
        study=study,
        fingerprint=fingerprint,
        confirmed=confirmed,
    )
    kept = [found.write(target, force=force), found.write_settings(settings, force=force)]
    for path in filter(None, kept):
        click.echo(f"an earlier file was kept as {path}", err=True)
    again = None if found.settings_text is None else tune_command("train", "--config", settings)
    if as_json:
        click.echo(json.dumps({**found.to_json(), "written": str(target), "reproduce": again}, indent=1))
        return 0
    rows = {
        "schedule": found.description,
        "answer": found.sentence,
        "metrics": ", ".join(f"{key} {value:.4g}" for key, value in sorted(found.metrics.items())),
        "images": f"{found.images:,} seen, seed {found.seed}",
        "protocol": found.fingerprint,
        "run": f"{found.run_id}  trial {found.trial} of {found.study} ({found.experiment})",
        "written": str(target),
        "again": again or "not possible: its config.yaml is not in MLflow any more",
        "next": tune_command("train", "--schedule", target),
    }
    for name, value in rows.items():
        click.echo(f"{name:9} {value}")
    click.echo(f"\n{found.schedule_text.rstrip()}")
    return 0
