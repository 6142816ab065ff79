"""Pages that hold what a benchmark wrote, between two marks."""

from __future__ import annotations

from pathlib import Path

from curriculum_ray.config import ConfigError

__all__ = ["put_into"]


def put_into(page: Path, marks: tuple[str, str], text: str) -> None:
    """Replace what stands between the two marks of a page."""
    before, first, rest = page.read_text().partition(marks[0])
    _, last, after = rest.partition(marks[1])
    if not (first and last):
        raise ConfigError(f"{page} must hold the marks {marks[0]} and {marks[1]}")
    page.write_text(f"{before}{marks[0]}\n\n{text}\n{marks[1]}{after}")
