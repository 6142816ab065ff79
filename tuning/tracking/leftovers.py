"""Stores writes left on disk because their server was unreachable, or their driver was killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from curriculum_ray.config import ConfigError
from tuning.folder.layout import ADDRESS_FILE, DATABASE_FILE, SPOOL_FILE
from tuning.folder.lock import InUse, held
from tuning.tracking.spool import writes_in
from tuning.tracking.store import open_store
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
        experiment, server = str(address["experiment"]), address["store"]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{folder / ADDRESS_FILE} is corrupt: start the study or run again") from None
    store = open_store(
        f"sqlite:///{output.absolute() / DATABASE_FILE}" if server is None else uri, output, create=False
    )
    if server is not None and store.server != server:
        raise ConfigError(f"they are for {server}: name it by --mlflow-uri or MLFLOW_TRACKING_URI")
    with Tracker(store, experiment) as tracker:
        tracker.keep_in(folder)
    return tracker.problems
