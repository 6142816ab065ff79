"""Optuna's journal after a kill: a line that was torn in mid-write goes, or all later ones would be lost with it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["mend_journal"]


def mend_journal(path: Path) -> int:
    """Cut a last line that does not end; returns how many bytes were cut, 0 for a whole or a missing file.

    Optuna appends to such a line and then reads neither it nor what follows. The write that it began was never
    acknowledged: the trial's record, not the journal, says how the trial ended, and Optuna is told again.
    """
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with open(path, "r+b") as file:
            file.truncate(whole)
    return len(content) - whole
