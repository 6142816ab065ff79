"""`python -m tune plan`: the trials of a search, how long it would take, and a picture of its schedules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuning.cli.options import FiniteRange, example, read_settings, shared, writable_folder

if TYPE_CHECKING:
    from tuning.evidence.expected import ExpectedSeeds
    from tuning.study.config import StudyConfig
    from tuning.study.noise import Noise

__all__ = ["plan"]


@click.command(epilog=example("python -m tune plan --space wide --trials 40 --gpus 8"))
@shared("data", "output")
@click.option("--space", help="A shipped search space (default, paper, wide), or a YAML file.")
@click.option("--trials", type=click.IntRange(min=1), help="Schedules to try, beside the controls.")
@click.option("--images", type=click.IntRange(min=1), help="The budget of each trial in images seen.")
@click.option("--concurrent", type=click.IntRange(min=1), help="Trials at a time; by default one a CPU.")
@click.option(
    "--pack", type=click.IntRange(min=1), help="Trials that one worker trains at a time, see search."
)
@click.option(
    "--hours", type=FiniteRange(min=0, min_open=True), help="Say how many schedules fit into so many hours."
)
@click.option("--gpus", type=FiniteRange(min=0, min_open=True), help="GPUs of the cluster to plan for.")
@click.option(
    "--pictures", type=click.IntRange(1, 12), default=4, show_default=True, help="Schedules to draw."
)
@click.option(
    "--effect",
    "effects",
    type=FiniteRange(min=0, max=99),
    multiple=True,
    help="A gain in percent for which to estimate the seeds; may be repeated; default 5, 10 and 20.",
)
@shared(
    "confirm_seeds",
    "num_samples",
    "num_workers",
    "use_gpu",
    "seed",
    "config",
    "set",
    "trust_code",
    "force",
    "log_level",
    "json",
)
def plan(
    data: str | None,
    output: Path,
    space: str | None,
    trials: int | None,
    images: int | None,
    concurrent: int | None,
    pack: int | None,
    hours: float | None,
    gpus: float | None,
    pictures: int,
    effects: tuple[float, ...],
    confirm_seeds: int | tuple[int, int] | None,
    num_samples: int | None,
    num_workers: int | None,
    use_gpu: bool | None,
    seed: int | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    trust_code: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Print a search's space, controls, trials and expected time before anything is spent.

    A few training steps and part of an evaluation are timed in this process, without Ray. The picture,
    schedules-STUDY.png in --output, shows a few sampled schedules: their density over images seen.
    """
    from curriculum_ray.distributed.connection import available_cpus, packs_of, room
    from curriculum_ray.evaluation.visited import unvisited_line
    from curriculum_ray.own_files import check_own, write_own
    from tuning.figures.theme import LIGHT, to_png
    from tuning.search.launch import check_code_of, check_study, study_rivals
    from tuning.study.check_run import experiment_name
    from tuning.study.config import StudyConfig
    from tuning.study.cost import calibrate, density, draw_schedules, estimate, sampled, sketch
    from tuning.study.data_summary import show_summary
    from tuning.study.noise import find_noise
    from tuning.study.ranges import with_batch_size
    from tuning.study.space import SearchSpace
    from tuning.study.time_budget import fit_into

    config = read_settings(
        StudyConfig,
        config_file,
        overrides,
        {
            "run.data.name": ("--data", data),
            "space": ("--space", space),
            "trials": ("--trials", trials),
            "run.images": ("--images", images),
            "pack": ("--pack", pack),
            "confirm_seeds": ("--confirm-seeds", confirm_seeds),
            "hours": ("--hours", hours),
            "run.evaluation.num_samples": ("--num-samples", num_samples),
            "resources.num_workers": ("--num-workers", num_workers),
            "resources.use_gpu": ("--use-gpu", use_gpu),
            "seed": ("--seed", seed),
        },
        trust_code,
        within="run",
    )
    searched = SearchSpace.load(config.space)
    check_code_of(searched, config, trust_code)
    config, chosen = with_batch_size(config, searched)
    if chosen is not None and not as_json:
        click.echo(chosen)
    run, dataset, evaluator = check_study(config, searched)
    study = f"{experiment_name(dataset, run).replace('/', '-')}-{searched.name}-seed{config.seed}"
    folder = writable_folder(output)
    path = folder / f"schedules-{study}.png"
    check_own(path, force=force)
    summary = show_summary(run.data, dataset, (lambda line: None) if as_json else click.echo)
    rivals = study_rivals(config, searched)
    if concurrent is None:
        cpus = {"CPU": float(available_cpus())}
        here = config.resources.model_copy(update={"use_gpu": False})
        slots = room(here, config.maximum_trials(len(rivals)), cpus, config.pack)
    else:
        slots = packs_of(concurrent, config.pack)
    found = calibrate(run, dataset, config.pack)
    cost = estimate(config, len(rivals), found, slots, gpus)
    noise = find_noise(folder, dataset.name, evaluator.fingerprint, config.metric)
    expected = _expected(config, len(rivals), noise, effects) if config.confirm_top and noise else []
    speed = found.speed(config.run.batch_size, config.resources.workers[1])
    fitting = fit_into(config, len(rivals), speed, cost.concurrent)
    schedules = sampled(config, searched, pictures)
    densities = [density(schedule, run) for schedule in schedules]
    kept = write_own(path, to_png(draw_schedules(schedules, densities, run.total_images, LIGHT)), force=force)
    if kept is not None:
        click.echo(f"an earlier file was kept as {kept}", err=True)
    controls, unvisited = ["uniform", *rivals], unvisited_line(run, dataset.shape)
    if as_json:
        result = {
            "space": searched.model_dump(mode="json"),
            "controls": controls,
            "data": summary.as_json(),
            "batch_size": run.batch_size,
            "calibration": asdict(found),
            **asdict(cost),
            "noise": None if noise is None else asdict(noise),
            "expected_seeds": [asdict(each) for each in expected],
            "hours": None if fitting is None else asdict(fitting),
            "schedules": [schedule.to_dict() for schedule in schedules],
            "unvisited": unvisited,
            "picture": str(path),
        }
        click.echo(json.dumps(result, indent=1))
        return 0
    click.echo(f"space {searched.name}, chosen by {config.sampler}")
    for key, span in searched.search.items():
        click.echo(f"  {key:34} {span.in_words()}")
    click.echo(f"controls and rivals: {', '.join(controls)}; twins of the best: reversed, random order")
    click.echo(f"trials, at most: {', '.join(f'{count} {phase}' for phase, count in cost.trials.items())}")
    click.echo(
        f"measured on {found.device}: {1000 * found.seconds_per_step:.0f} ms a step, "
        f"{found.seconds_per_evaluation:.1f} s an evaluation; {cost.trial_seconds:.0f} s a trial of "
        f"{run.total_images:,} images"
    )
    if found.packing_gain is not None:
        click.echo(
            f"packing {config.pack}: {found.packing_gain:.2f} times as many steps a second as one trial after another"
        )
    shortest = f"{_clock(cost.least_wall_seconds)} to " if cost.least_wall_seconds < cost.wall_seconds else ""
    click.echo(
        f"expected: {shortest}{_clock(cost.wall_seconds)} with {cost.concurrent} at a time, "
        f"{sum(cost.trials.values())} trials at most"
    )
    for line in _seeds_lines(config, noise, expected):
        click.echo(line)
    if fitting is not None:
        click.echo(fitting.in_words(config.trials))
    if unvisited is not None:
        click.echo(unvisited)
    if cost.gpu_hours is not None:
        caution = "" if found.device != "CPU" else ", if a GPU were as fast as this CPU"
        click.echo(f"GPU-hours on {gpus:g} GPUs: {cost.gpu_hours:.2f}{caution}")
    for schedule, values in zip(schedules, densities, strict=True):
        click.echo(f"\n{schedule.describe()}")
        for line in sketch(values):
            click.echo(f"  |{line}|")
    click.echo(f"\nup is noise, right is later; the picture: {path}")
    return 0


def _expected(
    config: StudyConfig, rivals: int, noise: Noise, effects: Sequence[float]
) -> list[ExpectedSeeds]:
    from tuning.evidence.expected import expected_seeds

    return [
        expected_seeds(
            effect / 100,
            noise.share,
            schedules=config.confirm_top,
            rival=bool(rivals),
            seeds=config.least_and_most_seeds,
            margin=config.margin,
        )
        for effect in effects or (5.0, 10.0, 20.0)
    ]


def _seeds_lines(config: StudyConfig, noise: Noise | None, expected: Sequence[ExpectedSeeds]) -> list[str]:
    from tuning.evidence.metrics import metric_name

    least, most = config.least_and_most_seeds
    if not config.confirm_top:
        return []
    many = f"{least}" if least == most else f"{least} to {most}"
    if noise is None:
        return [
            f"confirmed on {many} fresh seeds; how many an effect needs is known once a study of this data has "
            "confirmations"
        ]
    percent = f"{100 * noise.share:.0f}% of {metric_name(config.metric)}"
    head = f"confirmed on {many} fresh seeds; paired differences vary by {percent} ({noise.source}):"
    return [head, *(f"  {each.in_words()}" for each in expected)]


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
