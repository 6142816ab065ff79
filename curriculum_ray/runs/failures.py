"""The files in a run's folder that say why it failed. Imports no torch, since displays name them."""

from __future__ import annotations

from pathlib import Path

from curriculum_ray.runs.folder import ERROR_FILE, WORKER_LOGS

__all__ = ["failure_files", "worker_log"]


def worker_log(folder: Path, rank: int) -> Path:
    """The file with what the worker of this rank printed and logged for the run in `folder`."""
    return folder / WORKER_LOGS.replace("*", str(rank))


def failure_files(folder: Path) -> list[Path]:
    """The traceback and the logs of a run's workers, as far as there are any."""
    return [path for path in (folder / ERROR_FILE, *sorted(folder.glob(WORKER_LOGS))) if path.is_file()]
