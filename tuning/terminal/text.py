"""What a person sees on a terminal: names and reasons as they are, never as markup."""

from __future__ import annotations

from typing import Any

from rich.console import Console

__all__ = ["make_console"]


def make_console(**options: Any) -> Console:
    """A console that prints text as text: `[final]` is part of a path, not markup, and `:cat:` is no picture."""
    return Console(markup=False, emoji=False, highlight=False, **options)
