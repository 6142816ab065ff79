"""What a person sees on a terminal: names and reasons as they are, and commands that can be pasted."""

from __future__ import annotations

import shlex
from typing import Any

from rich.console import Console

__all__ = ["make_console", "tune_command"]


def make_console(**options: Any) -> Console:
    """A console that prints text as text: `[final]` is part of a path, not markup, and `:cat:` is no picture."""
    return Console(markup=False, emoji=False, highlight=False, **options)


def tune_command(*words: object) -> str:
    """The command line `python -m tune WORDS`, quoted for a shell where it needs to be."""
    return shlex.join(["python", "-m", "tune", *map(str, words)])
