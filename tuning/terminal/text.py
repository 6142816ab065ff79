"""Text on a terminal: names and reasons verbatim, never as markup; no line breaks inside a word."""

from __future__ import annotations

import textwrap
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

__all__ = ["Words", "cut", "make_console", "print_line"]


def make_console(**options: Any) -> Console:
    """A console that prints text verbatim: `[final]` may be part of a path, and `:cat:` is no emoji."""
    return Console(markup=False, emoji=False, highlight=False, **options)


def print_line(console: Console, text: str, style: str = "") -> None:
    """Print a line: in a terminal broken between words where it is too long, elsewhere as one line.

    A word that is longer than the terminal is wide, e.g. a path, stays whole for pasting.
    """
    if console.is_terminal:
        console.print(Text(text, style, overflow="ignore"), crop=False)
    else:
        console.print(Text(text, style), soft_wrap=True)


def cut(text: str, width: int) -> str:
    """As many of the first words as fit into `width` characters, with a sign for those left out."""
    if cell_len(text) <= width:
        return text
    found = textwrap.shorten(text, width, placeholder=" …") if width > 1 else "…"
    return found if len(found) > 1 else f"{text[: width - 1]}…"


class Words:
    """Text of one line, cut between words to the width that it gets."""

    def __init__(self, text: str, style: str = "") -> None:
        self.text, self.style = text, style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(cut(self.text, options.max_width), self.style, no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, min(cell_len(self.text), options.max_width))
