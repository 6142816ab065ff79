"""Objects are written whole or not at all, though pyarrow makes an object of whatever a stream holds when it is left.

That is so after an error too, as there is no way to abort (apache/arrow issue 40502).
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

__all__ = ["CHUNK", "put", "put_file"]

CHUNK = 8 * 2**20
"""Bytes of a file that are read and sent at a time."""
_MOST_COPIED = 256 * 2**20
"""Bytes of the largest object that a store is asked to copy.

pyarrow copies by one request: S3 refuses that above 5 GiB, and its client gives up after 3 s without an answer.
"""
# File systems in which a folder must exist before a file in it.
_WITH_FOLDERS = ("local", "subtree", "mock", "hdfs", "py::fsspec")
# Those that put a copy of an object in place at once.
_COPYING = ("s3", "gcs", "abfs", "py::fsspec")


def put(found: FileSystem, path: str, content: bytes) -> None:
    """Write an object by one call, which no signal interrupts: readers see the earlier one, or all of this one.

    Signals are raised in the main thread, maybe when the stream is open and holds nothing yet.
    """

    def write() -> None:
        with _writing(found, path) as stream:
            stream.write(content)

    if threading.current_thread() is not threading.main_thread():
        write()
        return
    with ThreadPoolExecutor(1) as apart:
        # The thread has started before anything is written: whenever a signal comes then, leaving waits for it.
        apart.submit(int).result()
        apart.submit(write).result()


def put_file(found: FileSystem, path: str, file: BinaryIO) -> None:
    """Write a file as an object, in parts where it is large: readers see the earlier one, or all of this one.

    A large file that replaces an object is written beside it, and copied there once it is whole. One that replaces
    none, or that is too large for a copy, is written in its place, and deleted where that is interrupted. Such files
    are those of checkpoints, which exist once their manifest does: a copy of gigabytes takes as long as an upload.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size <= CHUNK:
        put(found, path, file.read())
        return
    copied = size <= _MOST_COPIED and found.type_name.startswith(_COPYING)
    beside = copied and found.get_file_info(path).is_file
    place = _beside(path) if beside else path
    try:
        with _writing(found, place) as stream:
            shutil.copyfileobj(file, stream, CHUNK)
        if beside:
            found.copy_file(place, path)
    except BaseException:
        _delete(found, place)
        raise
    if beside:
        _delete(found, place)


def _writing(found: FileSystem, path: str) -> Any:
    """A stream into an object; closing it makes the object."""
    if found.type_name.startswith(_WITH_FOLDERS):
        found.create_dir(path.rpartition("/")[0], recursive=True)
    return found.open_output_stream(path)


def _beside(path: str) -> str:
    """A hidden name beside an object, so that what a killed process leaves there is nobody's file: see `is_hidden`."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{secrets.token_hex(8)}.part"


def _delete(found: FileSystem, path: str) -> None:
    """Delete what is left of an upload, if the store answers."""
    with suppress(Exception):  # see `Bucket`
        found.delete_file(path)
