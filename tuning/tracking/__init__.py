"""MLflow: the store, and the only writer of runs, parameters, metrics and artifacts."""

from tuning.tracking.store import Store, open_store, store_address
from tuning.tracking.tracker import Tracker

__all__ = ["Store", "Tracker", "open_store", "store_address"]
