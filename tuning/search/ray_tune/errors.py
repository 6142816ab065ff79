"""Carries errors of this project past Ray Tune, which takes every Exception for a failure of the trial."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["past_tune", "unwrapped"]


class _PastTune(BaseException):
    """Not an Exception, so that Tune does not catch it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def past_tune() -> Iterator[None]:
    """Decorates what Tune calls: an Exception there ends Tune's run, and no trial runs again; `unwrapped` raises it."""
    try:
        yield
    except Exception as error:
        raise _PastTune(error) from error


@contextmanager
def unwrapped() -> Iterator[None]:
    """Around Tune's run: raise an error that `past_tune` carried as it was."""
    try:
        yield
    except _PastTune as carrier:
        raise carrier.error from carrier.error.__cause__
