"""Settings, records and pages of a study without paths of the machine that wrote them, and without secrets."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from curriculum_ray.addresses import without_secrets
from curriculum_ray.buckets.address import is_address, names
from curriculum_ray.config.shown import printable
from tuning.bundle.local_paths import LOCAL, Place, below, names_a_file, texts_in

__all__ = ["Portable", "paths_in"]

# A sign of a path's folders: no quote, and punctuation only where the name goes on.
_SIGN = r"(?:[^\s/\"'`<>|*?,:;()]|[()](?=\S)|[,:;](?=[^\s/]))"
# A folder may have words; an option, or another path, begins none.
_FOLDER = rf"{_SIGN}+(?: +(?![~…-]){_SIGN}+)*/+"
# An address without a host, a user's home folder, or the root where no word and no other part of a path ends.
_START = r"(?:\b[A-Za-z][\w+.-]*:///?(?:localhost)?(?=/)|(?<![\w/])~[\w.-]*(?=/)|(?<![\w./…~<%+-]))"
_PATH = rf"{_START}/(?=[\w.\\@~])(?P<folders>(?:{_FOLDER})*)(?P<last>[^\s/\"'`<>|*?,:;()]*)"
# Of a page: a style, a picture, and the beginning of a tag stay; the rest are texts and values of attributes.
_OF_A_PAGE = re.compile(
    r"<style.*?</style>|data:image/[\w.+-]+;base64,[A-Za-z0-9+/=]+|</?\w+|([^<>\"]+)", re.DOTALL
)


class Portable:
    """Removes the paths of a machine from what a study holds."""

    def __init__(self, folders: Iterable[Path], paths: Iterable[str]) -> None:
        """folders: of the study, now and when it was searched. paths: those that its settings name."""
        places = {place for folder in folders for place in (folder.absolute(), folder.resolve())}
        known = {str(place): place.name for place in places} | {path: _last(path) for path in paths}
        # As they are, and as JSON writes them.
        self._known = {
            written: name for path, name in known.items() for written in (path, json.dumps(path)[1:-1])
        }
        beside = _any_of(str(place.parent) for place in places)
        self._paths = re.compile(
            rf"(?<![\w.~/-])(?:(?P<known>{_any_of(self._known)})(?P<below>/|(?![\w-]|\.\w))"
            rf"|(?P<beside>{beside})(?![\w/-]|\.\w))|{_PATH}"
        )
        # Records have the same texts over and over, and the search for secrets takes time.
        self._seen: dict[str, str] = {}

    def value(self, value: Any, place: Place = ()) -> Any:
        """A JSON value without paths: a setting that names a file keeps the last part of its path, after `LOCAL`."""
        match value:
            case str():
                return f"{LOCAL}{_last(value)}" if names_a_file(place, value) else printable(self.text(value))
            case Mapping():
                return {key: self.value(inner, below(place, key)) for key, inner in value.items()}
            case list() | tuple():
                return [self.value(inner, place) for inner in value]
            case _:
                return value

    def page(self, page: str) -> str:
        """A page of HTML without paths in its texts and in the values of its attributes."""
        return _OF_A_PAGE.sub(self._written, page)

    def text(self, text: str) -> str:
        """A text in which known paths are relative, and of all others at most the last part is left."""
        if text not in self._seen:
            self._seen[text] = without_secrets(self._paths.sub(self._short, text))
        return self._seen[text]

    def _short(self, found: re.Match[str]) -> str:
        if found["known"]:
            return f"{self._known[found['known']]}{found['below']}"
        if found["beside"]:
            return "."
        return f"…/{found['last']}" if found["folders"] else "…"

    def _written(self, found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        text = html.unescape(found[1])
        portable = self.text(text)
        return found[1] if portable == text else html.escape(portable)


def paths_in(value: Any, place: Place = ()) -> Iterator[str]:
    """The paths that settings name, in any nesting: those of runs, spaces, arms and rivals."""
    return (text for at, text in texts_in(value, place) if names_a_file(at, text))


def _any_of(paths: Iterable[str]) -> str:
    """A pattern of any of these, the longest that there is; of none where there are none."""
    longest_first = sorted((path for path in paths if path.strip("/")), key=len, reverse=True)
    return "|".join(re.escape(path) for path in longest_first) or "(?!)"


def _last(path: str) -> str:
    return (names(path)[-1] if is_address(path) else Path(path).name) or "data"
