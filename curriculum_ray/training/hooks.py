"""What a training loop calls on the way to the end of its budget."""

from __future__ import annotations

from typing import Protocol

from curriculum_ray.training.trainer import LogLine, NonFiniteLoss, Trainer

__all__ = ["End", "Hooks", "NoHooks"]

End = bool | NonFiniteLoss
"""How a run ended: True with its budget spent, False when it was asked to stop, or why it could not go on."""


class Hooks(Protocol):
    """What the loop calls of one run, on every rank, in the order of the methods where several are due at a step.

    The time that `on_heldout`, `on_preview` and `on_snapshot` take does not count in anybody's speed, and what they
    draw from the random generators does not matter. `NonFiniteLoss` raised by any of them ends the run.
    """

    def on_heldout(self, trainer: Trainer) -> None:
        """The held-out loss is due."""
        ...

    def on_log(self, line: LogLine) -> bool:
        """A log line is due; returns whether the run should stop, which it does at the next one. Rank 0 decides."""
        ...

    def on_preview(self, trainer: Trainer) -> bool:
        """Samples are due; returns whether the run should stop, which it does at the next log line."""
        ...

    def on_snapshot(self, trainer: Trainer) -> None:
        """A snapshot of the power-function averages is due."""
        ...

    def on_checkpoint(self, trainer: Trainer) -> None:
        """The state should be saved; not called at the end of the budget."""
        ...

    def on_end(self, end: End) -> None:
        """The run has ended, and its state stays as it is; the others of a pack go on."""
        ...


class NoHooks:
    """Hooks that do nothing, for those who need few of them."""

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

    def on_checkpoint(self, trainer: Trainer) -> None:
        """Keep nothing."""

    def on_end(self, end: End) -> None:
        """Tell nobody."""
