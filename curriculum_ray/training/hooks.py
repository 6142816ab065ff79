"""The callbacks of a training loop."""

from __future__ import annotations

from typing import Protocol

from curriculum_ray.training.trainer import LogLine, NonFiniteLoss, Trainer

__all__ = ["End", "Hooks", "NoHooks"]

End = bool | NonFiniteLoss
"""How a run ended: True with its budget spent, False when it was asked to stop, or the error that ended it."""


class Hooks(Protocol):
    """The callbacks of one run, called on every rank; those due at the same step are called in the order below.

    The time spent in `on_heldout`, `on_preview` and `on_snapshot` does not count in any run's speed. They may draw from
    the random generators. `NonFiniteLoss` raised by any of them ends the run.
    """

    def on_heldout(self, trainer: Trainer) -> None:
        """The held-out loss is due."""
        ...

    def on_log(self, line: LogLine) -> bool:
        """A log line is due; returns whether the run should stop, as rank 0 decides.

        A single worker stops before the next step, several of them at the next log line, which tells all of them.
        """
        ...

    def on_preview(self, trainer: Trainer) -> bool:
        """Samples are due; returns whether the run should stop, as `on_log` does."""
        ...

    def on_snapshot(self, trainer: Trainer) -> None:
        """A snapshot of the power-function averages is due."""
        ...

    def wants_checkpoint(self) -> bool:
        """Whether the state should be saved although it is not due; asked at each log line but the last.

        The answer must be the same on every rank.
        """
        ...

    def on_checkpoint(self, trainer: Trainer) -> None:
        """The state should be saved; not called at the end of the budget."""
        ...

    def on_end(self, end: End) -> None:
        """The run has ended, and its state no longer changes; the others of a pack continue."""
        ...


class NoHooks:
    """Hooks that do nothing, to override a few of."""

    def on_heldout(self, trainer: Trainer) -> None:
        """Measure nothing."""

    def on_log(self, line: LogLine) -> bool:
        """Go on."""
        return False

    def on_preview(self, trainer: Trainer) -> bool:
        """Go on."""
        return False

    def on_snapshot(self, trainer: Trainer) -> None:
        """Keep nothing."""

    def wants_checkpoint(self) -> bool:
        """No."""
        return False

    def on_checkpoint(self, trainer: Trainer) -> None:
        """Keep nothing."""

    def on_end(self, end: End) -> None:
        """Do nothing."""
