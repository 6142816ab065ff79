"""A folder in object storage, through pyarrow: whole objects are written and read, and failed requests retried."""

from __future__ import annotations

import functools
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import quote

from curriculum_ray.addresses import NATIVE, presentable, without_secrets
from curriculum_ray.buckets.writing import CHUNK, put, put_file
from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import one_line

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

__all__ = ["Bucket", "BucketError", "TakenOver", "filesystem"]

_LOG = logging.getLogger(__name__)

_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0, 30.0)
"""Before each further try of a request; pyarrow's clients make a few tries each time."""
_GCS_LIMIT, _GCS_LIMIT_S = "retry_limit_seconds", 10
# What no further try changes: as the clients of S3, Google Cloud and Azure say it.
_PERMANENT = re.compile(
    r"ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|EXPIRED_TOKEN|UNRECOGNIZED_CLIENT|"
    r"MISSING_AUTHENTICATION|(HTTP status|status|code:?) (400|401|403|404)\b|PERMISSION_DENIED|UNAUTHENTICATED|"
    r"OAuth2 access token",
    re.IGNORECASE,
)
_IN_WORDS = (
    ("NO_SUCH_BUCKET", "there is no such bucket"),
    ("INVALID_ACCESS_KEY", "the key is unknown there"),
    ("EXPIRED_TOKEN", "the token has expired"),
    ("SIGNATURE_DOES_NOT_MATCH", "the secret key does not fit"),
    (
        "ACCESS_DENIED",
        "access is denied: are there keys or a role that may read, write, list and delete there?",
    ),
    ("PERMISSION_DENIED", "access is denied: is there a role that may read, write, list and delete there?"),
    ("OAuth2 access token", "there are no credentials for it here"),
    ("NETWORK_CONNECTION", "its server does not answer"),
    ("Could not connect to server", "its server does not answer"),
    ("SLOW_DOWN", "its server asks for fewer requests"),
)

_CHANGES = ("written", "deleted")

T = TypeVar("T")


