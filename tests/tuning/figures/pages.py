"""Reading pages in tests."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "source"}


class Checker(HTMLParser):
    """Collects what a page loads and its elements, and checks that these nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.names: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.append(name)
        self.loads += [
            value or "" for key, value in attributes if key in ("src", "href", "srcset", "action", "data")
        ]
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name
