"""Scalars by the core schema of YAML 1.2 (§10.3), without the octal look-alike `010`, and within limits.

`yes`, `on`, `010`, `1:30` and `2001-01-01` are strings. JSON numbers and strings follow the same rules.
"""

from __future__ import annotations

import math
import re
from typing import Any

from curriculum_ray.config.shown import fits_a_line

__all__ = [
    "FLOAT",
    "OTHER_BASES",
    "TAG",
    "TextFault",
    "checked_text",
    "read_float",
    "read_integer",
    "read_plain",
    "read_tagged",
]

LARGEST_INTEGER = 2**63
"""Integers must be below it, and above its negative, to fit into every file and database used here."""

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)$")
OTHER_BASES = re.compile(r"0o[0-7]+$|0x[0-9a-fA-F]+$")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$")
_NULLS = ("", "~", "null", "Null", "NULL")
_TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
TAG = "tag:yaml.org,2002:"


class TextFault(ValueError):
    """A fault in a text: what and where."""


def read_tagged(text: str, tag: str, where: str) -> Any:
    """Read a scalar with a `tag`, which must match its value."""
    if tag in ("!", f"{TAG}str"):
        return text
    kinds = {"int": int, "float": float, "bool": bool, "null": type(None)}
    kind = kinds.get(tag.removeprefix(TAG))
    if kind is None:
        raise TextFault(f"the tag {tag} is not supported{where}")
    value = read_plain(text, where)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TextFault(f"{text[:40]!r} does not match its tag {tag.removeprefix(TAG)}{where}")
    return value


def read_plain(text: str, where: str) -> Any:
    """Read an unquoted scalar by the core schema."""
    if text in _NULLS:
        return None
    if text in _TRUTHS:
        return _TRUTHS[text]
    if _INTEGER.match(text):
        return read_integer(text, where)
    if OTHER_BASES.match(text):
        return read_integer(text, where, 8 if text[1] == "o" else 16)
    if FLOAT.match(text):
        return read_float(text, where)
    if _NOT_FINITE.match(text):
        raise TextFault(f"numbers must be finite, but got {text}{where}")
    return text


def read_integer(text: str, where: str = "", base: int = 10) -> int:
    # Python refuses to convert thousands of digits, which is slow.
    number = int(text, base) if len(text) < 80 else LARGEST_INTEGER
    if abs(number) >= LARGEST_INTEGER:
        raise TextFault(f"an integer must be smaller than 2^63, but got {text[:24]}…{where}")
    return number


def read_float(text: str, where: str = "") -> float:
    number = float(text)
    if not math.isfinite(number):
        raise TextFault(f"numbers must be smaller than 1e308, but got {text[:24]}{where}")
    return number


def checked_text(text: str, where: str = "") -> str:
    """Join surrogate pairs, as JSON escapes them, and refuse text that does not fit on one line."""
    if not text.isprintable():
        try:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise TextFault(f"a string holds half of a surrogate pair: {text[:40]!a}{where}") from None
        if not fits_a_line(text):
            raise TextFault(
                f"a string must be on one line, without control characters, but got {text[:40]!a}{where}"
            )
    return text
