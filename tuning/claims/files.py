"""claims.json and claims.md: the table of claims, written again after every claim."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from curriculum_ray.files import replace_file
from curriculum_ray.own_files import check_own, write_own
from tuning.claims.claim import Claim
from tuning.claims.page import claims_page
from tuning.claims.results import ClaimsTable
from tuning.claims.seen import updated

__all__ = ["PAGE_FILE", "TABLE_FILE", "check_writable", "read_table", "write_table"]

TABLE_FILE = "claims.json"
PAGE_FILE = "claims.md"


def check_writable(folder: Path) -> None:
    """Raise ConfigError where `folder` holds files of these names that no such command wrote."""
    ClaimsTable.load(folder / TABLE_FILE)
    check_own(folder / PAGE_FILE)


def read_table(
    claims: Iterable[Claim], output: Path, folder: Path, note: Callable[[str], None] | None = None
) -> ClaimsTable:
    """The table of the claims by their studies in `output`, else by the earlier table in `folder`.

    note: is given a line for each study that is passed over.
    """
    return updated(ClaimsTable.load(folder / TABLE_FILE), claims, output, note)


def write_table(table: ClaimsTable, folder: Path) -> Path | None:
    """Write both files; returns where an edited page was kept."""
    replace_file(folder / TABLE_FILE, f"{table.model_dump_json(indent=1)}\n")
    return write_own(folder / PAGE_FILE, claims_page(table))
