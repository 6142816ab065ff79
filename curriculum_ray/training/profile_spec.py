"""Which steps of a run are profiled. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ProfiledSteps"]


@dataclass(frozen=True)
class ProfiledSteps:
    """A stretch of optimiser steps, counted from 1 where this start of the run begins."""

    start: int
    """The first step that is recorded."""
    steps: int
    """How many are."""

    @property
    def last(self) -> int:
        """The last step that is recorded."""
        return self.start + self.steps - 1
