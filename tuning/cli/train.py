"""`python -m tune train`: one model with one schedule, over as many workers as asked for; run it again to resume."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curriculum_ray.buckets.address import is_address
from curriculum_ray.config.shown import shown
from tuning.cli.options import example, given, opened_output, read_settings, shared
from tuning.cli.parameters import NameOption

if TYPE_CHECKING:
    from curriculum_ray.evaluation import EvaluationSpec
    from curriculum_ray.runs.config import RunConfig
    from curriculum_ray.runs.result import RunResult
    from curriculum_ray.training.profile_spec import ProfiledSteps

__all__ = ["train"]

_MOST_STEPS = 1000


class _Steps(click.ParamType):
    """A stretch of steps such as 10-14."""

    name = "steps"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ProfiledSteps:
        """The first step and their number."""
        from curriculum_ray.training.profile_spec import ProfiledSteps

        ends = re.fullmatch("([1-9][0-9]{0,11})-([1-9][0-9]{0,11})", str(value))
        first, last = (int(ends[1]), int(ends[2])) if ends else (1, 0)
        if not 0 <= last - first < _MOST_STEPS:
            self.fail(f"{shown(value)} is no stretch of 1 to {_MOST_STEPS} steps such as 10-14", param, ctx)
        return ProfiledSteps(first, last - first + 1)


@click.command(
    short_help="Train one model.",
    epilog=example("python -m tune train --schedule schedule.yaml --num-workers 2 --seed 1"),
)
@shared("schedule", "data", "output_or_bucket")
@click.option(
    "--name",
    type=NameOption(),
    help="Name of the run and its folder; by default from data, process, schedule and seed.",
)
@click.option("--images", type=click.IntRange(min=1), help="The budget in images seen.")
@click.option(
    "--profile",
    type=_Steps(),
    metavar="[FIRST-LAST]",
    is_flag=False,
    flag_value="10-14",
    help="Record these steps, counted from where this start begins, with torch's profiler, into profile/ of the run's "
    "folder; 10-14 if no range is given.",
)
@shared(
    "num_workers",
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
def train(
    schedule: Path | None,
    data: str | None,
    output: Path | str,
    name: str | None,
    images: int | None,
    profile: ProfiledSteps | None,
    num_workers: int | tuple[int, int] | None,
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
    """Train one model, through Ray Train, with the schedule of --schedule (uniform sampling without it).

    The same command run again goes on from the newest checkpoint, or shows the result when the run is finished.
    With RAY_ADDRESS set it runs on that cluster.
    """
    from curriculum_ray.curriculum import CurriculumSchedule
    from curriculum_ray.distributed.resources import ResourceSpec
    from curriculum_ray.runs.config import RunConfig
    from tuning.study.single import train_run
    from tuning.terminal.run_display import RunDisplay
    from tuning.terminal.text import print_line
    from tuning.tracking.leftovers import store_leftovers

    chosen = (
        CurriculumSchedule.from_file(schedule).model_dump(mode="json", exclude_unset=True)
        if schedule
        else None
    )
    config = read_settings(
        RunConfig,
        config_file,
        overrides,
        {
            "schedule": (f"--schedule {schedule}", chosen),
            "data.name": ("--data", data),
            "images": ("--images", images),
            "seed": ("--seed", seed),
        },
        trust_code,
    )
    resources = read_settings(
        ResourceSpec,
        None,
        (),
        {
            "num_workers": ("--num-workers", num_workers),
            "use_gpu": ("--use-gpu", use_gpu),
            "isolate": ("--isolate", isolate),
        },
    )
    folder, copy = opened_output(output, mlflow_uri)
    if copy is None:
        store_leftovers(folder, mlflow_uri, lambda line: click.echo(line, err=True))
    with RunDisplay(config, quiet=as_json) as display:
        result = train_run(
            config, resources, folder, name, mlflow_uri, display, profile, system_metrics, copy
        )
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=1))
        return 0
    for line in _words(result):
        print_line(display.console, line)
    click.echo(_places(result, config))
    return 0


def _skipped(names: Sequence[str]) -> list[str]:
    from curriculum_ray.data.images import list_failures

    return [f"{len(names)} corrupt images were skipped: {list_failures(names)}"] if names else []


def _guarded(updates: int) -> list[str]:
    return [f"{updates:,} updates were skipped by stability.spike_factor"] if updates else []


def _heldout(result: RunResult) -> list[str]:
    """The mean held-out loss at the end, where it was measured."""
    from tuning.evidence.heldout import as_history

    found, held = as_history(result), result.heldout
    if held is None or not found:
        return []
    return [
        f"held-out loss {found[-1][1]['heldout_loss']:.4g}, the mean of {len(held.u)} noise levels, "
        f"{held.items} of {held.held_out} held-out items at each"
    ]


def _words(result: RunResult) -> list[str]:
    metrics = ", ".join(f"{key} {value:.4g}" for key, value in result.metrics.items())
    return [
        f"{result.images:,} images seen, {result.seconds:.0f} s" + (f": {metrics}" if metrics else ""),
        f"protocol {result.fingerprint}" if result.fingerprint else "not evaluated",
        *_heldout(result),
        *_skipped(result.corrupt_images),
        *_guarded(result.skipped_updates or 0),
        *([result.unvisited] if result.unvisited else []),
    ]


def _places(result: RunResult, config: RunConfig) -> str:
    """The checkpoint and the commands that come next, each on a line that can be pasted."""
    sample, *others = _next(result, config)
    lines = [f"checkpoint  {result.checkpoint}", f"next        {sample}"]
    return "\n".join([*lines, *(f"{'':11} {line}" for line in others)])


def _next(result: RunResult, config: RunConfig) -> list[str]:
    """The commands that come next: samples where this run lies, and an evaluation by the same protocol."""
    from curriculum_ray.models.named_code import TRUST_OPTION, code_named
    from curriculum_ray.shell import tune_command

    trust = [TRUST_OPTION] if code_named(config.model_dump(mode="json")) else []
    common = ["--checkpoint", result.checkpoint, *trust]
    # A grid is a file here, wherever the run lies.
    sample = tune_command("sample", *common, *([] if is_address(result.checkpoint) else given("output")))
    return [sample, tune_command("evaluate", *common, *_protocol(config.evaluation))]


def _protocol(evaluation: EvaluationSpec | None) -> list[str]:
    """The `--set` words that make an evaluation by default this one."""
    from curriculum_ray.evaluation import EvaluationSpec

    if evaluation is None:
        return []
    usual = EvaluationSpec().model_dump(mode="json")
    return [
        word
        for key, value in evaluation.model_dump(mode="json").items()
        if value != usual[key]
        for word in ("--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    ]
