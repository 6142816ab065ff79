"""Format values and reasons for messages: on one line, printable, and of readable length."""

from __future__ import annotations

import reprlib
import unicodedata
from typing import Any

__all__ = ["fits_a_line", "one_line", "printable", "shown"]

LONGEST_LINE = 700
"""Characters of a line; longer text loses its middle, as the rule comes first and the reason last."""


# Unicode categories of control characters, surrogates, and line and paragraph separators.
_NOT_ON_A_LINE = ("Cc", "Cs", "Zl", "Zp")


def fits_a_line(text: str) -> bool:
    """Return whether `text` fits on one line: no control characters, surrogates or separators."""
    return text.isprintable() or not any(unicodedata.category(sign) in _NOT_ON_A_LINE for sign in text)


def printable(text: str) -> str:
    """`text` with every sign escaped that does not fit a line; joiners, which some scripts need, stay."""
    return "".join(sign if fits_a_line(sign) else ascii(sign)[1:-1] for sign in text)


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """Collapse whitespace in `text`, escape unprintable characters, and omit the middle if it is too long."""
    words = " ".join(text.split())
    line = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in words)
    if len(line) <= longest:
        return line
    head = longest * 2 // 3
    return f"{line[:head]} … {line[head + 3 - longest :]}"


class _Short(reprlib.Repr):
    """A `repr` that abbreviates deep, wide and long values; keys keep their order."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxlong, self.maxother = 4, 120, 40, 120
        self.maxdict = self.maxlist = self.maxtuple = 12

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if level <= 0 and x:
            return "{...}"
        parts = [
            f"{self.repr1(key, level - 1)}: {self.repr1(x[key], level - 1)}"
            for key in list(x)[: self.maxdict]
        ]
        return "{" + ", ".join([*parts, *["..."] * (len(x) > self.maxdict)]) + "}"

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to print integers with thousands of digits.
        return f"an integer of {x.bit_length()} bits" if x.bit_length() > 1000 else super().repr_int(x, level)


_SHORT = _Short()


def shown(value: Any) -> str:
    """Return the `repr` of `value`, abbreviated if it is long."""
    return one_line(_SHORT.repr(value), 200)
