"""Text files as programs write them: with a byte order mark or without, lines ended as any system ends them."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

__all__ = ["decode", "lines", "read_text", "same_name"]

# The longer marks first: that of UTF-32 begins as that of UTF-16 does.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LINE_END = re.compile(r"\r\n|\n|\r")


def decode(content: bytes) -> str:
    """Text in UTF-8, or in what a byte order mark says, which is not part of it; UnicodeDecodeError otherwise."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding)
    return content.decode("utf-8")


def read_text(path: Path) -> str:
    """`decode` the content of `path`; line ends stay as they are."""
    return decode(path.read_bytes())


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that hold something, with their numbers from 1 on.

    Lines end at LF, CR LF or CR alone: str.splitlines would also cut at U+2028, U+0085 and others, which JSON strings
    may hold as they are (RFC 8259, section 7).
    """
    for number, line in enumerate(_LINE_END.split(text), 1):
        if line.strip():
            yield number, line


def same_name(name: str) -> str:
    """A path within a folder in the one spelling by which names are compared: composed letters, slashes, no `./`."""
    parts = [part for part in normalize("NFC", name).replace("\\", "/").split("/") if part not in ("", ".")]
    return "/".join(parts)
