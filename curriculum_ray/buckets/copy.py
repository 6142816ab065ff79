"""A working copy: a folder of this machine whose files are those of a folder in object storage.

Files are written, renamed and added to here, as on any disk, and what changed is uploaded. The bucket is the truth: a
session that finds that another one has written there since fetches its files anew, and what another program deletes
here, such as a cleaner of temporary files, is fetched again. Two sessions on one machine, such as a driver and a
worker, share the folder, and each uploads its own part of the files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from curriculum_ray.buckets.store import Bucket
from curriculum_ray.config import ConfigError
from curriculum_ray.files import replace_file
from curriculum_ray.words import number_of

__all__ = ["STAGE_VARIABLE", "OwnedFiles", "WorkingCopy", "is_hidden", "stage"]

_LOG = logging.getLogger(__name__)

STAGE_VARIABLE = "CURRICULUM_RAY_STAGE"
"""The environment variable that names the folder of working copies, on every node the same."""
_AT_A_TIME = 8


def stage() -> Path:
    """The folder of working copies, in the temporary folder or that which STAGE_VARIABLE names; ConfigError."""
    named = os.environ.get(STAGE_VARIABLE)
    folder = Path(named or Path(tempfile.gettempdir()) / f"curriculum-ray-{os.getuid()}").absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = folder.stat().st_uid
    except OSError as error:
        raise ConfigError(
            f"working copies of a bucket need a folder, but {folder} cannot be made: {error.strerror}; "
            f"set {STAGE_VARIABLE} to another"
        ) from None
    if owner != os.getuid():
        raise ConfigError(f"{folder} belongs to another user: set {STAGE_VARIABLE} to another folder")
    return folder


@dataclass(frozen=True)
class WorkingCopy:
    """The folder `folder` of this machine as the working copy of `bucket`: a path below it is an object there."""

    folder: Path
    bucket: Bucket

    @classmethod
    def of(cls, bucket: Bucket) -> WorkingCopy:
        """The working copy of a bucket on this machine, in the temporary folder or that which STAGE_VARIABLE names."""
        digest = hashlib.sha256(bucket.shown().encode()).hexdigest()[:16]
        return cls(stage() / digest, bucket)

    def there(self, path: Path) -> Bucket:
        """The folder in the bucket of which the folder `path` is the copy."""
        name = path.relative_to(self.folder).as_posix()
        return self.bucket if name == "." else self.bucket / name

    def guarded(self, check: Callable[[], None]) -> WorkingCopy:
        """The same working copy, where `check` is called before each change of the bucket: see `Bucket`."""
        return replace(self, bucket=self.bucket.guarded(check))

    def shown(self, path: Path) -> str:
        """The address in the bucket of what lies at `path`, without secrets."""
        return self.there(path).shown()


def is_hidden(name: str) -> bool:
    """Whether a name, with "/" between folders, is of a file that only this machine needs: locks, halves, markers."""
    return name.endswith(".lock") or any(part.startswith(".") for part in name.split("/"))


class _Marker:
    """Which session's files a local folder holds, and what of them was uploaded, as a file among them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.session: str | None = None
        self.sent: dict[str, tuple[int, int]] = {}
        try:
            data = json.loads(path.read_text())
            self.session = str(data["session"])
            self.sent = {name: (int(a), int(b)) for name, (a, b) in data["sent"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.session, self.sent = None, {}

    def write(self) -> None:
        replace_file(self._path, json.dumps({"session": self.session, "sent": self.sent}), durable=False)


class OwnedFiles:
    """The files of one owner in a folder of the working copy.

    owns: whether a file belongs to it, by its name in the folder. fetched: which of those are downloaded; others are
    uploaded only. last: names of files that are uploaded after all others, as they were before: what they say of the
    others is then true there. deletes: which files the owner deletes at times; it was another program where any other
    vanishes. Sessions of one part follow one another, and each has an id.
    """

    def __init__(
        self,
        copy: WorkingCopy,
        folder: Path,
        marker: str,
        owns: Callable[[str], bool],
        fetched: Callable[[str], bool] = lambda name: True,
        last: tuple[str, ...] = (),
        deletes: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self._folder, self._there = folder, copy.there(folder)
        self._owns, self._fetched, self._last, self._deletes = owns, fetched, last, deletes
        self._marker_path = folder / marker
        self._marker = _Marker(self._marker_path)
        self._lock = threading.Lock()

    def begin(self, session: str, before: str | None) -> None:
        """Begin a session after the one `before`: keep the local files if they are its, else fetch those of the bucket.

        Raises BucketError.
        """
        if before is None or self._marker.session != before:
            self.fetch()
        else:
            self._bring_back()
        self._marker.session = session
        self._marker.write()

    def is_of(self, session: str | None) -> bool:
        """Whether the local files are those of the session, or newer."""
        return session is not None and self._marker.session == session

    def fetch(self) -> None:
        """Replace the local files by those of the bucket; raises BucketError."""
        self._marker_path.unlink(missing_ok=True)
        self._marker.session = None
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in self._local():
            (self._folder / name).unlink(missing_ok=True)
        names = [name for name in self._there.sizes() if self._is_own(name) and self._fetched(name)]
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            for _ in pool.map(lambda name: self._there.download(name, self._folder / name), names):
                pass
        self._marker.sent = {name: found for name in names if (found := self._state(name)) is not None}

    def send(self) -> None:
        """Upload the files that changed since they were last uploaded, and delete there those that the owner deleted.

        Other files that are gone here stay there, and are fetched. Raises BucketError at the first that fails; the next
        call goes on.
        """
        with self._lock:
            sent = dict(self._marker.sent)
            try:
                last = [(name, self._state(name), self._content(name)) for name in self._last]
                for name in sorted(self._local()):
                    if name not in self._last:
                        self._send(name, self._state(name))
                for name, state, content in last:
                    self._send(name, state, content)
                for name in filter(self._deletes, self._gone()):
                    self._there.remove(name)
                    del self._marker.sent[name]
                self._bring_back()
            finally:
                if sent != self._marker.sent:
                    with suppress(OSError):  # the next session then uploads again what the marker lacks
                        self._marker.write()

    def _gone(self) -> list[str]:
        """The names of the files that were uploaded or fetched, and are not here any more."""
        return [name for name in self._marker.sent if not (self._folder / name).exists()]

    def _bring_back(self) -> None:
        """Fetch the files that are gone here though their owner does not delete them; raises BucketError."""
        gone = [name for name in self._gone() if not self._deletes(name)]
        for name in gone:
            if self._fetched(name):
                self._there.download(name, self._folder / name)
            del self._marker.sent[name]
            if (state := self._state(name)) is not None:
                self._marker.sent[name] = state
        if gone:
            others = f" and {number_of(len(gone) - 1, 'file', 'other ')}" if gone[1:] else ""
            _LOG.warning(
                "another program deleted %s%s: nothing is deleted in %s",
                self._folder / gone[0],
                others,
                self._there.shown(),
            )

    def _send(self, name: str, state: tuple[int, int] | None, content: bytes | None = None) -> None:
        """Upload a file, or the `content` that it had, if its state is another than when it was last uploaded."""
        if state is None or self._marker.sent.get(name) == state:
            return
        if content is not None:
            self._there.write(name, content)
        else:
            try:
                with open(self._folder / name, "rb") as file:
                    self._there.upload(file, name)
            except FileNotFoundError:  # it was deleted meanwhile
                return
        self._marker.sent[name] = state

    def _content(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except OSError:
            return None

    def _local(self) -> list[str]:
        """The names of its files here."""
        found = []
        for top, folders, files in os.walk(self._folder):
            place = Path(top).relative_to(self._folder)
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [(place / name).as_posix() for name in files]
        return [name for name in found if self._is_own(name)]

    def _is_own(self, name: str) -> bool:
        return not is_hidden(name) and self._owns(name)

    def _state(self, name: str) -> tuple[int, int] | None:
        """The time and size of a file here; None where it is gone."""
        try:
            found = (self._folder / name).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size
