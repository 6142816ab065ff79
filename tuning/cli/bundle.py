"""`python -m tune bundle`: a study as one file, which `verify` proves elsewhere and `unbundle` goes on with."""

from __future__ import annotations

from pathlib import Path

import click

from tuning.cli.options import example, shared
from tuning.cli.output import json_text
from tuning.cli.parameters import FileOption

__all__ = ["bundle"]

_SUFFIX = ".bundle.zip"


@click.command(
    short_help="Pack a study into one file, for others to check.",
    epilog=example("python -m tune bundle my-study\npython -m tune bundle runs/my-study --into proof.zip"),
)
@click.argument("study")
@click.option("--into", type=FileOption(), help=f"The file; default STUDY{_SUFFIX} in the working folder.")
@click.option("--no-report", is_flag=True, help="Leave out the report with its figures, most of the file.")
@shared("output", "json")
def bundle(study: str, into: Path | None, no_report: bool, output: Path, as_json: bool) -> int:
    """Pack a study into one file that `verify` proves on another machine, and `unbundle` goes on with.

    STUDY is the name of a study in --output, or the path of its folder; an interrupted one is packed as far as it got.
    The file holds the settings, the space, the schedules and records of all trials that ended, the versions, the data's
    fingerprint and the report; no weights, no data, no path of this machine. Equal contents make equal bytes.
    """
    import hashlib

    from curriculum_ray.config import ConfigError
    from curriculum_ray.files import replace_file
    from curriculum_ray.shell import tune_command
    from tuning.bundle.archive import read_bundle
    from tuning.bundle.pack import pack_study

    folder = output / study if (output / study).is_dir() else Path(study)
    if not folder.is_dir():
        raise ConfigError(f"there is no study {study} in {output}, and no folder {study}")
    packed = pack_study(folder, report=not no_report)
    path = into or Path(f"{folder.resolve().name}{_SUFFIX}")
    if path.exists() or path.is_symlink():
        try:
            read_bundle(path)
        except ConfigError:
            raise ConfigError(f"{path} exists, and is no bundle: choose another --into") from None
    try:
        replace_file(path, packed.content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    digest = hashlib.sha256(packed.content).hexdigest()
    again, onward = tune_command("verify", path), tune_command("unbundle", path)
    if as_json:
        found = {
            "written": str(path),
            "bytes": len(packed.content),
            "sha256": digest,
            "trials": packed.trials,
            "ended": packed.ended,
            "answer": packed.answer,
            "verify": again,
            "unbundle": onward,
        }
        click.echo(json_text(found, indent=1))
        return 0
    rows = {
        "written": f"{path}, {len(packed.content):,} bytes, {packed.trials} trials",
        "SHA-256": digest,
        "answer": packed.answer,
        **(
            {}
            if packed.ended
            else {"note": "the study was interrupted: the bundle holds the trials that ended"}
        ),
        "verify": f"{again}  (in any folder, on any machine)",
        "go on": f"{onward}  (likewise)",
    }
    for name, value in rows.items():
        click.echo(f"{name:9} {value}")
    return 0
