"""Text files of any system: byte order marks, line ends, and names of files as other systems spell them."""

from __future__ import annotations

import pytest

from curriculum_ray.data.text import canonical_path, decode, lines


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding_and_is_no_text(encoding: str) -> None:
    assert decode("a “cat”\u2028".encode(encoding)) == "a “cat”\u2028"


def test_lines_end_at_line_ends_alone() -> None:
    inside = "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e"
    assert list(lines(f"a{inside}b\r\n\r\nc\rd\n")) == [(1, f"a{inside}b"), (3, "c"), (4, "d")]


@pytest.mark.parametrize("name", ["./cafe\u0301/a.png", "caf\u00e9\\a.png", "caf\u00e9//a.png"])
def test_names_are_compared_in_one_spelling(name: str) -> None:
    assert canonical_path(name) == "caf\u00e9/a.png"
