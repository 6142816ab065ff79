"""Stores writes left on disk because their server was unreachable, or their driver was killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from curriculum_ray.addresses import presentable
from curriculum_ray.config import ConfigError
from tuning.folder.layout import ADDRESS_FILE, DATABASE_FILE, SPOOL_FILE
from tuning.folder.lock import InUse, held
from tuning.tracking.spool import writes_in
from tuning.tracking.store import Store, is_database_of, open_store, store_address
from tuning.tracking.tracker import Tracker

__all__ = ["store_leftovers"]

# So many writes take long enough for a line that says so.
_MANY = 100


def store_leftovers(output: Path, uri: str | None, say: Callable[[str], None]) -> None:
    """Store what the studies and runs directly below `output` have left for MLflow; `say` gets a line about each.

    Those held by a driver are left to it. Nothing here is an error: what cannot be stored stays on disk.
    """
    for spool in sorted(output.glob(f"*/{SPOOL_FILE}")):
        try:
            if not spool.stat().st_size:
                continue
            with held(spool.parent, patience_s=0):
                if (left := writes_in(spool)) >= _MANY:
                    say(f"storing in MLflow {left} writes that an earlier start left in {spool}")
                problems = _store(spool.parent, output, uri)
        except InUse:
            continue
        except (ConfigError, OSError) as error:
            say(f"writes to MLflow wait in {spool}: {error}")
            continue
        if not spool.exists():
            say(f"stored in MLflow what an earlier start had left in {spool}")
        for problem in problems:
            say(f"MLflow: {problem}")


def _store(folder: Path, output: Path, uri: str | None) -> list[str]:
    try:
        address = json.loads((folder / ADDRESS_FILE).read_text())
        experiment, kept = str(address["experiment"]), address["store"]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{folder / ADDRESS_FILE} is corrupt: start the study or run again") from None
    with Tracker(_store_of(kept, output, uri), experiment) as tracker:
        tracker.keep_in(folder)
    return tracker.problems


def _store_of(kept: str | None, output: Path, uri: str | None) -> Store:
    """Open the store that `Store.seen_from` calls `kept`; ConfigError, before any is opened, for another server's."""
    named, _, scheme = store_address(uri)
    if kept is None:
        if scheme == "sqlite" and not is_database_of(named, output):
            # Earlier releases wrote null for any SQLite file.
            raise ConfigError(
                f"they are for {DATABASE_FILE} in {output} or for {presentable(named)}: start the study or run again"
            )
        return open_store(f"sqlite:///{output.absolute() / DATABASE_FILE}", output, create=False)
    if str(kept).startswith("sqlite:"):
        return open_store(kept, output, create=False)
    if presentable(named) != kept:
        raise ConfigError(f"they are for {kept}: name it by --mlflow-uri or MLFLOW_TRACKING_URI")
    return open_store(uri, output, create=False)
