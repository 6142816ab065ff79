"""Code that settings name: a file from elsewhere may name code only with the user's permission."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from curriculum_ray.config import ConfigError

__all__ = ["PYTHON", "TRUST_OPTION", "check_named_code", "code_named", "imported_class", "in_one_line"]

TRUST_OPTION = "--trust-code"
"""The option that allows files to name code to import and call."""
PYTHON = "python:"
"""Leads the import path of a network or an optimiser of the user's own."""


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


def imported_class(path: str, base: type, base_name: str, source: str) -> Any:
    """The class at the import path `path`, a subclass of `base`, which is called `base_name`; else ConfigError.

    source: the setting and its value, for errors. Nothing is called: settings may hold the arguments.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{source} cannot be imported: {in_one_line(error)}") from None
    if not (inspect.isclass(found) and issubclass(found, base)):
        what = found.__name__ if inspect.isclass(found) else type(found).__name__
        raise ConfigError(f"{source} must be a subclass of {base_name}, but is {what}")
    return found


def in_one_line(error: BaseException) -> str:
    """What the user's code raised, for the end of a one-line error."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _named(node: Any, trail: tuple[str, ...]) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _named(value, (*trail, *str(key).split(".")))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _named(value, trail)
    elif isinstance(node, str):
        if node.startswith(PYTHON):
            yield node.removeprefix(PYTHON)
        elif "model" in trail and _is_path(trail):
            yield node


def _is_path(trail: tuple[str, ...]) -> bool:
    """Return whether the value at `trail` is `model.path`, or one of its choices in a space."""
    at = len(trail) - trail[::-1].index("model")
    return trail[at : at + 1] == ("path",) and trail[-1] in ("path", "choices")
