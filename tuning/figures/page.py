"""Pieces of a self-contained HTML page: everything is escaped, nothing is fetched, nothing runs."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from tuning.figures.theme import DARK, LIGHT

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "Html",
    "details",
    "facts",
    "figure",
    "join",
    "page",
    "paragraph",
    "picture",
    "section",
    "table",
    "tag",
    "tiles",
]


class Html(str):
    """Text that is already markup; all other text is escaped."""

    def __html__(self) -> str:
        return self


def tag(name: str, content: object, **attributes: str) -> Html:
    """Return an element; `class_` and the like give attributes whose names Python keeps for itself."""
    return _piece("tag", name, content, {key.rstrip("_"): value for key, value in attributes.items()})


def join(parts: Iterable[object]) -> Html:
    """Concatenate parts."""
    return _piece("lines", list(parts))


def paragraph(text: object, faint: bool = False) -> Html:
    """Return a paragraph."""
    return tag("p", text, class_="faint") if faint else tag("p", text)


def section(title: str, *parts: Html | None) -> Html:
    """Return a section of the page under its title; empty where all parts are None."""
    known = [part for part in parts if part]
    return _piece("section", title, known) if known else Html()


def tiles(values: Sequence[tuple[str, str]]) -> Html:
    """Return (label, value) pairs as tiles."""
    return _piece("tiles", values)


def table(
    headings: Sequence[object],
    rows: Iterable[Sequence[object]],
    best: int | None = None,
    kind: str = "numbers",
) -> Html:
    """Return a table; columns after the first are of `kind` numbers or texts; row `best` stands out."""
    return _piece("table", headings, list(rows), best, kind)


def facts(rows: Iterable[tuple[object, object]], kind: str = "facts") -> Html:
    """Return a table of two columns without headings, names and values; `kind` facts or verdicts."""
    return _piece("facts", list(rows), kind)


def picture(
    png: bytes,
    alt: str,
    dark: bytes | None = None,
    narrow: bytes | None = None,
    narrow_dark: bytes | None = None,
) -> Html:
    """Return a picture embedded in the page, with variants for dark and for narrow screens."""
    others = [
        (narrow_dark, "(max-width: 700px) and (prefers-color-scheme: dark)"),
        (narrow, "(max-width: 700px)"),
        (dark, "(prefers-color-scheme: dark)"),
    ]
    return _piece("picture", _data(png), alt, [(_data(data), media) for data, media in others if data])


def figure(content: Html, caption: object = "") -> Html:
    """Return a picture with its caption."""
    return _piece("figure", content, caption)


def details(summary: str, content: Html) -> Html:
    """Return content that opens on demand."""
    return _piece("details", summary, content)


def page(title: str, content: Html) -> str:
    """Return the whole file."""
    template = _environment().get_template("page.html")
    return template.render(title=title, content=content, light=LIGHT, dark=DARK)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("tuning.figures"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@cache
def _pieces() -> Any:
    return _environment().get_template("pieces.html").module


def _piece(name: str, *values: object) -> Html:
    return Html(getattr(_pieces(), name)(*values))


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
