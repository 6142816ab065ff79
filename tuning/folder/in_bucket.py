"""A study's or run's folder in object storage, as its driver has it: a working copy, a lease, a thread that uploads.

What needs a file system lies in the working copy: the lock, Optuna's journal, the queue of writes to MLflow. The
driver's files are uploaded some seconds after they changed, and at once after a trial's record. A driver on another
machine, or after the copy was deleted, fetches them and goes on from there. Once another driver has taken the lease
over, the bucket is its own: this one, and its workers, change nothing there.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from curriculum_ray.buckets.copy import OwnedFiles, WorkingCopy
from curriculum_ray.buckets.store import Bucket, BucketError
from curriculum_ray.runs import stored_checkpoints
from curriculum_ray.runs.folder import ERROR_FILE, WORKER_LOGS
from curriculum_ray.runs.run_copy import is_of_run, refresh
from curriculum_ray.training.checkpoint import is_checkpoint_name
from tuning.folder.bucket_lease import EVERY_S, BucketHolder, BucketLease, LeaseCheck
from tuning.folder.layout import JOURNAL_FILE, SLOTS, SPOOL_FILE, TRIALS, TUNE
from tuning.folder.lease import Taken
from tuning.folder.lock import InUse, held

__all__ = ["Kept", "kept"]

_LOG = logging.getLogger(__name__)

_SEND_EVERY_S = 15.0
_PATIENCE_S = 4 * EVERY_S
_SESSION = ".driver-copy.json"
# Ray Train's own.
_NOT_KEPT = {SLOTS, TUNE, "checkpoint_manager_snapshot.json"}


class Kept:
    """The driver's files in the folder of a study or run in the working copy, which a thread uploads.

    copy: for the workers, to whom a change of the bucket is refused by TakenOver once the driver's lease is lost.
    guarded: the same for all that the driver changes, refused by InUse.
    """

    def __init__(self, copy: WorkingCopy, guarded: WorkingCopy, folder: Path, part: OwnedFiles) -> None:
        self.copy, self.folder, self._guarded, self._part = copy, folder, guarded, part
        self._end = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="keep", daemon=True)
        self._thread.start()

    def send(self) -> None:
        """Upload what changed now; a failure is logged, and what failed is uploaded later."""
        try:
            self._part.send()
            self._failing = False
        except InUse:  # its lease says so
            return
        except OSError as error:
            if not self._failing:
                _LOG.warning("%s; it is tried again", error)
            self._failing = True

    def bring(self, run: Path) -> None:
        """Bring the files of a run that has ended from the machine of its worker; a failure is logged."""
        with _logged():
            refresh(self._guarded, run)

    def bring_all(self, run: Path) -> None:
        """As `bring`; raises TrainingFailed where the bucket does not answer, and InUse."""
        from curriculum_ray.distributed.fit import TrainingFailed

        try:
            refresh(self._guarded, run)
        except OSError as error:
            raise TrainingFailed(
                f"{error}; the run has ended, and the same command stores what is missing"
            ) from None

    def bring_checkpoint(self, run: Path, key: str) -> None:
        """Bring the newest checkpoint of a run that has ended; a failure is logged."""
        with _logged():
            for name in stored_checkpoints.stored(self.copy.there(run), key)[:1]:
                stored_checkpoints.fetch(self.copy.there(run / name), run / name)

    @property
    def slots(self) -> list[Path]:
        """The folders that slots of earlier starts have in the bucket; raises TrainingFailed."""
        from curriculum_ray.distributed.fit import TrainingFailed

        try:
            return [self.folder / SLOTS / name for name in self.copy.there(self.folder / SLOTS).folders()]
        except BucketError as error:
            raise TrainingFailed(f"{error}; the same command goes on") from None

    def forget(self, key: str) -> None:
        """Delete the checkpoints of a run that will not be resumed; a failure is logged."""
        with _logged():
            slots = self._guarded.there(self.folder / SLOTS)
            for slot in slots.folders():
                stored_checkpoints.prune(slots / slot, key, 0)

    def send_all(self) -> None:
        """Upload what changed now; raises TrainingFailed where the bucket does not take it, and InUse."""
        from curriculum_ray.distributed.fit import TrainingFailed

        try:
            self._part.send()
        except OSError as error:
            raise TrainingFailed(
                f"{error}; the same command goes on from what is there and in {self.folder}"
            ) from None

    def close(self) -> None:
        """Upload the last changes; raises TrainingFailed where the bucket does not take them, and InUse."""
        self._end.set()
        self._thread.join()
        self.send_all()

    def _run(self) -> None:
        while not self._end.wait(_SEND_EVERY_S):
            try:
                self.send()
            except Exception:  # whatever it is, later changes are uploaded
                _LOG.exception("what changed was not uploaded")


@contextmanager
def kept(
    copy: WorkingCopy,
    folder: Path,
    say: Callable[[str], None],
    *,
    study: bool,
    patience_s: float = _PATIENCE_S,
) -> Iterator[Kept]:
    """Hold `folder` of the working copy here and in its bucket for this process, with the files that are there.

    study: whether it is a study's, with runs in it, and not a run's. `say` gets a line where this takes long. Raises
    InUse while another driver holds it, and ConfigError where the bucket cannot be used. At the end the changes are
    uploaded, and the working copy of the folder is deleted if nothing failed. Raises InUse then, too, if another driver
    has taken it over meanwhile.
    """
    with (
        # After the lease that is held here, which is one of the files.
        held(folder, at_end=lambda: _delete(copy, folder)),
        _uploaded(copy, folder, say, study, patience_s) as keeper,
    ):
        yield keeper


@contextmanager
def _uploaded(
    copy: WorkingCopy, folder: Path, say: Callable[[str], None], study: bool, patience_s: float
) -> Iterator[Kept]:
    """Hold `folder` in the bucket, bring its files here, and upload what changes."""
    there = copy.there(folder)
    try:
        lease = BucketLease.take(there, patience_s, say)
    except Taken as taken:
        raise InUse(_in_use(there.shown(), taken.process)) from None
    except BucketError as error:
        raise there.unusable(error) from None
    try:
        guarded = copy.guarded(lease.check)
        part = OwnedFiles(
            guarded,
            folder,
            _SESSION,
            _of_a_study if study else _of_a_run,
            # No trial may have ended for Optuna whose record is not there.
            last=(JOURNAL_FILE,),
            deletes=lambda name: name == SPOOL_FILE,
        )
        try:
            part.begin(lease.id, lease.before)
            for run in _trials(there, folder) if study else [folder]:
                refresh(guarded, run)
        except BucketError as error:
            raise there.unusable(error) from None
        keeper = Kept(copy.guarded(LeaseCheck(there, lease.id)), guarded, folder, part)
        try:
            yield keeper
        except BaseException:
            try:
                keeper.close()
            except InUse:  # its lease says so
                pass
            except RuntimeError as error:
                _LOG.warning("%s", error)
            raise
        keeper.close()
    finally:
        lease.release()


def _trials(there: Bucket, folder: Path) -> list[Path]:
    """The folders of the trials of the study in `folder`, also of those that only a worker elsewhere wrote to."""
    here = {path.name for path in (folder / TRIALS).glob("*")}
    return [folder / TRIALS / name for name in sorted(here.union((there / TRIALS).folders()))]


def _delete(copy: WorkingCopy, folder: Path) -> None:
    """Delete the working copy of a folder: all of it is gone at once, also for a driver that starts meanwhile."""
    if any(folder.rglob(ERROR_FILE)):  # people are told to look there
        return
    aside = folder.with_name(f".{folder.name}.ended")
    shutil.rmtree(aside, ignore_errors=True)
    with suppress(OSError):
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)
    with suppress(OSError):  # others may have their copies there
        copy.folder.rmdir()


@contextmanager
def _logged() -> Iterator[None]:
    """Log the request that fails; of a lost lease, its own line is enough."""
    try:
        yield
    except InUse:
        pass
    except OSError as error:
        _LOG.warning("%s", error)


def _of_a_run(name: str) -> bool:
    """Whether the driver of a run, and no worker, writes a file of its folder."""
    parts = name.split("/")
    theirs = is_of_run(name) or fnmatch(name, WORKER_LOGS) or parts[0] in _NOT_KEPT
    return not theirs and not any(map(is_checkpoint_name, parts))


def _of_a_study(name: str) -> bool:
    """The same for the folder of a study."""
    top, _, rest = name.partition("/")
    if top == TRIALS:
        return _of_a_run(rest.partition("/")[2])
    # Optuna deletes its lock under another name.
    return top not in _NOT_KEPT and not top.startswith(f"{JOURNAL_FILE}.lock")


def _in_use(address: str, holder: object) -> str:
    if not isinstance(holder, BucketHolder) or holder.pid is None:
        return f"{address} is in use by another process: wait until it ends, or choose another --name or --output"
    return (
        f"{address} is in use by process {holder.pid} on {holder.host}, which renewed its lease at {holder.time}: "
        "end that process, after which the same command goes on, or choose another --name or --output"
    )
