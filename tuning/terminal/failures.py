"""Where to look when a run has failed."""

from __future__ import annotations

from pathlib import Path

from curriculum_ray.runs.failures import failure_files
from curriculum_ray.runs.folder import ERROR_FILE
from curriculum_ray.shell import typed

__all__ = ["where_to_look"]


def where_to_look(folder: Path) -> str:
    """The end of a line about a failed run in `folder`: its traceback and its workers' logs; empty without any."""
    found = failure_files(folder)
    words = [f"{'traceback' if path.name == ERROR_FILE else 'log'} {typed(path)}" for path in found]
    return f" ({', '.join(words)})" if words else ""
