"""Writes what the studies of examples/long_runs.yaml found into docs/results/long-runs.md, with pictures.

    python benchmarks/long_runs_page.py runs/long-digits runs/long-mixture2d

The arguments are the studies' folders, whole or still running. Each has a place on the page, between two marks with its
name; what the page says of other studies stays. Pictures lie beside, in docs/assets.
"""

from __future__ import annotations

import datetime
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import click
from pages import check_marks, put_into

from curriculum_ray.config import ConfigError, flatten, load_json, parse
from curriculum_ray.files import replace_file
from curriculum_ray.words import capitalized
from tuning.claims.results import setting_of
from tuning.claims.words import size
from tuning.evidence.answer import answer, as_sentence
from tuning.evidence.arms import Arm, Ranking
from tuning.evidence.differences import Difference, against_uniform
from tuning.evidence.heldout import heldout_map
from tuning.evidence.keys import TrialKey
from tuning.evidence.metrics import count, metric_name, number, within
from tuning.evidence.previews import curve
from tuning.evidence.records import load_records
from tuning.evidence.short_names import UNIFORM
from tuning.evidence.speed import SpeedUp, speed_up
from tuning.figures.levels import images_axis
from tuning.figures.run_files import read_run
from tuning.figures.theme import LIGHT, dress, legend, new_panels, to_png
from tuning.folder.environment import Environments
from tuning.folder.layout import ENVIRONMENT_FILE, RECORD_FILE, STUDY_FILE
from tuning.report.heldout import draw_maps
from tuning.study.config import StudyConfig

PAGE = Path("docs/results/long-runs.md")
ASSETS = Path("docs/assets")
_PANELS = {
    "the paper's method and its controls": (
        "paper_2",
        "paper_10",
        "paper_25",
        "hard_to_easy",
        "random_order",
    ),
    "rivals, alone and with the curriculum": ("min_snr", "min_snr_paper_10", "laplace", "laplace_paper_10"),
}
_MAPPED = ("paper_10", "hard_to_easy")
_SAMPLED = (UNIFORM, "paper_10", "hard_to_easy", "min_snr", "laplace")
_ASKED = ("confirm_seeds", "margin")
_COLORS = ("easy_to_hard", "hard_to_easy", "random", "rival", "other")
_SPAN = 30.0


def section(folder: Path, assets: Path) -> str:
    """What a study found so far, in Markdown; its pictures are written into the folder `assets`."""
    # The first of these studies called its arms by their settings.
    records = [
        record.model_copy(update={"arm_name": record.key.named or record.arm_name})
        for record in load_records(folder).values()
    ]
    finished = [record for record in records if record.status == "finished"]
    if not finished:
        raise ConfigError(f"{folder} must be the folder of a study with finished trials")
    asked = (Environments.read(folder / ENVIRONMENT_FILE) or Environments()).asked
    settings = {**load_json(folder / STUDY_FILE), **{key: asked[key] for key in _ASKED if key in asked}}
    config = parse(StudyConfig, settings, str(folder / STUDY_FILE))
    ranking = Ranking.of(records, config.metric, config.margin)
    if ranking.uniform is None or not ranking.uniform.confirmed:
        raise ConfigError(f"{folder} must have fresh seeds of uniform sampling")
    arms = _arms(config, ranking)
    assert config.run.evaluation is not None
    samples = config.run.evaluation.num_samples
    ended = max((record.ran_in / RECORD_FILE).stat().st_mtime for record in finished)
    devices = " and ".join(sorted({name for record in finished for name in record.devices}))
    hours = sum(record.slot_seconds for record in records) / 3600
    parts = [
        f"{size(setting_of(config.run))}; {metric_name(config.metric)} of {samples:,} samples. "
        f"{len(finished)} runs{devices and f' on {devices}'}, {hours:.1f} hours of one worker in all, the last one on "
        f"{datetime.datetime.fromtimestamp(ended, datetime.UTC):%Y-%m-%d}; protocol `{finished[0].fingerprint}`.",
        f"```text\n{_command(config, folder.name)}\n```",
        f"**{as_sentence(answer(ranking), ranking)}**",
        _table(ranking, arms),
        *_previews(ranking, arms, folder.name, assets),
    ]
    return "\n\n".join(parts) + "\n"


