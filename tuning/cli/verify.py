"""`python -m tune verify`: trains a run of a bundle again and says whether it is equal to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from curriculum_ray.words import number_of
from tuning.cli.options import example, paths_given, shared
from tuning.cli.output import json_text
from tuning.cli.parameters import PathOption

if TYPE_CHECKING:
    from curriculum_ray.distributed.resources import ResourceSpec
    from tuning.bundle.packed_study import PackedStudy
    from tuning.bundle.replay import Replay
    from tuning.folder.environment import Environment

__all__ = ["verify"]


@click.command(
    short_help="Train a run of a bundle again, and compare it.",
    epilog=example(
        "python -m tune verify my-study.bundle.zip\n"
        "python -m tune verify my-study.bundle.zip --arm uniform --arm search-003 --data my-images/"
    ),
)
@click.argument("bundle", type=PathOption())
@click.option(
    "--arm",
    "arms",
    multiple=True,
    metavar="NAME",
    help="Which run: a trial's key, an arm's id, `best` or `uniform`; may be repeated; default the best schedule's "
    "first fresh seed.",
)
@shared("data", "path")
@click.option("--images", type=click.IntRange(min=1), help="Stop at the first log line after so many images.")
@click.option(
    "--into", type=PathOption(), help="Folder to train in; default proof-STUDY in the working folder."
)
@click.option(
    "--on", "device", type=click.Choice(["cpu", "gpu"]), help="Where to train; default as recorded."
)
@shared("num_workers", "trust_code", "json")
def verify(
    bundle: Path,
    arms: tuple[str, ...],
    data: str | None,
    paths: tuple[tuple[str, str], ...],
    images: int | None,
    into: Path | None,
    device: Literal["cpu", "gpu"] | None,
    num_workers: int | tuple[int, int] | None,
    trust_code: bool,
    as_json: bool,
) -> int:
    """Check a bundle's digests and data, train one of its runs again, and compare every recorded number.

    Exit code 0: equal to the bit. 1: different; the first difference is printed, with its image count, and what differs
    in versions and hardware. 2: bad input. The same command goes on where it was interrupted.

    Nothing is unpacked, and code that a bundle names is run only with --trust-code.
    """
    from curriculum_ray.distributed.capacity import check_resources
    from tuning.bundle.archive import read_bundle
    from tuning.bundle.packed_study import PackedStudy
    from tuning.bundle.replay import run_of, train_again
    from tuning.cli.options import writable_folder
    from tuning.terminal.run_display import RunDisplay

    study = PackedStudy(read_bundle(bundle))
    records = [study.chosen(name) for name in arms] or [study.by_default]
    given = paths_given(data, paths)
    # All are checked before the first is trained.
    runs = [(record, run_of(study, record, given, trust_code)) for record in records]
    resources = _resources(study, device, num_workers)
    if resources.use_gpu:
        by = (
            "--on gpu"
            if device == "gpu"
            else "the study was trained on GPUs, so that verify (without --on cpu)"
        )
        check_resources(1, resources, gpus_by=by)
    folder = writable_folder(into or Path(f"proof-{study.name}"))
    if not as_json:
        many = len(study.bundle.files)
        click.echo(
            f"bundle    study {study.name}, {number_of(len(study.records), 'trial')}; {many} digests are right"
        )
    found: list[dict[str, Any]] = []
    for record, config in runs:
        if not as_json:
            click.echo(f"training  {record.key}: {record.name}, {config.total_images:,} images")
        with RunDisplay(config, quiet=as_json) as display:
            replay = train_again(study, record, config, resources, folder / record.key, images, display)
        reasons = _reasons(study, resources)
        found.append(_as_object(replay, reasons))
        if not as_json:
            click.echo("\n".join(_lines(replay, reasons)))
    if as_json:
        click.echo(json_text({"study": study.name, "runs": found}, indent=1))
    return 0 if all(each["equal"] for each in found) else 1


def _resources(
    study: PackedStudy, device: Literal["cpu", "gpu"] | None, num_workers: int | tuple[int, int] | None
) -> ResourceSpec:
    """Those that the study was trained with last, except for what the user chooses."""
    from curriculum_ray.config import parse
    from curriculum_ray.distributed.resources import ResourceSpec

    recorded = ResourceSpec() if study.environment is None else study.environment.resources
    chosen = {"use_gpu": None if device is None else device == "gpu", "num_workers": num_workers}
    own = {key: value for key, value in chosen.items() if value is not None}
    of_gpus = {"gpus_per_worker", "accelerator_type"} if device == "cpu" else None
    kept = recorded.model_dump(mode="json", exclude=of_gpus)
    return parse(ResourceSpec, {**kept, **own}, "the resources of the bundle")


def _reasons(study: PackedStudy, resources: ResourceSpec) -> list[str]:
    """What differs here from where the study was trained."""
    from tuning.folder.environment import this_environment

    recorded = study.environments
    if not recorded:
        return ["the bundle does not say with which versions it was trained"]
    here = this_environment(resources)
    differences = dict.fromkeys(line for each in recorded for line in each.differences(here))
    counts = {*resources.workers, *(count for each in recorded for count in each.resources.workers)}
    reasons = [*_several(recorded), *differences]
    if len(counts) > 1:
        reasons.append("losses and gradients are summed in another order where the number of workers differs")
    if resources.use_gpu:
        reasons.append("on a GPU torch adds in a varying order, so that no two runs are equal to the bit")
    return reasons


def _several(recorded: Sequence[Environment]) -> list[str]:
    """What is uncertain where the study was trained in several environments."""
    if len(recorded) < 2:
        return []
    lines = [
        f"the study had starts in {len(recorded)} environments, and which of them trained this run is not recorded"
    ]
    workers = dict.fromkeys(each.resources.workers for each in recorded)
    if len(workers) > 1:
        counts = " or ".join("-".join(map(str, dict.fromkeys(each))) for each in workers)
        lines.append(f"its trials had {counts} workers: --num-workers, with another --into, tries others")
    return lines


def _lines(replay: Replay, reasons: Sequence[str]) -> list[str]:
    found = replay.comparison
    before = (
        ["note      trained by an earlier call in the same folder, as a whole or in part"]
        if replay.resumed
        else []
    )
    if replay.other_protocol is not None:
        before.append("note      metrics are measured by another protocol here, and were not compared")
    over = f"{found.numbers} numbers over {found.until:,} images"
    if found.equal:
        weights = ", and the weights at the end" if found.weights else ""
        return [*before, f"equal     to the bit: {over}{weights}"]
    if not found.mismatches:
        return [*before, f"different nothing could be compared within {found.until:,} images"]
    first, *more = found.mismatches
    lines = [*before, f"different {first.in_words()}", f"{'':9} {len(found.mismatches)} of {over} differ"]
    if replay.result is not None:
        ends = [each for each in more if each.images == found.until and each.what in replay.result.metrics]
        lines += [f"{'':9} {each.in_words()}" for each in ends]
    likely = list(reasons) or ["versions and hardware are those of the bundle: were its records changed?"]
    if found.same_weights:
        likely = [
            "the weights at the end are equal to the bit: the numbers in the bundle are not from this training run"
        ]
    return [*lines, *(f"{'likely' if not place else '':9} {line}" for place, line in enumerate(likely))]


def _as_object(replay: Replay, reasons: Sequence[str]) -> dict[str, Any]:
    found = replay.comparison
    return {
        "trial": replay.record.key,
        "equal": found.equal,
        "numbers": found.numbers,
        "images": found.until,
        "weights": found.weights,
        "differences": len(found.mismatches),
        "first": asdict(found.mismatches[0]) if found.mismatches else None,
        "here": None if replay.result is None else dict(replay.result.metrics),
        "recorded": dict(replay.record.metrics),
        "other_protocol": replay.other_protocol,
        "resumed": replay.resumed,
        "differs": list(reasons),
    }
