"""`python -m tune data`: what a data set holds, what is used, and what is left out and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from curriculum_ray.config import ConfigError, load_json
from curriculum_ray.own_files import FORCE_OPTION
from tuning.cli.options import example, read_settings, shared, writable_folder
from tuning.cli.output import json_text

if TYPE_CHECKING:
    from curriculum_ray.data import DataSpec

__all__ = ["data"]

_SHOWN = 64


@click.command(
    short_help="Show what is in a data set, and how it is read.",
    epilog=example(
        "python -m tune data my-images/\n"
        "python -m tune data shards/ --set data.format=parquet --set data.caption_column=prompt"
    ),
)
@click.argument("path", required=False)
@shared("output")
@click.option("--every", is_flag=True, help="Inspect every image of shards, not only 256.")
@shared("config", "set", "force", "log_level", "json")
def data(
    path: str | None,
    output: Path,
    every: bool,
    config_file: Path | None,
    overrides: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> int:
    """Print what the data at PATH (by default the digits) holds, what is used, and what is left out and why.

    Train, search and plan print the same lines first. A contact sheet of 64 items with their labels or
    captions, data-NAME.png, and the summary, data-NAME.json, are written to --output. --config and --set take
    only settings of the data.
    """
    from curriculum_ray.data import data_info, load_data
    from curriculum_ray.data.inspection import describe
    from curriculum_ray.data.spec import OnlyData
    from curriculum_ray.data.summary import quiet
    from curriculum_ray.own_files import check_own, write_own
    from tuning.figures.contact_sheet import contact_sheet

    spec = read_settings(OnlyData, config_file, overrides, {"data.name": ("PATH", path)}).data
    if every:
        _check_shards(spec)
    with quiet():
        found = data_info(spec) if spec.streamed else load_data(spec)
    folder = writable_folder(output)
    sheet, file = folder / f"data-{found.name}.png", folder / f"data-{found.name}.json"
    for target in (sheet, file):
        check_own(target, force=force)
    summary, examples = describe(spec, found, _SHOWN, every)
    if as_json:
        click.echo(json_text(summary.as_json(), ensure_ascii=False))
    else:
        for line in summary.lines():
            click.echo(line)
    if not force:
        _check_same_data(file, summary.path)
    written: dict[Path, str | bytes] = {}
    if len(examples.items):
        written[sheet] = contact_sheet(examples.items, examples.texts)
    written[file] = json_text(summary.as_json(), ensure_ascii=False)
    for target, content in written.items():
        if (kept := write_own(target, content, force=force)) is not None:
            click.echo(f"an earlier file was kept as {kept}", err=True)
    if not as_json:
        click.echo(f"written     {' and '.join(map(str, written))}")
    return 0


def _check_shards(spec: DataSpec) -> None:
    """Raise ConfigError, as `--every` is given, if all images are inspected anyway or there are none."""
    from curriculum_ray.data.spec import EMBEDDED

    if spec.format not in ("parquet", "webdataset"):
        got = (
            f"data.format is {spec.format or 'folder'}"
            if spec.name not in EMBEDDED
            else f"data.name is {spec.name}"
        )
        raise ConfigError(f"--every is for shards of images, data.format parquet or webdataset, but {got}")


def _check_same_data(file: Path, path: str) -> None:
    """Raise ConfigError if `file` is the summary of data of the same name that lie elsewhere than `path`."""
    if not file.is_file():
        return
    before = load_json(file).get("path")
    if before not in (None, path):
        raise ConfigError(
            f"{file} is of the data in {before}, not of {path or 'an embedded set'}: choose another --output, or add "
            f"{FORCE_OPTION}, which writes over it"
        )