def _command(config: StudyConfig, name: str) -> str:
    run = config.run
    words = ["--config", "examples/long_runs.yaml", "--data", run.data.name, "--images", str(run.images)]
    usual = parse(StudyConfig, {"run": {"data": {"name": run.data.name}, "images": run.images}}, name).run
    before, now = (flatten(each.model_dump(mode="json")) for each in (usual, run))
    for key, value in now.items():
        if value != before.get(key):
            words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    least, most = config.least_and_most_seeds
    words += ["--confirm-seeds", f"{least}" if least == most else f"{least}-{most}", "--name", name]
    return shlex.join(["python", "-m", "tune", "search", *words])


def _arms(config: StudyConfig, ranking: Ranking) -> dict[str, Arm]:
    """The arms that have runs, by their names in the file, uniform sampling last."""
    assert ranking.uniform is not None
    by_key = {record.origin: arm for arm in ranking.confirmed for record in arm.confirmed}
    names = [name for name in config.arms if TrialKey.arm(name) in by_key]
    return {**{name: by_key[TrialKey.arm(name)] for name in names}, UNIFORM: ranking.uniform}


def _table(ranking: Ranking, arms: Mapping[str, Arm]) -> str:
    """A row an arm."""
    metric, speeds = ranking.metric, {each.key: each for each in speed_up(ranking)}
    found = {each.key: each for each in against_uniform(ranking)}
    name = metric_name(metric)
    rows = [
        ["arm", name, "gain over uniform sampling", "answer", "times as fast", "stages", "seeds"],
        ["---"] * 7,
    ]
    for each, arm in arms.items():
        difference = found.get(arm.arm_id)
        rows.append(
            [
                f"`{each}`",
                number(arm.confirmed_value(metric)),
                "" if difference is None else _gain(difference),
                "" if difference is None else _word(difference),
                "" if arm.is_uniform else _speed(speeds.get(arm.arm_id)),
                "" if arm.is_uniform else arm.stages,
                str(len(arm.confirmed)),
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _gain(found: Difference) -> str:
    mean = f"{found.percent(found.mean):+.1f}%"
    if found.low is None or found.high is None:
        return mean
    return f"{mean} [{found.percent(found.low):.1f}, {found.percent(found.high):.1f}]"


def _word(found: Difference) -> str:
    return f"equal within {within(found.margin)}" if found.verdict == "equal" else found.verdict


def _speed(found: SpeedUp | None) -> str:
    """Images that uniform sampling needs for its last preview, over those of the arm."""
    if found is None:
        return "–"
    if found.images is None:
        return "never there"
    ends = "" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.ratio:.2f}{ends}" + (f", not on {found.missed}" if found.missed else "")


def _means(arm: Arm, metric: str) -> tuple[list[int], list[float]]:
    """Images, and the mean over the fresh seeds of the previews at each."""
    by_images: dict[int, list[float]] = {}
    for record in arm.confirmed:
        for images, value in curve(record.history, metric):
            by_images.setdefault(images, []).append(value)
    whole = {seen: values for seen, values in by_images.items() if len(values) == len(arm.confirmed)}
    return sorted(whole), [fmean(whole[seen]) for seen in sorted(whole)]


def _previews(ranking: Ranking, arms: Mapping[str, Arm], name: str, assets: Path) -> list[str]:
    """How uniform sampling's previews went on, from which it is seen whether its curve has flattened; the pictures."""
    parts, found = [], list[tuple[str, bytes | None, str]]()
    images, values = _means(arms[UNIFORM], ranking.metric)
    if images:
        steps = ", ".join(
            f"{number(value)} at {count(seen)}" for seen, value in zip(images, values, strict=True)
        )
        parts.append(
            f"Uniform sampling's previews, means over the seeds of fewer samples than the scores above: {steps}."
        )
        found.append(("curves", _curves(ranking, arms), "previews over images seen"))
    if maps := _maps(arms):
        alt = "gain in held-out loss over uniform sampling by noise level and images seen"
        found.append(("heldout", maps, alt))
    shown = ", ".join(each for each in _SAMPLED if each in arms)
    found.append(("samples", _samples(arms), f"samples from the same noise: {shown}"))
    for kind, png, alt in found:
        path = assets / f"{name}-{kind}.png"
        if png is not None:
            replace_file(path, png)
        elif not path.exists():
            continue
        parts.append(f"![{capitalized(alt)}](../assets/{path.name})")
    return parts


def _curves(ranking: Ranking, arms: Mapping[str, Arm]) -> bytes:
    """The means of the previews, in a panel each for the paper's method and for the rivals."""
    figure, panels = new_panels(len(_PANELS), 4.3, LIGHT, pad=0.1)
    name = metric_name(ranking.metric)
    for axes, (title, names) in zip(panels, _PANELS.items(), strict=True):
        dress(axes, LIGHT, capitalized(title), grid="y")
        lines = [("uniform sampling", arms[UNIFORM], "uniform")]
        lines += [
            (each, arms[each], kind) for each, kind in zip(names, _COLORS, strict=False) if each in arms
        ]
        for label, arm, kind in lines:
            style: Any = {"linewidth": 2.2} if arm.is_uniform else {"linewidth": 1.4}
            axes.plot(
                *_means(arm, ranking.metric),
                "o-",
                color=LIGHT.kinds[kind],
                markersize=3,
                label=label,
                **style,
            )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}")
        axes.tick_params(which="minor", labelsize=7)
        images_axis(axes)
        axes.set_ylabel(f"{name} of previews, mean over seeds")
        # Below: with curves from end to end, any place inside hides one.
        legend(axes, LIGHT, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return to_png(figure, dpi=110)


def _maps(arms: Mapping[str, Arm]) -> bytes | None:
    found = {name: heldout_map(arms[name], arms[UNIFORM]) for name in _MAPPED if name in arms}
    maps = [replace(each, name=name) for name, each in found.items() if each is not None]
    return to_png(draw_maps(maps, _SPAN, LIGHT), dpi=110) if maps else None


def _samples(arms: Mapping[str, Arm]) -> bytes | None:
    """The sample grids of one fresh seed side by side; None where one is missing, as in a study from a bundle."""
    from matplotlib.image import imread

    grids = []
    for name in _SAMPLED:
        if name in arms:
            if (png := read_run(arms[name].confirmed[0]).samples) is None:
                return None
            grids.append((name, imread(io.BytesIO(png))))
    if not grids:
        return None
    figure, panels = new_panels(len(grids), 2.4, LIGHT, across=len(grids))
    for axes, (name, grid) in zip(panels, grids, strict=True):
        axes.imshow(grid, cmap="gray", interpolation="auto")
        axes.set_title(name, fontsize=9, color=LIGHT.ink)
        axes.set_axis_off()
    return to_png(figure, dpi=110)


def marks(name: str) -> tuple[str, str]:
    """Between these stands what is said of a study on the page."""
    return f"<!-- study {name} -->", f"<!-- end of {name} -->"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "folders", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False, exists=True)
)
@click.option("--page", type=click.Path(path_type=Path, exists=True), default=PAGE, show_default=True)
@click.option("--assets", type=click.Path(path_type=Path, exists=True), default=ASSETS, show_default=True)
def main(folders: Sequence[Path], page: Path, assets: Path) -> None:
    """Write what the studies in FOLDERS found into the page."""
    for folder in folders:
        try:
            check_marks(page, marks(folder.name))
            put_into(page, marks(folder.name), section(folder, assets))
        except ConfigError as error:
            raise click.UsageError(str(error)) from None
        click.echo(f"{page}: {folder.name}")


if __name__ == "__main__":
    main()
