"""`python -m tune best`: what a study in MLflow found, and the schedule that it stands for as a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curriculum_ray.config import YAML_SUFFIXES, ConfigError
from curriculum_ray.runs.folder import SCHEDULE_FILE
from tuning.cli.options import example, folder_of_store, given, shared
from tuning.cli.output import json_text
from tuning.cli.parameters import FileOption
from tuning.folder.layout import SETTINGS_SUFFIX

if TYPE_CHECKING:
    from tuning.tracking.best import BestRun

__all__ = ["best"]

CURRICULUM_FILE = "curriculum.yaml"


@click.command(
    short_help="Show what a study found, and write its schedule.",
    epilog=example(
        "python -m tune best --data digits --metric fid\n"
        "python -m tune best --study my-study --curriculum --write curriculum.yaml"
    ),
)
@shared("output_or_bucket")
@click.option("--data", help="Only trials of these data: their name, or the path of their folder.")
@click.option("--process", help="Only trials of this process, e.g. ddpm-epsilon.")
@click.option("--experiment", help="Only this MLflow experiment, e.g. digits/ddpm-epsilon.")
@click.option("--study", help="Only this study.")
@click.option(
    "--metric",
    type=click.Choice(["fid", "kid", "precision", "recall", "inception_score", "clip_score"]),
    default="fid",
    show_default=True,
)
@click.option("--fingerprint", help="Only trials measured by this evaluation protocol (or its first digits).")
@click.option("--confirmed", is_flag=True, help="Only studies whose best was run again on fresh seeds.")
@click.option(
    "--curriculum",
    is_flag=True,
    help="Write the best curriculum even where it did not beat uniform sampling, and no arm without one.",
)
@click.option(
    "--write",
    "target",
    type=FileOption(),
    default=Path(SCHEDULE_FILE),
    show_default=True,
    help="Where the schedule is written, a .yaml or .yml file.",
)
@shared("mlflow_uri", "force", "json")
def best(
    output: Path | str,
    data: str | None,
    process: str | None,
    experiment: str | None,
    study: str | None,
    metric: str,
    fingerprint: str | None,
    confirmed: bool,
    curriculum: bool,
    target: Path,
    mlflow_uri: str | None,
    force: bool,
    as_json: bool,
) -> int:
    """Ask MLflow what a study found, and write the schedule that it stands for to a file for `train` and the library.

    That is the best curriculum if it beat uniform sampling on fresh seeds, else uniform sampling; without fresh seeds
    it is the best curriculum, marked as unconfirmed. In a study in which no arm has a curriculum, e.g. of weightings,
    the best arm takes its place. The store is --mlflow-uri, else MLFLOW_TRACKING_URI, else the embedded one in
    --output. Only trials measured by one evaluation protocol are compared.
    """
    from curriculum_ray.own_files import check_own
    from curriculum_ray.shell import tune_command
    from tuning.tracking.best import best as ask
    from tuning.tracking.leftovers import store_leftovers

    _check_yaml(target)
    folder = folder_of_store(output, mlflow_uri)
    if folder is not None:
        store_leftovers(folder, mlflow_uri, lambda line: click.echo(line, err=True))

    settings = target.with_suffix(SETTINGS_SUFFIX)
    for path in (target, settings):
        check_own(path, force=force)
    found = ask(
        folder or Path(),
        mlflow_uri,
        metric=metric,
        experiment=experiment,
        data=data,
        process=process,
        study=study,
        fingerprint=fingerprint,
        confirmed=confirmed,
        curriculum=curriculum,
    )
    kept = [found.write(target, force=force), found.write_settings(settings, force=force)]
    for path in filter(None, kept):
        click.echo(f"an earlier file was kept as {path}", err=True)
    where = given("output", "mlflow_uri")
    again = None if found.settings_text is None else tune_command("train", "--config", settings, *where)
    if as_json:
        click.echo(json_text({**found.to_json(), "written": str(target), "reproduce": again}, indent=1))
        return 0
    rows = {
        **_findings(found),
        "run": f"{found.run_id}  trial {found.trial} of {found.study} ({found.experiment})",
        "images": f"{found.images:,} seen, seed {found.seed}",
        "protocol": found.fingerprint,
        "written": str(target) if again is None else f"{target} and {settings}",
        "train": again or _without_settings(target, where),
    }
    if found.besides:
        rows["besides"] = f"its run also sets {found.besides_in_words}, which {target} does not hold"
    if found.among == "curriculum" and found.verdict not in ("beats", "unconfirmed") and not curriculum:
        filters = given("output", "experiment", "metric", "fingerprint", "mlflow_uri")
        words = ["--study", found.study, *filters, "--curriculum", "--write", CURRICULUM_FILE]
        rows["instead"] = f"{tune_command('best', *words)}  (the best curriculum all the same)"
    for name, value in rows.items():
        click.echo(f"{name:9} {value}")
    click.echo(f"\n{found.schedule_text.rstrip()}")
    return 0


def _check_yaml(path: Path) -> None:
    """Raise ConfigError for a file that is not YAML by its name, after which its mark would be chosen."""
    if path.suffix not in YAML_SUFFIXES:
        raise ConfigError(f"--write must end in .yaml or .yml, but got {path}")


def _findings(found: BestRun) -> dict[str, str]:
    """What the study found: both scores, the answer, and what is written."""
    from tuning.evidence.metrics import metric_name

    scores = [f"{each.in_words()}, {each.name}" for each in (found.curriculum, found.uniform) if each]
    return {
        metric_name(found.metric): f"\n{'':9} ".join(scores),
        "answer": found.sentence,
        "chosen": f"{_both(found)}: {found.reason}",
    }


def _both(found: BestRun) -> str:
    """The chosen arm by its name and in words."""
    alike = found.control == "uniform" or found.name == found.description
    return found.description if alike else f"{found.name} ({found.description})"


def _without_settings(schedule: Path, where: Sequence[str]) -> str:
    """How to train where the run's settings are lost: its data, network and budget are not those of the defaults."""
    from curriculum_ray.shell import tune_command

    command = tune_command("train", "--schedule", schedule, *where)
    return f"{command}, with the study's settings: its config.yaml is not in MLflow any more"
