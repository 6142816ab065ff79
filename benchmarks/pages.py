"""Pages that hold what a benchmark wrote, between two marks."""

from __future__ import annotations

from pathlib import Path

from curriculum_ray.config import ConfigError

__all__ = ["check_marks", "put_into"]


def check_marks(page: Path, marks: tuple[str, str]) -> None:
    """ConfigError where a page has no place for a text."""
    if not all(mark in page.read_text() for mark in marks):
        raise ConfigError(f"{page} must hold the marks {marks[0]} and {marks[1]}")


def put_into(page: Path, marks: tuple[str, str], text: str) -> None:
    """Replace what stands between the two marks of a page."""
    check_marks(page, marks)
    before, _, rest = page.read_text().partition(marks[0])
    _, _, after = rest.partition(marks[1])
    page.write_text(f"{before}{marks[0]}\n\n{text}\n{marks[1]}{after}")
