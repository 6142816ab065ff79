"""`python -m tune difficulty`: measure how hard each noise level is, and whether low noise is harder."""

from __future__ import annotations

import time
from pathlib import Path

import click

from curriculum_ray.config import ConfigError
from tuning.cli.options import example, read_settings, shared, writable_folder
from tuning.cli.output import json_text

__all__ = ["difficulty"]


@click.command(
    short_help="Measure how hard each noise level of a data set is.",
    epilog=example("python -m tune difficulty --data digits --measure relative_entropy,convergence"),
)
@shared("data", "output")
@click.option(
    "--measure",
    help="Comma-separated: relative_entropy, gaussian, snr, convergence (one shared model), "
    "convergence-paper (one model per interval: intervals x seeds trainings), gradient; or all. "
    "By default all but snr and convergence-paper.",
)
@click.option("--num-timesteps", type=click.IntRange(min=2), help="T of the process; 1000 by default.")
@click.option(
    "--betas",
    type=click.Choice(["cosine", "linear", "scaled_linear"]),
    help="How noise grows with the timestep.",
)
@click.option("--prediction", type=click.Choice(["epsilon", "x0", "v"]), help="What probe models predict.")
@click.option(
    "--intervals", type=click.IntRange(min=2), help="Number of equal intervals of timesteps; 10 by default."
)
@click.option(
    "--steps", type=click.IntRange(min=20), help="Training steps of each probe model; 1000 by default."
)
@click.option("--seeds", type=click.IntRange(min=1), help="Probe models of each kind; 2 by default.")
@click.option(
    "--samples",
    type=click.IntRange(min=16),
    help="Samples per timestep of relative entropy; 2048 by default.",
)
@shared("use_gpu", "seed", "config", "set", "trust_code", "force", "log_level", "json")
def difficulty(
    data: str | None,
    output: Path,
    measure: str | None,
    num_timesteps: int | None,
    betas: str | None,
    prediction: str | None,
    intervals: int | None,
    steps: int | None,
    seeds: int | None,
    samples: int | None,
    use_gpu: bool | None,
    seed: int | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    trust_code: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Measure how hard each noise level of a data set is, and check that low noise is harder.

    Writes OUTPUT/difficulty/DATA/: a curve per measurement, for a schedule's clusters and order, a plot and an
    HTML page. Probe models train as parallel Ray tasks, on the cluster at RAY_ADDRESS if it is set.
    """
    from curriculum_ray.data.shard_copies import folder_of
    from tuning.difficulty import NO_CLAIM, DifficultyConfig, judge_all, summary, write_report
    from tuning.difficulty import measure as measure_all

    config = read_settings(
        DifficultyConfig,
        config_file,
        overrides,
        {
            "measure": (f"--measure {measure}", _measures(measure)),
            "probe.data.name": ("--data", data),
            "probe.process.num_timesteps": ("--num-timesteps", num_timesteps),
            "probe.process.betas": ("--betas", betas),
            "probe.process.prediction": ("--prediction", prediction),
            "probe.intervals": ("--intervals", intervals),
            "probe.steps": ("--steps", steps),
            "samples": ("--samples", samples),
            "seeds": ("--seeds", seeds),
            "seed": ("--seed", seed),
            "use_gpu": ("--use-gpu", use_gpu),
        },
        trust_code,
    )
    folder = writable_folder(output / "difficulty" / folder_of(config.probe.data.name).name)
    start = time.perf_counter()

    def report(line: str) -> None:
        click.echo(line, err=True)

    curves = measure_all(config, folder, report, force=force)
    picture, page = write_report(curves, folder, report, force=force)
    verdicts = judge_all(curves)
    claim = summary(verdicts.values())
    seconds = time.perf_counter() - start
    if as_json:
        answers = {name: vars(verdict) for name, verdict in verdicts.items()}
        files = {name: str(folder / f"{name}.json") for name in curves}
        files |= {"picture": str(picture), "page": str(page)}
        click.echo(
            json_text(
                {"claim": claim, "verdicts": answers, "files": files, "seconds": seconds}, ensure_ascii=False
            )
        )
        return 0
    click.echo("Low-noise timesteps are harder:")
    for verdict in verdicts.values():
        click.echo(f"  {verdict.sentence()}")
    if not verdicts:
        click.echo(f"  not measured: {NO_CLAIM}")
    click.echo(f"{seconds:.0f} s; curves and picture in {folder}\npage  {page}")
    return 0


def _measures(text: str | None) -> list[str] | None:
    """Split a comma-separated list of names, without duplicates; `all` stands for every name."""
    from tuning.difficulty import MEASURES

    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name != "all" and name not in MEASURES:
            raise ConfigError(f"--measure must name {', '.join(MEASURES)} or all, but got {name!r}")
    return list(MEASURES) if "all" in names else list(dict.fromkeys(names))
