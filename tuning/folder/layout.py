"""Names of the files and folders in a study's folder; those of a run are in `curriculum_ray.runs.folder`."""

from __future__ import annotations

__all__ = [
    "ADDRESS_FILE",
    "ARTIFACTS",
    "DATABASE_FILE",
    "ENVIRONMENT_FILE",
    "IDENTITY_FILE",
    "JOURNAL_FILE",
    "LEASE_FILE",
    "LOCK_FILE",
    "OPTUNA_DATABASE_FILE",
    "RECORD_FILE",
    "REPORT_FILE",
    "SETTINGS_SUFFIX",
    "SLOTS",
    "SLOT_PREFIX",
    "SPOOL_FILE",
    "STATUS_FILE",
    "STUDY_FILE",
    "SUMMARY_FILE",
    "TABLE_FILE",
    "TIME_FILE",
    "TRIALS",
    "TUNE",
]

STUDY_FILE = "study.json"
"""The settings that determine the results of the trials: `search --config` repeats the study."""
REPORT_FILE = "report.html"
"""The report of the study."""
TABLE_FILE = "table.json"
"""Beside it: all trials as MLflow's pages read a table."""
JOURNAL_FILE = "optuna.journal"
"""Optuna's study."""
OPTUNA_DATABASE_FILE = "optuna.db"
"""Optuna's study under `storage: sqlite`."""
TRIALS = "trials"
"""Folder of the trials: a run's folder for each, named by the trial's key."""
RECORD_FILE = "record.json"
"""In a trial's folder: how the trial ended."""
SLOTS = "slots"
"""Folder of checkpoints of the trials that are running, a folder per slot."""
SLOT_PREFIX = "slot-"
"""Prefix of a slot's folder, followed by the slot's number."""
TUNE = "tune"
"""Ray Tune's own folder, while a search runs."""
ENVIRONMENT_FILE = "environment.json"
"""Versions, processor and resources that the study was trained with."""
TIME_FILE = "time.json"
"""How long the study has run, and how fast, where it has a budget of time."""

IDENTITY_FILE = "identity.json"
"""In the folder of a study or of a single run: its id, its hash, and the hashed content."""
STATUS_FILE = "status.json"
"""Progress of the study, replaced every second."""
LOCK_FILE = ".driver.lock"
"""Locked by the process that works in the folder of a study or of a single run."""
LEASE_FILE = ".driver.lease"
"""The same for file systems without locks."""
SUMMARY_FILE = "data.json"
"""In the folder of a study or of a single run: a summary of its data set."""
SPOOL_FILE = "mlflow.spool.jsonl"
"""In the folder of a study or of a single run: writes that MLflow has not stored yet."""
ADDRESS_FILE = "mlflow.json"
"""Beside it: the experiment, and the server without secrets, or null for the database of the output folder."""

DATABASE_FILE = "mlflow.db"
"""In the output folder, beside the studies: MLflow's embedded store."""
ARTIFACTS = "mlartifacts"
"""In the output folder: the files of that store."""

SETTINGS_SUFFIX = ".run.yaml"
"""Beside the schedule file that `best` writes, wherever that is: the settings of its run, under its name and this."""
