"""Machine-specific paths in a study's files: removed when it is packed, supplied again where it is verified."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from curriculum_ray.addresses import without_secrets
from curriculum_ray.config import ConfigError, flatten, with_key
from curriculum_ray.data.spec import EMBEDDED

__all__ = ["Portable", "given_paths", "paths_in"]

_LOCAL = "local:"
"""Before the last part of a path of another machine."""
# The settings of a run that name files.
_KEYS = (
    *(
        "data.name",
        "data.text_encoder",
        "data.vae",
        "evaluation.clip_score.path",
        "evaluation.reference",
        "evaluation.weights",
        "init_from.path",
    ),
    *("schedule.clusters.difficulty", "schedule.order.by"),
)
_NOT_PATHS = {"data.name": EMBEDDED, "schedule.order.by": ("noise_level",)}
# Two parts or more; tags and addresses are none. `</p>` and `https://` have what it must not follow.
_PATH = re.compile(r"(?<![\w.:/<~%&;=+-])~?/(?:[^\s/\"'<>|\\&:;,()*?]+/)+([^\s/\"'<>|\\&:;,()*?]*)")
# Pictures in a page: their base64 has slashes.
_PICTURE = re.compile(r"(data:image/[\w+.-]+;base64,[A-Za-z0-9+/=\s]+)")


def paths_in(settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a run that name files, by dotted key, with what they name."""
    flat = flatten(settings)
    named = {key: flat.get(key) for key in _KEYS}
    return {
        key: value
        for key, value in named.items()
        if isinstance(value, str) and value not in _NOT_PATHS.get(key, ())
    }


def given_paths(
    settings: Mapping[str, Any], given: Mapping[str, tuple[str, str]], source: str
) -> dict[str, Any]:
    """The settings of a bundle with the user's paths in place of its own; ConfigError unless all are given.

    given: (option, path) by dotted key.
    """
    named = paths_in(settings)
    if strange := sorted(given.keys() - named.keys()):
        raise ConfigError(f"{given[strange[0]][0]}: {source} names no file as {strange[0]}: leave it out")
    if absent := sorted(named.keys() - given.keys()):
        key = absent[0]
        option = "--data PATH" if key == "data.name" else f"--path {key}=PATH"
        raise ConfigError(
            f"{source} was trained with {named[key].removeprefix(_LOCAL)} as {key}, which a bundle does not "
            f"hold: say where it lies with {option}"
        )
    result = dict(settings)
    for key, (option, path) in given.items():
        result = with_key(result, key, path, option)
    return result


class Portable:
    """Settings, records and pages of a study without paths of this machine, and without secrets."""

    def __init__(self, folders: Iterable[Path], settings: Mapping[str, Any]) -> None:
        """folders: of the study, now and when it was searched. settings: of the runs of the study."""
        parents = {
            str(path) for folder in folders for path in (folder.absolute().parent, folder.resolve().parent)
        }
        known = dict.fromkeys(parents, "")
        known |= {path: _last(path) for path in paths_in(settings).values() if path.startswith("/")}
        # Two parts or more: a page has many lone slashes.
        self._known = {path: name for path, name in known.items() if path.count("/") > 1}

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a run, with only the last part of each path."""
        result = dict(values)
        for key, path in paths_in(values).items():
            result = with_key(result, key, f"{_LOCAL}{_last(path)}", key)
        return result

    def value(self, value: Any) -> Any:
        """A JSON value, each text of which is portable."""
        match value:
            case str():
                return self.text(value)
            case Mapping():
                return {key: self.value(inner) for key, inner in value.items()}
            case list() | tuple():
                return [self.value(inner) for inner in value]
            case _:
                return value

    def page(self, page: str) -> str:
        """A page without paths outside of its pictures."""
        parts = _PICTURE.split(page)
        return "".join(part if place % 2 else self.text(part) for place, part in enumerate(parts))

    def text(self, text: str) -> str:
        """A text in which known paths are relative, and of all others only the last part is left."""
        for path in _longest_first(self._known):
            for written in {path, html.escape(path)}:
                name = self._known[path]
                text = text.replace(f"{written}/", f"{name}/" if name else "")
                text = re.sub(rf"{re.escape(written)}(?![\w.-])", name.replace("\\", r"\\") or ".", text)
        return without_secrets(_PATH.sub(lambda found: f"…/{found[1]}", text))


def _last(path: str) -> str:
    return Path(path).name or "data"


def _longest_first(paths: Iterable[str]) -> list[str]:
    return sorted(paths, key=len, reverse=True)