class BucketError(OSError):
    """A request failed, also when it was tried again; the message is one line without secrets.

    reason: why, without what and where.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[BucketError], tuple[str, str]]:
        return type(self), (str(self), self.reason)  # pickle knows the message alone


class TakenOver(RuntimeError):
    """Another process has taken a folder over, so that this one may change nothing there; the message is one line."""


@functools.lru_cache(maxsize=16)
def filesystem(uri: str) -> tuple[FileSystem, str]:
    """The file system of an address, pyarrow's own or else that of fsspec, and the path in it.

    ConfigError, one line, where neither knows the scheme or the address is malformed.
    """
    import pyarrow as pa
    from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

    scheme = uri.partition(":")[0]
    try:
        try:
            return FileSystem.from_uri(_with_limit(uri))
        except pa.ArrowInvalid as error:
            if "Unrecognized filesystem type" not in str(error):
                raise
        import fsspec

        found, path = fsspec.core.url_to_fs(uri)
        return PyFileSystem(FSSpecHandler(found)), path
    except ImportError as error:
        raise ConfigError(
            f"{presentable(uri)} cannot be opened: {scheme} needs a package that is not installed: "
            f"{one_line(str(error), 200)}"
        ) from None
    except Exception as error:  # some of fsspec's connect at once, and each fails in its own way
        raise ConfigError(f"{presentable(uri)} cannot be opened: {_reason(error, uri)}") from None


@dataclass(frozen=True)
class Bucket:
    """A folder in object storage; names are relative to it. Requests raise `BucketError` once they are given up."""

    uri: str = field(repr=False)
    """As `check_address` returns it."""
    folder: str = ""
    """Below that address, with "/" between names."""
    before_change: Callable[[], None] | None = field(default=None, repr=False, compare=False)
    """Called before each try to write or delete; what it raises reaches the caller, and nothing is changed."""

    def __truediv__(self, name: str) -> Bucket:
        """A folder in this one."""
        return replace(self, folder=f"{self.folder}/{name}" if self.folder else name)

    def guarded(self, check: Callable[[], None]) -> Bucket:
        """The same folder, where `check` is called before each change too, after the checks that there are."""
        earlier = self.before_change

        def both() -> None:
            assert earlier is not None
            earlier()
            check()

        return replace(self, before_change=check if earlier is None else both)

    def shown(self, name: str = "") -> str:
        """The address of an object or folder in it, or its own, without secrets; it names that place alone."""
        start, mark, settings = presentable(self.uri).partition("?")
        below = "/".join(filter(None, (self.folder, name)))
        if start.partition(":")[0].lower() in NATIVE:
            below = quote(below, safe="/=+,:")
        return "/".join(filter(None, (start.rstrip("/"), below))) + mark + settings

    @property
    def place(self) -> tuple[FileSystem, str]:
        """Its file system and its path there, as Ray takes them."""
        found, path = filesystem(self.uri)
        return found, "/".join(filter(None, (path.rstrip("/"), self.folder)))

    def check(self) -> None:
        """Raise ConfigError, one line, unless objects can be written, listed, read and deleted here."""
        name = f".reach-{secrets.token_hex(8)}"
        try:
            self.write(name, b"reached", pauses_s=())
            sound = self.read(name, pauses_s=()) == b"reached" and name in self.sizes(pauses_s=(), deep=False)
            self.remove(name, pauses_s=())
        except BucketError as error:
            raise self.unusable(error) from None
        if not sound:
            raise ConfigError(
                f"--output {self.shown()} cannot be used: what is written there is not read back"
            )

    def unusable(self, error: BucketError) -> ConfigError:
        """That results cannot be kept here, in one line, as one of its requests failed by `error`."""
        return ConfigError(f"--output {self.shown()} cannot be used: {error.reason}")

    def write(self, name: str, content: bytes, pauses_s: tuple[float, ...] = _PAUSES_S) -> None:
        """Write an object: readers see the earlier one, or all of this one."""
        self._tried("written", name, lambda found, path: put(found, path, content), pauses_s)

    def upload(self, file: BinaryIO, name: str) -> None:
        """Write an open file as an object, in parts where it is large: as `write`, see `put_file`."""
        self._tried("written", name, lambda found, path: put_file(found, path, file))

    def read(self, name: str, pauses_s: tuple[float, ...] = _PAUSES_S) -> bytes | None:
        """The content of an object; None where there is none."""

        def read(found: FileSystem, path: str) -> bytes | None:
            try:
                with found.open_input_stream(path) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

        return self._tried("read", name, read, pauses_s)

    def download(self, name: str, path: Path) -> bool:
        """Write an object into a file, whole or not at all; False where there is no such object."""

        def download(found: FileSystem, place: str) -> bool:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
            try:
                with found.open_input_stream(place) as stream, open(temporary, "wb") as file:
                    shutil.copyfileobj(stream, file, CHUNK)
                os.replace(temporary, path)
            except FileNotFoundError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
            return True

        return self._tried("read", name, download)

    def sizes(self, pauses_s: tuple[float, ...] = _PAUSES_S, deep: bool = True) -> dict[str, int]:
        """Bytes of each object here by its name, with those of the folders in it if `deep`."""

        return {name: size for name, (size, _) in self.stamps(pauses_s, deep).items()}

    def stamps(
        self, pauses_s: tuple[float, ...] = _PAUSES_S, deep: bool = True
    ) -> dict[str, tuple[int, int]]:
        """As `sizes`, with when each object was written, in nanoseconds."""

        def stamps(found: FileSystem, path: str) -> dict[str, tuple[int, int]]:
            return {
                info.path.removeprefix(path).lstrip("/"): _stamp(info)
                for info in self._listed(found, path, deep)
                if info.is_file
            }

        return self._tried("listed", "", stamps, pauses_s)

    def stamp(self, name: str) -> tuple[int, int] | None:
        """Bytes of an object, and when it was written, in nanoseconds; None where there is none."""

        def stamp(found: FileSystem, path: str) -> tuple[int, int] | None:
            info = found.get_file_info(path)
            return _stamp(info) if info.is_file else None

        return self._tried("read", name, stamp)

    def folders(self) -> list[str]:
        """Names of the folders that lie directly in it."""

        def folders(found: FileSystem, path: str) -> list[str]:
            return sorted(info.base_name for info in self._listed(found, path, False) if not info.is_file)

        return self._tried("listed", "", folders)

    @staticmethod
    def _listed(found: FileSystem, path: str, deep: bool) -> Any:
        from pyarrow.fs import FileSelector

        return found.get_file_info(FileSelector(path, allow_not_found=True, recursive=deep))

    def remove(self, name: str, pauses_s: tuple[float, ...] = _PAUSES_S) -> None:
        """Delete an object, if there is one."""

        def remove(found: FileSystem, path: str) -> None:
            with suppress(FileNotFoundError):
                found.delete_file(path)

        self._tried("deleted", name, remove, pauses_s)

    def remove_folder(self, name: str) -> None:
        """Delete all objects of a folder in it."""

        def remove(found: FileSystem, path: str) -> None:
            with suppress(FileNotFoundError):
                found.delete_dir(path)

        self._tried("deleted", name, remove)

    def _tried(
        self,
        done: str,
        name: str,
        request: Callable[[FileSystem, str], T],
        pauses_s: tuple[float, ...] = _PAUSES_S,
    ) -> T:
        """Make the request, and again after each pause where a further try may help.

        Many file systems of fsspec raise what their own libraries do, which is any Exception.
        """
        found, folder = self.place
        path = f"{folder}/{name}" if name else folder
        for pause in (*pauses_s, None):
            if self.before_change is not None and done in _CHANGES:
                self.before_change()
            try:
                return request(found, path)
            except Exception as error:
                reason = _reason(error, self.uri)
                permanent = isinstance(error, PermissionError) or _PERMANENT.search(str(error)) is not None
                if pause is None or permanent:
                    raise BucketError(f"{self.shown(name)} was not {done}: {reason}", reason) from None
                _LOG.info(
                    "%s was not %s, and is tried again in %g s: %s", self.shown(name), done, pause, reason
                )
                time.sleep(pause)
        raise AssertionError("a request ends in the loop")


def _stamp(info: Any) -> tuple[int, int]:
    return int(info.size or 0), int(info.mtime_ns or 0)


def _with_limit(uri: str) -> str:
    """The address with a limit to the tries of Google Cloud's client, which would make them for 15 minutes."""
    if uri.partition(":")[0] not in ("gs", "gcs") or _GCS_LIMIT in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{_GCS_LIMIT}={_GCS_LIMIT_S}"


def _reason(error: Exception, uri: str) -> str:
    """Why a request failed, in one short line: what the service said, without its numbers for support."""
    text = str(error)
    for code, words in _IN_WORDS:
        if code in text:
            return words
    said = re.sub(r"\(Request ID:.*?\)", "", text.partition("AWS Error ")[2] or text) or type(error).__name__
    return one_line(without_secrets(said, uri), 300).strip()
