"""Text on a terminal: names and reasons verbatim, never as markup."""

from __future__ import annotations

from typing import Any

from rich.console import Console

__all__ = ["make_console"]


def make_console(**options: Any) -> Console:
    """A console that prints text verbatim: `[final]` may be part of a path, and `:cat:` is no emoji."""
    return Console(markup=False, emoji=False, highlight=False, **options)
