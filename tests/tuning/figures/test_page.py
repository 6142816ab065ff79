"""The pieces of a page: text is escaped, markup is kept, elements nest, and both themes are in it."""

from __future__ import annotations

import pytest

from tests.tuning.figures.pages import Checker
from tuning.figures import page as kit
from tuning.figures.page import Html
from tuning.figures.theme import DARK, LIGHT

BAD = '<b class="x">&'
ESCAPED = "&lt;b class=&#34;x&#34;&gt;&amp;"


def test_only_markup_escapes_escaping() -> None:
    assert kit.tag("b", "<i>") == "<b>&lt;i&gt;</b>"
    assert kit.tag("b", Html("<i>")) == "<b><i></b>"
    assert kit.tag("b", 1, class_='"x"') == '<b class="&#34;x&#34;">1</b>'


@pytest.mark.parametrize(
    "piece",
    [
        kit.join([BAD, kit.tag("p", BAD)]),
        kit.paragraph(BAD, faint=True),
        kit.section(BAD, kit.paragraph(BAD), None),
        kit.tiles([(BAD, BAD)]),
        kit.table([BAD], [[BAD], [kit.tag("i", BAD)]], best=1),
        kit.facts([(BAD, BAD)]),
        kit.picture(b"png", BAD),
        kit.picture(b"png", BAD, dark=b"dark", narrow=b"narrow", narrow_dark=b"both"),
        kit.figure(kit.picture(b"png", "alt"), BAD),
        kit.details(BAD, kit.paragraph(BAD)),
    ],
)
def test_every_piece_escapes_text_and_nests(piece: Html) -> None:
    assert BAD not in piece
    assert ESCAPED in piece
    Checker(piece)
    assert isinstance(piece, Html), "so that the next piece keeps it"


def test_a_section_of_nothing_is_nothing() -> None:
    assert kit.section("title", None, Html()) == ""


def test_one_row_stands_out() -> None:
    text = kit.table(["a"], [[0], [1], [2]], best=1)
    assert text.count("<tr") == 4
    assert '<tr class="best"><td>1</td></tr>' in text


def test_a_page_has_both_themes_and_loads_nothing() -> None:
    text = kit.page(BAD, kit.paragraph("content"))
    page = Checker(text)
    assert page.loads == ["data:,"]
    assert "script" not in page.names
    assert "default-src 'none'" in text
    assert f"<title>{ESCAPED}</title>" in text
    light, dark = text.split("prefers-color-scheme: dark", 1)
    assert f"--ground: {LIGHT.ground};" in light
    assert f"--ground: {DARK.ground};" in dark
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>\n")
