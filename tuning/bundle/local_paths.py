"""Paths of the user's machine in the settings of a bundle, in place of those that it does not hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from curriculum_ray.config import ConfigError, parse, with_key
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training.file_settings import file_keys, files_named

__all__ = [
    "LOCAL",
    "Place",
    "below",
    "check_given",
    "files_left_out",
    "files_of",
    "names_a_file",
    "texts_in",
    "with_files",
    "with_given_paths",
    "with_paths",
]

LOCAL = "local:"
"""Before the last part of a path of another machine."""
Place = tuple[str, ...]
"""The keys that lead to a value, dotted ones in their parts."""

_OF_A_STUDY = "space"
"""A setting of a study that names a file."""
_CHOICES = "choices"
"""Of a searched key, in a space."""
_SHORT = ("name", "path")
"""The key of a group that a path in place of the whole group stands for."""


def below(place: Place, key: object) -> Place:
    """The place of what stands under a key, dotted or not."""
    return (*place, *str(key).split("."))


def file_key(place: Place) -> str | None:
    """The dotted key of the setting at a place that names a file; None where it names none.

    The setting may be one of a run in any nesting: of a study, an arm, a rival or a space.
    """
    if place[-1:] == (_CHOICES,):
        place = place[:-1]
    known = _file_places()
    return next((known[place[at:]] for at in range(len(place)) if place[at:] in known), None)


@cache
def _file_places() -> dict[Place, str]:
    keys = sorted(file_keys(RunConfig))
    whole = {tuple(key.split(".")): key for key in keys}
    groups = {place[:-1]: key for place, key in whole.items() if place[-1] in _SHORT}
    others = {place[:-1]: key for place, key in whole.items()}
    return {(_OF_A_STUDY,): _OF_A_STUDY, **others, **groups, **whole}


def names_a_file(place: Place, text: str) -> bool:
    """Whether the text at this place is a path of more than one part; a path alone may stand for its group."""
    return "/" in text and file_key(place) is not None


def texts_in(value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Each text in settings, in any nesting, with its place."""
    match value:
        case str():
            yield place, value
        case Mapping():
            for key, inner in value.items():
                yield from texts_in(inner, below(place, key))
        case list() | tuple():
            for inner in value:
                yield from texts_in(inner, place)


def files_left_out(value: Any, place: Place = ()) -> Iterator[tuple[str, str]]:
    """The key of each file in the settings of a bundle, in any nesting, and what the bundle calls it."""
    for at, text in texts_in(value, place):
        if (key := _left_out(at, text)) is not None:
            yield key, text.removeprefix(LOCAL)


def with_paths(value: Any, given: Mapping[str, str], place: Place = ()) -> Any:
    """Settings of a bundle with the path given for its key in place of each file."""
    match value:
        case str() if (key := _left_out(place, value)) is not None:
            return given[key]
        case Mapping():
            return {key: with_paths(inner, given, below(place, key)) for key, inner in value.items()}
        case list() | tuple():
            return [with_paths(inner, given, place) for inner in value]
        case _:
            return value


def _left_out(place: Place, text: str) -> str | None:
    # A bundle that was changed may name a path in full.
    return file_key(place) if text.startswith(LOCAL) or names_a_file(place, text) else None


def check_given(named: Mapping[str, str], given: Mapping[str, tuple[str, str]], source: str) -> None:
    """ConfigError, one line, unless a path is given for each of the files that `source` names, and for no other.

    named: what it calls the file, by dotted key. given: (option, path) by dotted key.
    """
    if strange := sorted(given.keys() - named.keys()):
        raise ConfigError(f"{given[strange[0]][0]}: {source} names no file as {strange[0]}: leave it out")
    if absent := sorted(named.keys() - given.keys()):
        key = absent[0]
        option = "--data PATH" if key == "data.name" else f"--path {key}=PATH"
        raise ConfigError(
            f"{source} was trained with {named[key]} as {key}, which a bundle does not hold: "
            f"say where it lies with {option}"
        )


def files_of(config: RunConfig) -> dict[str, str]:
    """What a bundle calls the files that a run of it reads, by dotted key."""
    return {key: name.rpartition(LOCAL)[2] for key, name in files_named(config).items()}


def with_given_paths(config: RunConfig, given: Mapping[str, tuple[str, str]], source: str) -> RunConfig:
    """The settings of a bundle with the user's paths in place of its own; ConfigError unless exactly these are given.

    given: (option, path) by dotted key. source: the bundle, for errors.
    """
    check_given(files_of(config), given, source)
    return parse(RunConfig, with_files(config, given), source) if given else config


def with_files(config: RunConfig, given: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Settings of a run with the paths given for these of its files."""
    settings: dict[str, Any] = config.model_dump(mode="json")
    for key, (option, path) in given.items():
        settings = with_key(settings, key, path, option)
    return settings
