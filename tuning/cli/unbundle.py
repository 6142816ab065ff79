"""`python -m tune unbundle`: a study from its bundle, to go on with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from curriculum_ray.words import number_of
from tuning.cli.options import example, paths_given, shared
from tuning.cli.output import json_text
from tuning.cli.parameters import NameOption, PathOption

if TYPE_CHECKING:
    from tuning.bundle.packed_study import PackedStudy
    from tuning.study.config import StudyConfig

__all__ = ["unbundle"]


@click.command(
    short_help="Unpack a study, to go on with it.",
    epilog=example(
        "python -m tune unbundle my-study.bundle.zip\n"
        "python -m tune unbundle my-study.bundle.zip --output theirs --data my-images/"
    ),
)
@click.argument("bundle", type=PathOption())
@shared("output")
@click.option(
    "--name", type=NameOption(), help="Name of the study and its folder; default that in the bundle."
)
@shared("data", "path", "json")
def unbundle(
    bundle: Path,
    output: Path,
    name: str | None,
    data: str | None,
    paths: tuple[tuple[str, str], ...],
    as_json: bool,
) -> int:
    """Write the study in a bundle into a folder, in which `search` goes on with it: with more seeds or more trials.

    The command that does so is printed. It stores in MLflow what the bundle holds, and makes the report; what was
    interrupted starts again, since a bundle holds no weights. Nothing is trained, and no code is run, by `unbundle`.
    """
    from curriculum_ray.models.named_code import TRUST_OPTION, code_named
    from tuning.bundle.archive import read_bundle
    from tuning.bundle.packed_study import PackedStudy
    from tuning.bundle.restore import restore_study
    from tuning.cli.options import writable_folder
    from tuning.evidence.answer import answer
    from tuning.folder.layout import STUDY_FILE
    from tuning.report.commands import search_command

    study = PackedStudy(read_bundle(bundle))
    writable_folder(output)
    restored = restore_study(study, output / (name or study.name), paths_given(data, paths))
    folder = restored.folder
    command = search_command(restored.config, folder / STUDY_FILE, str(output), None, folder.name)
    notes = [restored.note] if restored.note else []
    if code := sorted(code_named(restored.config.model_dump(mode="json"))):
        notes.append(f"its runs import {', '.join(code)}: search asks for {TRUST_OPTION}")
    differs, found = _differences(study, restored.config), answer(study.ranking)
    if as_json:
        values = {
            "written": str(folder),
            "trials": len(study.records),
            "answer": found,
            "search": command,
            "notes": notes,
            "differs": differs,
        }
        click.echo(json_text(values, indent=1))
        return 0
    click.echo(f"written   {folder}: study {study.name}, {number_of(len(study.records), 'trial')} that ended")
    click.echo(f"answer    {found}")
    for note in notes:
        click.echo(f"note      {note}")
    for place, line in enumerate(differs):
        click.echo(f"{'differs' if not place else '':9} {line}")
    click.echo(f"go on     {command}")
    return 0


def _differences(study: PackedStudy, config: StudyConfig) -> list[str]:
    """What differs here from where the study was trained, as far as the driver's machine tells."""
    from tuning.folder.environment import this_environment

    before = study.environment
    if before is None:
        return []
    here = this_environment(before.resources, before.pack, config.asked())
    return before.differences(here.model_copy(update={"gpus": before.gpus}))
