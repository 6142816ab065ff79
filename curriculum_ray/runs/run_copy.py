"""The working copy of a run whose results go to object storage, and the thread that uploads while it trains."""

from __future__ import annotations

import logging
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from curriculum_ray.buckets.copy import OwnedFiles, WorkingCopy
from curriculum_ray.buckets.store import Bucket, BucketError, TakenOver
from curriculum_ray.runs import stored_checkpoints
from curriculum_ray.runs.failures import worker_log
from curriculum_ray.runs.folder import (
    BEST,
    CONFIG_FILE,
    CORRUPT_FILE,
    ERROR_FILE,
    HELDOUT_FILE,
    LOG_FILE,
    PREVIEWS,
    PROFILES,
    RESULT_FILE,
    SAMPLED_FILE,
    SAMPLES_FILE,
    SCHEDULE_FILE,
    SNAPSHOTS,
    WORKER_LOGS,
)
from curriculum_ray.runs.jobs import Assignment
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.checkpoint import Checkpoint

__all__ = ["RunCopy", "fetch_log", "is_of_run", "refresh", "run_files", "send_log"]

_LOG = logging.getLogger(__name__)

_EVERY_S = 15.0
_SESSION = ".session"
_OF_A_RUN = {
    *(CONFIG_FILE, SCHEDULE_FILE, LOG_FILE, HELDOUT_FILE, RESULT_FILE, SAMPLED_FILE, SAMPLES_FILE),
    *(CORRUPT_FILE, ERROR_FILE, PREVIEWS, PROFILES, SNAPSHOTS),
}


def is_of_run(name: str) -> bool:
    """Whether the workers of a run upload a file of its folder; its checkpoints and logs are uploaded by themselves."""
    return name.split("/")[0] in _OF_A_RUN


def run_files(copy: WorkingCopy, folder: Path) -> OwnedFiles:
    """The files of the run in `folder` that its workers write, without logs and checkpoints."""
    return OwnedFiles(
        copy,
        folder,
        ".run-copy.json",
        is_of_run,
        lambda name: not name.startswith(f"{SNAPSHOTS}/"),  # large, and no run needs its own
        (RESULT_FILE,),
    )


def refresh(copy: WorkingCopy, folder: Path) -> None:
    """Bring the files of a run to this machine, or to the bucket where its last worker wrote them here.

    For when no worker trains it. Raises BucketError.
    """
    part, there = run_files(copy, folder), copy.there(folder)
    if part.is_of(_session(there)):
        part.send()
        return
    part.fetch()
    for name in there.sizes(deep=False):
        if fnmatch(name, WORKER_LOGS):
            there.download(name, folder / name)


def fetch_log(job: Assignment, rank: int) -> None:
    """Bring the log of this rank here, where the bucket has a longer one, before anything is added to it."""
    if job.copy is None:
        return
    path = worker_log(job.folder, rank)
    here = path.stat().st_size if path.exists() else 0
    try:
        if job.copy.there(job.folder).sizes(deep=False).get(path.name, 0) > here:
            job.copy.there(job.folder).download(path.name, path)
    except BucketError as error:
        _LOG.warning("%s", error)


def send_log(job: Assignment, rank: int) -> None:
    """Upload the log of this rank, and the traceback if there is one; a failure is logged."""
    if job.copy is None:
        return
    try:
        _send_log(job.copy, job.folder, rank)
    except (OSError, TakenOver) as error:
        _LOG.warning("%s", error)


def _send_log(copy: WorkingCopy, folder: Path, rank: int) -> None:
    for path in (worker_log(folder, rank), folder / ERROR_FILE):
        if path.exists():
            copy.there(folder).write(path.name, path.read_bytes())


