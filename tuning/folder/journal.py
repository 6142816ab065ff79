"""Repairs Optuna's journal after a kill: a last line torn in mid-write would make all later lines unreadable."""

from __future__ import annotations

from pathlib import Path

__all__ = ["mend_journal"]


def mend_journal(path: Path) -> int:
    """Cut off an unfinished last line; returns the number of bytes cut, 0 for an intact or missing file.

    Optuna would append to that line, and then read neither it nor the following ones. Its write was never acknowledged:
    the trial's record, not the journal, says how the trial ended, and it is reported to Optuna again.
    """
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with open(path, "r+b") as file:
            file.truncate(whole)
    return len(content) - whole
