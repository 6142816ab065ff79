"""Optuna's journal in a bundle: what was tried, so that a search goes on elsewhere with the same suggestions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from curriculum_ray.config import ConfigError
from curriculum_ray.config.plain_yaml import TextFault, read_json

__all__ = ["journal_lines"]

_ATTRIBUTES = ("system_attrs", "system_attr")
_STATE = "cma:"
"""Of CMA-ES: its state is a pickle, and the numbers beside it mean nothing without it."""


def journal_lines(text: str, source: str) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal as JSON values, without what CMA-ES keeps in it.

    ConfigError, one line, where one is none. source: the file, for errors.
    """
    # What a kill left of a last line was never acknowledged.
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        try:
            found = read_json(line)
        except TextFault as error:
            raise ConfigError(f"{source}: line {number} is not readable: {error}") from None
        if not isinstance(found, dict):
            raise ConfigError(f"{source}: line {number} must hold a mapping of keys to values")
        for key in _ATTRIBUTES:
            if isinstance(attributes := found.get(key), dict):
                found[key] = {
                    name: value for name, value in attributes.items() if not name.startswith(_STATE)
                }
        yield found
