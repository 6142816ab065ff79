"""A run's log, metrics.jsonl: one JSON object a line, each with "images"; torn lines count as not written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from curriculum_ray.files import replace_file
from curriculum_ray.runs.folder import LOG_FILE

__all__ = ["append_line", "cut_log", "log_of", "logged"]


def log_of(folder: Path) -> Path:
    """The log of the run in `folder`."""
    return folder / LOG_FILE


def logged(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's log, in order; none where there is no log."""
    try:
        text = log_of(folder).read_text(errors="replace")
    except FileNotFoundError:
        return []
    lines = []
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and "images" in found:
            lines.append(found)
    return lines


def append_line(folder: Path, line: dict[str, Any]) -> None:
    """Add a line; a full disk costs the line, and is said in one."""
    path = log_of(folder)
    before = path.stat().st_size if path.exists() else 0
    try:
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        if path.exists():
            os.truncate(path, before)
        print(f"{path}: the line after {line['images']} images was not written: {error.strerror}", flush=True)


def cut_log(folder: Path, images: int) -> None:
    """Drop the lines that an interrupted attempt wrote after the checkpoint it resumes from, at `images`."""
    if log_of(folder).exists():
        kept = [line for line in logged(folder) if line["images"] <= images]
        replace_file(log_of(folder), "".join(json.dumps(line) + "\n" for line in kept))
