"""Paths of the user's machine in the settings of a bundle, in place of those that it does not hold."""

from __future__ import annotations

from collections.abc import Mapping

from curriculum_ray.config import ConfigError, parse, with_key
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training.file_settings import files_named

__all__ = ["LOCAL", "with_given_paths"]

LOCAL = "local:"
"""Before the last part of a path of another machine."""


def with_given_paths(config: RunConfig, given: Mapping[str, tuple[str, str]], source: str) -> RunConfig:
    """The settings of a bundle with the user's paths in place of its own; ConfigError unless exactly these are given.

    given: (option, path) by dotted key. source: the bundle, for errors.
    """
    named = files_named(config)
    if strange := sorted(given.keys() - named.keys()):
        raise ConfigError(f"{given[strange[0]][0]}: {source} names no file as {strange[0]}: leave it out")
    if absent := sorted(named.keys() - given.keys()):
        key = absent[0]
        option = "--data PATH" if key == "data.name" else f"--path {key}=PATH"
        raise ConfigError(
            f"{source} was trained with {named[key].rpartition(LOCAL)[2]} as {key}, which a bundle does not hold: "
            f"say where it lies with {option}"
        )
    settings = config.model_dump(mode="json")
    for key, (option, path) in given.items():
        settings = with_key(settings, key, path, option)
    return parse(RunConfig, settings, source) if given else config
