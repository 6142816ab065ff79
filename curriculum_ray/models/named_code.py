"""Code that settings name: a file from elsewhere may name code only with the user's permission."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from curriculum_ray.config import ConfigError

__all__ = ["TRUST_OPTION", "check_named_code", "code_named"]

TRUST_OPTION = "--trust-code"
"""The option that allows files to name code to import and call."""
_SHORT = "python:"


def code_named(settings: Any) -> set[str]:
    """Find the import paths that `settings` name as a network (`model: python:…`) or optimiser, in any form and depth.

    settings: nested mappings and lists, validated or not; keys may be dotted, as in a search space, and
    values may be lists of choices.
    """
    return set(_named(settings, ()))


def check_named_code(settings: Any, source: str, *, trusted: bool, allowed: Iterable[str] = ()) -> None:
    """Raise ConfigError if the file `source` names code that the user does not.

    trusted: whether the user gave `TRUST_OPTION`. allowed: import paths that the user's own command line
    names.
    """
    named = sorted(code_named(settings) - set(allowed))
    if named and not trusted:
        raise ConfigError(
            f"{source} names code to import and run, {named[0]}: add {TRUST_OPTION} if you trust its origin"
        )


def _named(node: Any, trail: tuple[str, ...]) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _named(value, (*trail, *str(key).split(".")))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _named(value, trail)
    elif isinstance(node, str):
        if node.startswith(_SHORT):
            yield node.removeprefix(_SHORT)
        elif "model" in trail and _is_path(trail):
            yield node


def _is_path(trail: tuple[str, ...]) -> bool:
    """Return whether the value at `trail` is `model.path`, or one of its choices in a space."""
    at = len(trail) - trail[::-1].index("model")
    return trail[at : at + 1] == ("path",) and trail[-1] in ("path", "choices")
