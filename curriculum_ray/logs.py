"""Logs of a process: which messages of this project are logged, on stderr and in files; standard library only."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

__all__ = ["LEVELS", "captured", "level", "set_level", "shown_on_stderr", "written_to"]

LEVELS = ("debug", "info", "warning", "error")
"""From the most messages to the fewest."""
_PACKAGES = ("curriculum_ray", "tuning", "clusters")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def set_level(name: str | int) -> None:
    """Log this project's messages from a level of `LEVELS` on, or from a number of `logging`."""
    for package in _PACKAGES:
        logging.getLogger(package).setLevel(name.upper() if isinstance(name, str) else name)


def level() -> int:
    """The least severe level at which this project logs, a number of `logging`."""
    return logging.getLogger(_PACKAGES[0]).getEffectiveLevel()


class _OnStderr(logging.Handler):
    """Writes "warning: …" to what stderr is at the moment: a live display takes its place."""

    def __init__(self, lines: Any) -> None:
        super().__init__()
        self._line = lines

    def emit(self, record: logging.LogRecord) -> None:
        stream: Any = sys.stderr
        if isinstance(stream, _Tee):  # a file that is beside it has the message already
            stream = stream.stream
        print(f"{record.levelname.lower()}: {self._line(self.format(record))}", file=stream, flush=True)


@contextmanager
def shown_on_stderr(line: Any = str) -> Iterator[None]:
    """Print this project's messages on stderr, each as one line; `line` makes one of a message."""
    handler = _OnStderr(line)
    loggers = [logging.getLogger(package) for package in _PACKAGES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, before in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(before)


@contextmanager
def written_to(path: Path, diverted: Sequence[str] = ()) -> Iterator[None]:
    """Add what this process logs to the file at `path`: this project's messages, and warnings of every package.

    diverted: packages whose messages go nowhere else.
    """
    handler = logging.StreamHandler(_LateFile(path))
    handler.setFormatter(logging.Formatter(_FORMAT))
    handler.setLevel(min(level(), logging.WARNING))
    root = logging.getLogger()
    root.addHandler(handler)
    loggers = [logging.getLogger(package) for package in diverted]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [], True
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        root.removeHandler(handler)
        handler.stream.close()


@contextmanager
def captured(paths: Sequence[Path], thread: threading.Thread | None = None) -> Iterator[None]:
    """Add what this process prints and logs to each of the files; it goes where it went before, too.

    thread: whose prints and messages alone are taken, where others belong to a terminal; its prints go nowhere else.
    """
    files = [_LateFile(path) for path in paths]
    handler = logging.StreamHandler(_Tee(None, files))
    handler.setFormatter(logging.Formatter(_FORMAT))
    if thread is not None:
        handler.addFilter(lambda record: record.thread == thread.ident)
    loggers = [logging.getLogger(package) for package in _PACKAGES]
    for logger in loggers:
        logger.addHandler(handler)
        # Handlers above write to stderr, and so into these files once more.
        logger.propagate = thread is not None
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Tee(out, files, thread), _Tee(err, files, thread)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
        for file in files:
            file.close()


class _LateFile(io.TextIOBase):
    """A text file that is opened, to be added to, when something is written; a full disk loses the text, no more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._ended = False
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Add `text`; nothing after `close`: others may keep a stream that writes here."""
        with self._lock, suppress(OSError):
            if self._ended:
                return len(text)
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self._path, "a", encoding="utf-8", errors="replace")  # noqa: SIM115
            self._file.write(text)
            self._file.flush()
        return len(text)

    def close(self) -> None:
        """Close it, if it was opened."""
        with self._lock, suppress(OSError):
            self._ended = True
            if self._file is not None:
                self._file.close()


class _Tee(io.TextIOBase):
    """A stream that writes to another one and to files; in all else it is the other one.

    thread: which writes to the files alone, while others write to the stream alone.
    """

    def __init__(
        self, stream: TextIO | None, files: Sequence[_LateFile], thread: threading.Thread | None = None
    ) -> None:
        self.stream, self._files, self._thread = stream, files, thread

    def __getattr__(self, name: str) -> Any:
        """E.g. the stream that rich's own stands for."""
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write to all, or where the thread writes."""
        here = self._thread is None or threading.current_thread() is self._thread
        if here:
            for file in self._files:
                file.write(text)
        if self.stream is None or (here and self._thread is not None):
            return len(text)
        return self.stream.write(text)

    def flush(self) -> None:
        """Flush the stream; the files are flushed at each write."""
        if self.stream is not None:
            self.stream.flush()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self.stream is not None and self.stream.isatty()

    def fileno(self) -> int:
        """The stream's."""
        if self.stream is None:
            raise io.UnsupportedOperation("fileno")
        return self.stream.fileno()

    @property
    def closed(self) -> bool:
        """Whether the stream is: Ray's colorama keeps the one that it finds and asks it at the end of the process."""
        return self.stream is not None and self.stream.closed

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's."""
        return getattr(self.stream, "encoding", None) or "utf-8"
