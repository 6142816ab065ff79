"""`python -m tune export-schedule`: a schedule in the words of a trainer that people already have."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import click

from tuning.cli.options import example, shared
from tuning.cli.output import json_text
from tuning.cli.parameters import PathOption

__all__ = ["export_schedule"]


@click.command(
    name="export-schedule",
    short_help="Write a schedule for another trainer.",
    epilog=example(
        "python -m tune export-schedule schedule.yaml --to kohya --images 2000000 --batch-size 64\n"
        "python -m tune export-schedule schedule.yaml --to diffusers --batch-size 64 --run runs/first"
    ),
)
@click.argument("schedule", type=PathOption())
@click.option(
    "--to",
    "target",
    type=click.Choice(["kohya", "diffusers", "torchtitan", "ai-toolkit"]),
    required=True,
    help="The trainer.",
)
@click.option(
    "--into",
    "output",
    type=PathOption(),
    help="A Python file, or for kohya and ai-toolkit a folder; default curriculum_ID_TRAINER, with .py.",
)
@click.option(
    "--images", type=click.IntRange(min=1), help="Images that are trained on; default those of --run."
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    required=True,
    help="Images of one optimizer step, over all processes and accumulated micro-batches.",
)
@click.option(
    "--run",
    type=PathOption(),
    help="A finished run of this schedule, whose stages are repeated; plateau pacing needs one.",
)
@click.option(
    "--levels",
    "kind",
    type=click.Choice(["timesteps", "flow"]),
    help="The noise levels; default timesteps for kohya and diffusers, flow for the others.",
)
@click.option(
    "--num-timesteps",
    type=click.IntRange(min=2, max=100_000),
    help="Timesteps of a script of diffusers; default 1000.",
)
@click.option(
    "--betas",
    type=click.Choice(["linear", "scaled_linear", "cosine"]),
    help="The noise schedule of timesteps, for schedules that read the log-SNR; Stable Diffusion has scaled_linear.",
)
@shared("force", "json")
def export_schedule(
    schedule: Path,
    target: str,
    output: Path | None,
    images: int | None,
    batch_size: int,
    run: Path | None,
    kind: Literal["timesteps", "flow"] | None,
    num_timesteps: int | None,
    betas: Literal["linear", "scaled_linear", "cosine"] | None,
    force: bool,
    as_json: bool,
) -> int:
    """Write a schedule in the format of another trainer, or say in one line what that trainer cannot express.

    kohya and ai-toolkit draw from one window of timesteps a launch: one settings file is written for each stage.
    diffusers and torchtitan get a Python file that needs torch alone, to be called where their script draws.
    """
    from curriculum_ray.config import ConfigError
    from curriculum_ray.curriculum import CurriculumSchedule
    from curriculum_ray.export.trainers import TARGETS, make_plan, schedule_files
    from curriculum_ray.own_files import check_own, write_own

    trainer = TARGETS[target]
    kind = kind or trainer.kinds[0]
    if kind not in trainer.kinds:
        raise ConfigError(f"--levels must be {trainer.kinds[0]} for {target}, but got {kind}")
    if kind == "flow" or trainer.num_timesteps is not None:
        given = {"--num-timesteps": num_timesteps, "--betas": betas if kind == "flow" else None}
        for option, value in given.items():
            if value is not None:
                raise ConfigError(f"{option} does not apply to {target} with {kind}, but got {value}")
    content = CurriculumSchedule.from_file(schedule)
    stage_starts = None
    if run is not None:
        seen, stage_starts = _recorded(run, content.schedule_id)
        images = images or seen
    if images is None:
        raise ConfigError("--images is required without --run")
    plan = make_plan(
        content,
        source=schedule.name,
        kind=kind,
        images=images,
        batch_size=batch_size,
        num_timesteps=num_timesteps or trainer.num_timesteps or 1000,
        betas=betas,
        stage_starts=stage_starts,
    )
    files = schedule_files(plan, target)
    default = Path(f"{plan.name}_{target.replace('-', '_')}")
    if isinstance(files, str):
        texts = {_python_file(output or default.with_suffix(".py")): files}
    else:
        texts = {(output or default) / name: text for name, text in files.items()}
    for path in texts:
        check_own(path, force=force)
    for path, text in texts.items():
        _make_folder(path.parent)
        kept = write_own(path, text, force=force)
        if kept is not None:
            click.echo(f"an earlier file was kept as {kept}", err=True)
    if as_json:
        stages = [dataclasses.asdict(stage) for stage in plan.stages]
        answer = {
            "schedule": content.schedule_id,
            "to": target,
            "stages": stages,
            "files": list(map(str, texts)),
        }
        click.echo(json_text(answer))
        return 0
    click.echo(plan.origin)
    for stage in plan.stages:
        drawn = ", ".join(f"[{low:.4g}, {high:.4g})" for low, high, _ in stage.intervals)
        click.echo(f"stage {stage.stage}: steps {stage.start:,} to {stage.end:,}, u in {drawn}, 1 is noise")
    for path in texts:
        click.echo(str(path))
    return 0


def _recorded(run: Path, schedule_id: str) -> tuple[int, tuple[tuple[int, int], ...]]:
    """(images seen, stage starts) of a finished run of this schedule."""
    from curriculum_ray.config import ConfigError
    from curriculum_ray.curriculum import CurriculumSchedule
    from curriculum_ray.runs.folder import RESULT_FILE, SCHEDULE_FILE
    from curriculum_ray.runs.result import RunResult

    result = RunResult.read(run / RESULT_FILE)
    if result is None or not result.stage_starts:
        raise ConfigError(
            f"--run {run} has no {RESULT_FILE} with the starts of its stages: name a finished run"
        )
    theirs = CurriculumSchedule.from_file(run / SCHEDULE_FILE).schedule_id
    if theirs != schedule_id:
        raise ConfigError(f"--run {run} must be of schedule {schedule_id}, but it trained {theirs}")
    return result.images, result.stage_starts


def _python_file(path: Path) -> Path:
    from curriculum_ray.config import ConfigError

    if path.suffix != ".py":
        raise ConfigError(f"--into must end in .py for a Python file, but got {path}")
    return path


def _make_folder(folder: Path) -> None:
    from curriculum_ray.config import ConfigError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--into {folder} cannot be written: {error.strerror}") from None