class RunCopy:
    """A run on this worker, as far as it lies in a bucket; on rank 0 a thread uploads while it trains.

    An upload that fails is logged, and costs that checkpoint only: the next one comes. Of those that were not uploaded,
    this machine keeps as many as the bucket would. Of checkpoints that come faster than they are uploaded, the newest
    is. Once another worker has begun a session of the run, as after this one was cut off, or another driver has its
    folder, a log line says so, and this one changes nothing in the bucket.
    """

    def __init__(self, job: Assignment, copy: WorkingCopy, keep: int, lead: bool) -> None:
        """Bring the run's files here, on rank 0. keep: how many checkpoints the bucket keeps. Raises BucketError."""
        self._job, self._keep, self._lead = job, keep, lead
        self._there, self._session = copy.there(job.folder), uuid.uuid4().hex
        self._copy = copy.guarded(self._check_session)
        self._files = run_files(self._copy, job.folder)
        self._fetched: Path | None = None
        self._best: str | None = None
        self._turn = threading.Condition()
        self._thread: threading.Thread | None = None
        self._waiting: Path | None = None
        self._busy = self._closed = self._changed = self._lost = False
        if lead:
            self._files.begin(self._session, _session(self._there))
            self._there.write(_SESSION, self._session.encode())

    def newest(self) -> tuple[Path, Checkpoint] | None:
        """The newest sound checkpoint of the run in the bucket, brought here; every rank gets the same."""
        found = stored_checkpoints.newest(self._copy, self._job.roots, self._job.key)
        self._fetched = None if found is None else found[0]
        if self._lead:
            # What an earlier start wrote here and did not upload is not part of the run.
            for root in self._job.roots:
                found_here = checkpoints.find_checkpoints(root, self._job.key)
                _delete_here(path for path in found_here if path != self._fetched)
        return found

    def changed(self) -> None:
        """Upload the files that changed, within some seconds."""
        self._changed = True
        self._start()

    def checkpoint(self, path: Path) -> None:
        """Upload the checkpoint at `path`, instead of one that is still waiting."""
        with self._turn:
            if self._waiting not in (None, path):
                shutil.rmtree(self._waiting, ignore_errors=True)
            self._waiting = path
            self._turn.notify_all()
        self._start()

    def flush(self) -> None:
        """Wait until the files and the checkpoint that is waiting have been uploaded, or were given up."""
        with self._turn:
            self._turn.wait_for(lambda: self._waiting is None and not self._busy)
        self._tried(self._files.send)

    def send_final(self, path: Path) -> None:
        """Upload the last checkpoint; raises BucketError or TakenOver, as a run is not finished without it."""
        with self._turn:
            self._waiting = None
            self._turn.wait_for(lambda: not self._busy)
        stored_checkpoints.send(path, self._copy.there(path.parent))

    def finish(self, final: Path) -> None:
        """Upload the files with the result, and delete what is not kept; raises BucketError or TakenOver."""
        self._tried(self._send_best)
        self._files.send()
        for root in self._job.roots:
            self._tried(partial(self._prune, root, self._keep if root == final.parent else 0))
            checkpoints.prune(root, self._job.key, 0)
        self._fetched = None

    def close(self) -> None:
        """End the thread, which gives up what is waiting, and delete what was brought here."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        if not self._lead and self._fetched is not None:
            shutil.rmtree(self._fetched, ignore_errors=True)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="upload", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._waiting is not None or self._closed, _EVERY_S)
                if self._closed:
                    return
                path, self._waiting = self._waiting, None
                self._busy = True
            try:
                self._upload(path)
            except Exception:  # whatever it is, the next checkpoint must find a thread that uploads it
                _LOG.exception("what changed was not uploaded")
            finally:
                with self._turn:
                    self._busy = False
                    self._turn.notify_all()

    def _upload(self, path: Path | None) -> None:
        """Upload what changed, then the checkpoint at `path`, as the log must reach as far as it."""
        sent = True
        if self._changed or path is not None:
            self._changed = False
            sent = self._tried(self._files.send)
            self._changed |= not sent
            self._tried(self._send_best)
            self._tried(partial(_send_log, self._copy, self._job.folder, 0))
        if path is None:
            return
        if sent and self._tried(partial(self._send, path)):
            self._tried(partial(self._prune, path.parent, self._keep, path.name))
        else:
            _delete_here(checkpoints.find_checkpoints(path.parent, self._job.key)[self._keep :])

    def _send(self, path: Path) -> None:
        stored_checkpoints.send(path, self._copy.there(path.parent))
        found = checkpoints.find_checkpoints(path.parent, self._job.key)
        _delete_here(old for old in found if old.name < path.name)

    def _send_best(self) -> None:
        folder = self._job.folder / BEST
        found = next(iter(checkpoints.find_checkpoints(folder, self._job.key)), None)
        if found is not None and found.name != self._best:
            stored_checkpoints.send(found, self._copy.there(folder))
            stored_checkpoints.keep_only(self._copy.there(folder), self._job.key, found.name)
            self._best = found.name

    def _prune(self, root: Path, keep: int, sent: str | None = None) -> None:
        stored_checkpoints.prune(self._copy.there(root), self._job.key, keep, sent)

    def _check_session(self) -> None:
        """Raise TakenOver once the session in the bucket is another's; BucketError where it cannot be read."""
        # None where it was read while another worker writes it: whose it is is seen the next time.
        if _session(self._there) not in (None, self._session):
            raise TakenOver(f"{self._there.shown()} was taken over by another worker")

    def _tried(self, action: Callable[[], None]) -> bool:
        """Whether an upload succeeded; one that failed is logged. None is tried once the run was taken over."""
        if self._lost:
            return False
        try:
            action()
        except TakenOver as error:
            self._lost = True
            _LOG.error("%s: nothing more is uploaded from here", error)
            return False
        except FileNotFoundError:  # the training replaced it meanwhile, and the next upload has the new one
            return False
        except OSError as error:
            _LOG.warning("%s", error)
            return False
        return True


def _session(there: Bucket) -> str | None:
    """The session of the worker that wrote last to the run's folder in the bucket."""
    content = there.read(_SESSION)
    return None if content is None else content.decode(errors="replace")


def _delete_here(paths: Iterable[Path]) -> None:
    """Delete checkpoints on this machine, while the training may be writing another."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
