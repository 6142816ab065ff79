"""A table of a search space: the scores of seeded random schedules, computed once, on which searches are replayed.

Rows are kept one JSON line each while they are computed, and packed with a header into one compressed JSON file.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError

__all__ = [
    "PACKED",
    "VERSION",
    "Key",
    "Row",
    "append",
    "by_key",
    "pack",
    "read_header",
    "read_lines",
    "read_packed",
]

PACKED = Path(__file__).parent / "tables" / "digits_wide.json.gz"
"""The table that ships with the code."""
VERSION = 1

Key = tuple[str, int, int]
"""Arm, seed and budget of a row."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run."""

    arm: str
    """The trial's key in a study: control-uniform, rival-NAME, or search-007 for the schedule drawn at index 7."""
    params: dict[str, Any] = field(default_factory=dict)
    """The searched keys of a schedule; empty for controls."""
    seed: int
    images: int
    """The budget."""
    fingerprint: str
    """Of the protocol."""
    metrics: dict[str, float] = field(default_factory=dict)
    """fid, kid, precision, recall and, of the training, loss; empty where the run failed."""
    failure: str | None = None
    """Why the run failed."""
    num_stages: int | None = None
    last_stage_at: int | None = None
    """Images seen when the last stage began; None where it was not reached."""
    log: tuple[tuple[int, int, float | None], ...] = ()
    """(images, stage, FID of a preview or None) of each report during training."""
    heldout: tuple[tuple[int, float], ...] = ()
    """(images, mean held-out loss over noise levels)."""
    seconds: float = 0.0
    """CPU seconds."""

    @property
    def key(self) -> Key:
        """What the table knows the row by."""
        return self.arm, self.seed, self.images

    @classmethod
    def of(cls, values: dict[str, Any]) -> Row:
        """Read a row from JSON values."""
        pairs = {name: tuple(map(tuple, values.get(name, ()))) for name in ("log", "heldout")}
        return cls(**{**values, **pairs})

    def to_json(self) -> dict[str, Any]:
        """JSON values, without those that say nothing."""
        return {name: value for name, value in asdict(self).items() if value not in (None, (), {})}


def append(path: Path, row: Row) -> None:
    """Add a row as one line, which is on disk when this returns; several processes may append at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, (json.dumps(row.to_json(), allow_nan=False) + "\n").encode())
        os.fsync(file)
    finally:
        os.close(file)


def read_lines(path: Path) -> list[Row]:
    """The rows of a file of lines, none where there is none; a last line that a kill cut short is ignored."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text().rpartition("\n")
    return [Row.of(json.loads(line)) for line in whole.splitlines() if line]


def pack(path: Path, rows: Sequence[Row], header: dict[str, Any]) -> int:
    """Write the table, equal bytes for equal content; returns its size in bytes."""
    listed = [row.to_json() for row in sorted(rows, key=lambda row: row.key)]
    text = json.dumps({"version": VERSION, **header, "rows": listed}, separators=(",", ":"))
    content = gzip.compress(text.encode(), compresslevel=9, mtime=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return len(content)


def read_packed(path: Path = PACKED) -> list[Row]:
    """The rows of a packed table."""
    return [Row.of(values) for values in _read(path)["rows"]]


def read_header(path: Path = PACKED) -> dict[str, Any]:
    """What a packed table says about itself."""
    return {key: value for key, value in _read(path).items() if key != "rows"}


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"{path} is no table of a search space: {error}") from None
    if content.get("version") != VERSION:
        raise ConfigError(f"{path} must be a table of version {VERSION}, but is {content.get('version')}")
    return content


def by_key(rows: Iterable[Row]) -> dict[Key, Row]:
    """The rows by key, the first of each; ConfigError where they were measured by several protocols."""
    found: dict[Key, Row] = {}
    for row in rows:
        found.setdefault(row.key, row)
    prints = {row.fingerprint for row in found.values()}
    if len(prints) > 1:
        raise ConfigError(f"a table must have one protocol, but its rows have {', '.join(sorted(prints))}")
    return found
