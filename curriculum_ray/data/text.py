"""Reads text files with or without a byte order mark, and with the line ends of any system, and JSON in them."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unicodedata import normalize

from curriculum_ray.config.regular import read_regular

__all__ = ["canonical_path", "decode", "lines", "parse_json", "read_text"]

# Longer marks first: that of UTF-32 starts with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LINE_END = re.compile(r"\r\n|\n|\r")


def decode(content: bytes) -> str:
    """Decode UTF-8, or the encoding of a byte order mark, which is dropped; UnicodeDecodeError otherwise."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding)
    return content.decode("utf-8")


def read_text(path: Path) -> str:
    """`decode` the content of `path`, as `read_regular` reads it; line ends are kept."""
    return decode(read_regular(path))


def parse_json(text: str) -> Any:
    """The value of a JSON text; ValueError where an object has a key twice, of which `json` would keep the last."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is repeated")
        return found

    return json.loads(text, object_pairs_hook=once)


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Iterate over non-blank lines with their numbers, from 1.

    Lines end only at LF, CR LF or CR: str.splitlines would also split at U+2028, U+0085 and others, which
    JSON strings may contain unescaped (RFC 8259, section 7).
    """
    for number, line in enumerate(_LINE_END.split(text), 1):
        if line.strip():
            yield number, line


def canonical_path(name: str) -> str:
    """Normalise a relative path so that spellings compare equal: composed letters (NFC), slashes, no `./`."""
    parts = [part for part in normalize("NFC", name).replace("\\", "/").split("/") if part not in ("", ".")]
    return "/".join(parts)
