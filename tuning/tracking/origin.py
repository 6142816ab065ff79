"""Where a run comes from: the command, the code and the person, under MLflow's own tags and ours."""

from __future__ import annotations

import getpass
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from curriculum_ray.addresses import presentable, without_secrets
from curriculum_ray.shell import console_script
from tuning.folder.versions import code_commit, package_versions
from tuning.tracking.fields import tag_values

__all__ = ["command_line", "origin_tags"]


def origin_tags(arguments: Sequence[str], *addresses: str | None) -> dict[str, str]:
    """The tags of a run that this process starts.

    arguments: those of the process, the program's path first. addresses: those whose secrets must not be stored.
    """
    command, commit = command_line(arguments, *addresses), code_commit()
    packages = {"python": platform.python_version(), **package_versions()}
    own = {
        "command": command,
        "commit": commit,
        "versions": ", ".join(f"{name} {found}" for name, found in packages.items()),
    }
    shown: Mapping[str, str | None] = {
        "mlflow.source.name": command,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": None if commit is None else commit.removesuffix("-dirty"),
        "mlflow.user": _user(),
    }
    return {**tag_values(own), **{key: value for key, value in shown.items() if value}}


def command_line(arguments: Sequence[str], *addresses: str | None) -> str:
    """The command as it could be typed, without the secrets of addresses: "python -m tune search --trials 8"."""
    if not arguments:
        return ""
    program = Path(arguments[0]).name
    words = ["python", "-m", "tune"] if program == "tune.py" else [console_script]
    words = words if program in ("tune.py", console_script) else [program]
    # A password may hold what the shell must quote: each word is cleaned before it is.
    return without_secrets(shlex.join([*words, *map(_without_user, arguments[1:])]), *addresses)


def _without_user(word: str) -> str:
    """`--mlflow-uri=http://user:secret@host` and `storage=postgresql://…`, without the address's secrets."""
    parts = word.split("=")
    for place in range(len(parts)):
        start, rest = "=".join(parts[:place]), "=".join(parts[place:])
        if (bare := presentable(rest)) != rest:
            return f"{start}={bare}" if place else bare
    return word


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        return None
