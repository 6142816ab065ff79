"""`python -m tune plan`: the trials of a search, how long it would take, and a picture of its schedules."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuning.cli.options import example, read_settings, shared, writable_folder
from tuning.cli.parameters import FiniteRange

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
    "--price",
    type=FiniteRange(min=0),
    metavar="PER_HOUR",
    help="The price of one worker for an hour, in any currency, to print the cost.",
)
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
    "share",
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
    price: float | None,
    pictures: int,
    effects: tuple[float, ...],
    confirm_seeds: int | tuple[int, int] | None,
    num_samples: int | None,
    num_workers: int | tuple[int, int] | None,
    share: float | None,
    use_gpu: bool | None,
    seed: int | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    trust_code: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Print a search's space, controls, trials and expected time before anything is spent.

    A few training steps and part of an evaluation are timed in this process, without Ray, on the kind of device that
    the study would use; of a large network less than a step. Where a study is for GPUs and this machine has none, its
    time is said to be unknown. The picture, schedules-STUDY.png in --output, shows a few sampled schedules: their
    density over images seen.
    """
    import torch

    from curriculum_ray.config import ConfigError
    from curriculum_ray.distributed.capacity import (
        Capacity,
        available_cpus,
        packs_of,
        room,
        room_line,
        slots_in,
        within_share,
        workers_in,
    )
    from curriculum_ray.distributed.head_memory import driver_node_bytes, memory_remark, usable_bytes
    from curriculum_ray.distributed.slots import are_together
    from curriculum_ray.evaluation.visited import unvisited_line
    from curriculum_ray.own_files import check_own, write_own
    from curriculum_ray.training.footprint import footprint
    from tuning.figures.theme import LIGHT, to_png
    from tuning.search.preflight import check_code_of, check_study, study_rivals
    from tuning.study.calibration import (
        Calibration,
        Unmeasured,
        calibrate,
        evaluation_flops,
        measuring_device,
    )
    from tuning.study.check_run import experiment_name
    from tuning.study.config import StudyConfig
    from tuning.study.cost import estimate
    from tuning.study.cost_lines import cost_lines, driver_line, memory_lines
    from tuning.study.data_summary import show_summary
    from tuning.study.memory import memory_per_worker
    from tuning.study.noise import find_noise
    from tuning.study.ranges import with_batch_size
    from tuning.study.sketches import density, draw_schedules, sampled, sketch
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
            "share": ("--share", share),
            "resources.use_gpu": ("--use-gpu", use_gpu),
            "seed": ("--seed", seed),
        },
        trust_code,
        within="run",
    )
    if config.arms:
        raise ConfigError("plan is for a search, but these settings compare arms without one")
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
    for_gpu = config.resources.use_gpu or gpus is not None
    here = Capacity.of({"CPU": float(available_cpus()), "GPU": float(torch.cuda.device_count())})
    if gpus is None:
        fit = workers_in(config.resources, here, config.share)
        slots = room(config.resources, config.maximum_trials(len(rivals)), here, config.pack, config.share)
    else:
        fit = int(config.share * gpus / config.resources.gpus_per_worker + 1e-6)
        slots = slots_in(fit, config.resources)
    if concurrent is not None:
        slots = packs_of(concurrent, config.pack, config.share)
    whole = room_line(within_share(config.resources, slots, fit, config.share), slots, fit, config.share)
    # What is measured and counted is for as many workers as a trial has where all slots are taken.
    least = config.resources.workers[0]
    config = config.model_copy(update={"resources": config.resources.with_most(max(least, fit // slots))})
    workers = config.resources.workers[1]
    network = footprint(run.model, dataset.shape, dataset.conditioning, run.precision != "fp32", run.lora)
    memory = memory_per_worker(run, network, dataset, least, config.pack)
    alone = "RAY_ADDRESS" not in os.environ
    beside = driver_node_bytes(slots, alone, are_together(config.resources))
    found: Calibration | Unmeasured
    try:
        found = calibrate(run, dataset, network, measuring_device(for_gpu), workers, config.pack)
    except Unmeasured as reason:
        found = reason
    measured = None if isinstance(found, Unmeasured) else found
    a_step, an_evaluation = network.train_flops, evaluation_flops(run, network, evaluator)
    flops = a_step and an_evaluation and (run.batch_size * a_step, an_evaluation)
    cost = estimate(config, len(rivals), measured, slots, for_gpu, price, flops or None)
    noise = find_noise(folder, dataset.name, evaluator.fingerprint, config.metric)
    expected = _expected(config, len(rivals), noise, effects) if config.confirm_top and noise else []
    speed = None if measured is None else measured.speed(run.batch_size)
    fitting = None if speed is None else fit_into(config, len(rivals), speed, cost.concurrent)
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
            "calibration": measured and asdict(measured),
            "unmeasured": str(found) if isinstance(found, Unmeasured) else None,
            "network": asdict(network),
            "memory": {**asdict(memory), "total": memory.total},
            "room": whole,
            "driver_node": {"bytes": beside, "usable": usable_bytes()},
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
    click.echo(f"room: {whole}")
    elsewhere = gpus is not None or "RAY_ADDRESS" in os.environ
    for line in cost_lines(found, cost, run.total_images, config.pack, price, elsewhere):
        click.echo(line)
    for line in memory_lines(memory, None if measured is None else measured.peak_bytes):
        click.echo(line)
    click.echo(driver_line(beside, slots))
    if remark := memory_remark(beside, usable_bytes()):
        click.echo(f"warning: {remark}", err=True)
    for line in _seeds_lines(config, noise, expected):
        click.echo(line)
    if fitting is not None:
        click.echo(fitting.in_words(config.trials))
    elif config.hours is not None:
        click.echo(f"in {config.hours:g} hours: unknown, since the speed is")
    if unvisited is not None:
        click.echo(unvisited)
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
    from tuning.evidence.scale import Scale

    return [
        expected_seeds(
            effect / 100,
            noise.share,
            scale=Scale.of(config.metric),
            schedules=config.confirm_top,
            rival=bool(rivals),
            seeds=config.least_and_most_seeds,
            margin=config.margin,
            futility=config.futility,
        )
        for effect in dict.fromkeys((0.0, *(effects or (5.0, 10.0, 20.0))))
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
