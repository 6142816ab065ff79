"""`python -m tune plan`: the trials of a study, how long it would take, and a picture of its schedules."""

from __future__ import annotations

from pathlib import Path

import click

from curriculum_ray.config import ConfigError
from tuning.cli.options import example, read_settings, shared, writable_folder
from tuning.cli.output import json_text
from tuning.cli.parameters import FiniteRange

__all__ = ["plan"]


@click.command(
    short_help="Show what a study would train, and how long it takes.",
    epilog=example("python -m tune plan --space wide --trials 40 --gpus 8"),
)
@shared("data", "output")
@click.option("--space", help="A shipped search space (default, paper, wide), or a YAML file.")
@click.option("--trials", type=click.IntRange(min=1), help="Schedules to try, beside the controls.")
@click.option("--images", type=click.IntRange(min=1), help="The budget of each trial in images seen.")
@click.option("--concurrent", type=click.IntRange(min=1), help="Trials at a time; by default what fits.")
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
    """Print a study's space or arms, its controls, trials and expected time before anything is spent.

    A few training steps and part of an evaluation are timed in this process, without Ray, on the kind of device that
    the study would use; of a large network less than a step. Where a study is for GPUs and this machine has none, its
    time is said to be unknown. The picture, schedules-STUDY.png in --output, shows a few sampled schedules: their
    density over images seen.
    """
    from curriculum_ray.distributed.head_memory import memory_remark
    from curriculum_ray.own_files import check_own, write_own
    from tuning.figures.theme import LIGHT, to_png
    from tuning.search.preflight import check_code_of, check_study, study_rivals
    from tuning.study.check_run import experiment_name
    from tuning.study.config import StudyConfig
    from tuning.study.controls import Controls
    from tuning.study.data_summary import show_summary
    from tuning.study.forecast import forecast
    from tuning.study.forecast_lines import forecast_lines
    from tuning.study.ranges import with_batch_size
    from tuning.study.sketches import density, draw_schedules, sketch
    from tuning.study.space import SearchSpace
    from tuning.study.study_room import StudyRoom

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
    if effects and not config.arms and config.confirm_top == 0:
        raise ConfigError(
            "--effect is for confirmations, of which confirm_top 0 has none, but got "
            f"{', '.join(f'{effect:g}' for effect in effects)}"
        )
    searched = SearchSpace.of_arms() if config.arms else SearchSpace.load(config.space)
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
    rivals = list(study_rivals(config, searched))
    found = forecast(
        config,
        searched,
        run,
        dataset,
        evaluator,
        rivals,
        StudyRoom.of(config, Controls.of(len(rivals), searched, config.run), gpus, concurrent),
        output=folder,
        pictures=pictures,
        effects=effects,
        for_gpu=config.resources.use_gpu or gpus is not None,
        price=price,
    )
    schedules = found.schedules
    densities = [density(schedule, run) for schedule in schedules.values()]
    drawn = draw_schedules(list(schedules.values()), densities, run.total_images, LIGHT)
    kept = write_own(path, to_png(drawn), force=force)
    if kept is not None:
        click.echo(f"an earlier file was kept as {kept}", err=True)
    if as_json:
        result = {**found.to_json(), "data": summary.as_json(), "picture": str(path)}
        click.echo(json_text(result, indent=1))
        return 0
    for line in forecast_lines(found, price):
        click.echo(line)
    if remark := memory_remark(found.driver_bytes, found.usable_bytes):
        click.echo(f"warning: {remark}", err=True)
    for (name, schedule), values in zip(schedules.items(), densities, strict=True):
        click.echo(f"\n{f'{name}: ' if config.arms else ''}{schedule.describe()}")
        for line in sketch(values):
            click.echo(f"  |{line}|")
    click.echo(f"\nup is noise, right is later; the picture: {path}")
    return 0
