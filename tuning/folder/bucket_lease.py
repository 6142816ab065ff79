"""A lease in object storage: one driver of a study or run among all machines, alive while its counter rises.

Plain object stores have no lock, and not all of them a write that fails where an object exists. So a driver writes its
lease, waits until another's, begun at the same moment, must have arrived, and holds it if its own is read back. Of two
that overlap all the same, the earlier one finds the other's lease when it renews its own, or before it writes anything
else there, and is interrupted.
"""

from __future__ import annotations

import _thread
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from curriculum_ray.buckets.store import Bucket, BucketError, TakenOver
from tuning.folder.layout import LEASE_FILE
from tuning.folder.lease import Holder, Taken
from tuning.folder.lock import InUse
from tuning.folder.process import is_alive, this_process

__all__ = ["BucketHolder", "BucketLease", "LeaseCheck"]

_LOG = logging.getLogger(__name__)

EVERY_S = 10.0
"""Between two renewals."""
SETTLE_S = 1.0
_NO_TRIES: tuple[float, ...] = ()
TORN_PAUSES_S = (0.1, 0.3, 1.0)
"""Before each further look at a lease that is half written: not all stores replace an object at once."""


class BucketHolder(Holder):
    """Contents of a lease's object; empty where there is none, or where it cannot be read."""

    time: str | None = None
    """When it was renewed, in UTC by its holder's clock."""
    released: bool = False
    """Whether its holder ended it: it stays, to say who wrote last."""


@dataclass(frozen=True)
class LeaseCheck:
    """Whether a driver still holds its lease, as its workers, on any machine, ask before they change anything."""

    folder: Bucket
    id: str
    """Of its lease."""

    def __call__(self) -> None:
        """Raise TakenOver if another process has taken the lease over, and BucketError where it cannot be read."""
        if _read(self.folder).id not in (None, self.id):
            raise TakenOver(f"{self.folder.shown()} was taken over by another process")


class BucketLease:
    """The lease on a folder of a bucket that this process holds; a thread renews it.

    before: the id of the lease that was held before it; None where there was none.
    """

    def __init__(self, folder: Bucket, own: BucketHolder, before: str | None) -> None:
        self._folder, self._own, self.before = folder, own, before
        self._lost, self._end = threading.Event(), threading.Event()
        self._turn = (
            threading.Lock()
        )  # not all stores replace an object at once for those who read it meanwhile
        self._thread = threading.Thread(target=self._run, name="bucket-lease", daemon=True)
        self._thread.start()

    @property
    def id(self) -> str:
        """Unlike any other lease's."""
        assert self._own.id is not None
        return self._own.id

    @classmethod
    def take(
        cls, folder: Bucket, patience_s: float, say: Callable[[str], None] = lambda line: None
    ) -> BucketLease:
        """Take the lease on `folder`; Taken where its holder is alive, or another process was faster.

        A holder that cannot be seen from here is watched for `patience_s` seconds; `say` gets a line about that. Raises
        BucketError.
        """
        found = _read_whole(folder)
        if found.id is not None and not found.released:
            alive = is_alive(found)
            if alive is None:
                say(
                    f"{folder.shown()} was last held by process {found.pid} on {found.host} ({found.time}): "
                    f"watching for {patience_s:g} s whether it is alive"
                )
                alive = _moves(folder, found, patience_s)
            if alive:
                raise Taken(found)
        own = BucketHolder(id=uuid.uuid4().hex, **this_process().model_dump())
        _write(folder, own)
        time.sleep(SETTLE_S)
        now = _read_whole(folder)
        if now.id != own.id:
            raise Taken(now)
        return cls(folder, own, found.id)

    def check(self, *pauses_s: tuple[float, ...]) -> None:
        """Raise InUse if another process has taken the lease over, and BucketError where it cannot be read.

        pauses_s: before each further try to read it; as for every request unless given.
        """
        shown = self._folder.shown()
        with self._turn:
            holder = self.id if self._lost.is_set() else _read(self._folder, *pauses_s).id
        # None where it was read while another process writes it: who holds it is seen the next time.
        if holder not in (None, self.id):
            self._lost.set()
            _LOG.error("%s was taken over by another process: nothing more is uploaded from here", shown)
        if self._lost.is_set():
            raise InUse(f"{shown} was taken over by another process while this one was cut off")

    def release(self) -> None:
        """Mark the lease as ended, if this process still holds it."""
        self._end.set()
        self._thread.join()
        try:
            if _read(self._folder, _NO_TRIES).id == self._own.id:
                _write(self._folder, self._own.model_copy(update={"released": True}), _NO_TRIES)
        except BucketError as error:
            _LOG.warning("%s: the next driver waits until it is sure that this one has ended", error)

    def _run(self) -> None:
        while not self._end.wait(EVERY_S):
            try:
                self.check(_NO_TRIES)
                with self._turn:
                    self._own = self._own.model_copy(update={"beat": self._own.beat + 1})
                    _write(self._folder, self._own, _NO_TRIES)
            except InUse:
                _thread.interrupt_main()
                return
            except BucketError as error:
                _LOG.info("the lease was not renewed: %s", error)
            except Exception:  # whatever it is, a lease that nobody renews is taken over
                _LOG.exception("the lease was not renewed")


def _read(folder: Bucket, *pauses: tuple[float, ...]) -> BucketHolder:
    return _parsed(folder.read(LEASE_FILE, *pauses)) or BucketHolder()


def _read_whole(folder: Bucket) -> BucketHolder:
    """As `_read`, and again after each of TORN_PAUSES_S while the lease cannot be read."""
    for pause in TORN_PAUSES_S:
        found = _parsed(folder.read(LEASE_FILE))
        if found is not None:
            return found
        time.sleep(pause)
    return _read(folder)


def _parsed(content: bytes | None) -> BucketHolder | None:
    """The holder that a lease names, an empty one where there is no lease; None where it cannot be read."""
    if content is None:
        return BucketHolder()
    try:
        return BucketHolder.model_validate_json(content)
    except ValueError:
        return None


def _write(folder: Bucket, own: BucketHolder, *pauses: tuple[float, ...]) -> None:
    now = own.model_copy(update={"time": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"})
    folder.write(LEASE_FILE, json.dumps(now.model_dump(mode="json")).encode(), *pauses)


def _moves(folder: Bucket, before: BucketHolder, patience_s: float) -> bool:
    """Whether the lease changes within `patience_s` seconds by this process's clock, other than by its end."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        time.sleep(min(1.0, patience_s))
        now = _read_whole(folder)
        if now.id is None:  # it is being written, or was deleted
            continue
        if (now.id, now.beat, now.released) != (before.id, before.beat, before.released):
            return not now.released
    return False
