"""Pieces of a self-contained HTML page: everything is escaped, nothing is fetched, nothing runs."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

__all__ = [
    "Html",
    "details",
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

_STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --card: #f6f7f9; --ink: #1f2430; --faint: #667085;
  --line: #e5e7eb; --accent: #0b5cab; --good: #067647; --bad: #b42318; }
@media (prefers-color-scheme: dark) { :root { --ground: #161a22; --card: #1d222c; --ink: #e6e9ef;
  --faint: #98a2b3; --line: #2b313d; --accent: #7cc0f5; --good: #5fd8a0; --bad: #ff9d8f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 15px; font-weight: 600; color: var(--faint); margin: 0 0 8px; letter-spacing: .01em; }
.answer { font-size: clamp(18px, 2vw, 25px); line-height: 1.3; font-weight: 650; margin: 0 0 12px;
  max-width: none; } .also { font-size: 17px; max-width: none; } .tiles { margin-top: 24px; }
h2 { font-size: 19px; margin: 48px 0 12px; }
p { max-width: 75ch; margin: 8px 0; } .faint, figcaption, caption { color: var(--faint); font-size: 14px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.tile { background: var(--card); border-radius: 10px; padding: 14px 16px; }
.tile b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.tile span { color: var(--faint); font-size: 13px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 8px 10px; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th { color: var(--faint); font-weight: 500; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; min-width: 15em; }
tr.best td { font-weight: 600; } .good { color: var(--good); } .bad { color: var(--bad); }
table.texts th, table.texts td { text-align: left; white-space: normal; }
table.facts { width: auto; }
table.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
table.facts td:first-child { color: var(--faint); min-width: 9em; }
figure { margin: 16px 0; }
figcaption { margin-top: 8px; } figure img { max-width: 100%; height: auto; display: block; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 24px; }
.pair img { width: 100%; image-rendering: pixelated; border-radius: 6px; }
pre { background: var(--card); border-radius: 10px; padding: 14px 16px; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: 13px;
  line-height: 1.45; } code, pre { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }
@media (max-width: 700px) { main { padding: 24px 16px 56px; } figure { overflow-x: auto; }
  figure picture img { width: 100%; } }
details { margin: 12px 0; } summary { cursor: pointer; color: var(--accent); }
"""
# No address is allowed at all, so that a report is the same with and without a network.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Html(str):
    """Text that is markup already; every other text is escaped."""


def _safe(value: object) -> str:
    return value if isinstance(value, Html) else escape(str(value))


def tag(name: str, content: object, **attributes: str) -> Html:
    """Return an element; `class_` and the like give attributes whose names Python keeps for itself."""
    given = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>{_safe(content)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Put parts one after the other."""
    return Html("\n".join(_safe(part) for part in parts))


def paragraph(text: object, faint: bool = False) -> Html:
    """Return a paragraph."""
    return tag("p", text, class_="faint") if faint else tag("p", text)


def section(title: str, *parts: Html | None) -> Html:
    """Return a part of the page under its title; nothing where all of it is None."""
    known = [part for part in parts if part]
    return tag("section", join([tag("h2", title), *known])) if known else Html()


def tiles(values: Sequence[tuple[str, str]]) -> Html:
    """Return (label, value) pairs as tiles."""
    pairs = (join([tag("b", value), tag("span", label)]) for label, value in values)
    return tag("div", join(tag("div", pair, class_="tile") for pair in pairs), class_="tiles")


def table(
    headings: Sequence[object],
    rows: Iterable[Sequence[object]],
    best: int | None = None,
    kind: str = "numbers",
) -> Html:
    """Return a table; columns after the first are of `kind` numbers or texts; row `best` stands out."""
    head = tag("tr", join(tag("th", heading) for heading in headings))
    body = []
    for number, row in enumerate(rows):
        cells = join(tag("td", cell) for cell in row)
        body.append(tag("tr", cells, class_="best") if number == best else tag("tr", cells))
    return tag(
        "div", tag("table", join([tag("thead", head), tag("tbody", join(body))]), class_=kind), class_="wide"
    )


def facts(rows: Iterable[tuple[object, object]]) -> Html:
    """Return names and what they are."""
    cells = (tag("tr", join([tag("td", name), tag("td", value)])) for name, value in rows)
    return tag("table", join(cells), class_="facts")


def picture(
    png: bytes,
    alt: str,
    dark: bytes | None = None,
    narrow: bytes | None = None,
    narrow_dark: bytes | None = None,
) -> Html:
    """Return a picture that is part of the page, with other ones for dark and for narrow screens."""
    image = f'<img src="{_data(png)}" alt="{escape(alt)}">'
    others = [
        (narrow_dark, "(max-width: 700px) and (prefers-color-scheme: dark)"),
        (narrow, "(max-width: 700px)"),
        (dark, "(prefers-color-scheme: dark)"),
    ]
    known = [f'<source srcset="{_data(data)}" media="{where}">' for data, where in others if data]
    return Html(f"<picture>{''.join(known)}{image}</picture>" if known else image)


def figure(content: Html, caption: object = "") -> Html:
    """Return a picture with its caption."""
    return tag("figure", join([content, tag("figcaption", caption)] if caption else [content]))


def details(summary: str, content: Html) -> Html:
    """Return content that opens on demand."""
    return tag("details", join([tag("summary", summary), content]))


def page(title: str, content: Html) -> str:
    """Return the whole file."""
    head = [
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Html('<link rel="icon" href="data:,">'),
        tag("title", title),
        tag("style", Html(_STYLE)),
    ]
    body = tag("body", tag("main", content))
    return f'<!doctype html>\n<html lang="en">\n{tag("head", join(head))}\n{body}\n</html>\n'


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
