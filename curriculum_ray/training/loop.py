"""The training loop: takes K >= 1 runs to the end of their budgets and calls hooks on the way. No Ray.

train(trainer, hooks)                # one run; NonFiniteLoss is raised
train_together(packed, hooks)        # several at a time, each of which ends on its own
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from curriculum_ray.training.hooks import End, Hooks, NoHooks
from curriculum_ray.training.lockstep import Lockstep
from curriculum_ray.training.trainer import NonFiniteLoss, Trainer

__all__ = ["train", "train_together"]


def train(trainer: Trainer, hooks: Hooks | None = None, runs: Lockstep | None = None) -> bool:
    """Train to the end of the budget; returns False where a hook asked to stop earlier.

    runs: `trainer` alone, where its steps are to be profiled. Every rank must call it. Raises NonFiniteLoss.
    """
    (end,) = train_together(runs or Lockstep([trainer]), [hooks or NoHooks()])
    if isinstance(end, NonFiniteLoss):
        raise end
    return end


def train_together(runs: Lockstep, hooks: Sequence[Hooks] | None = None) -> list[End]:
    """Train to the end of the budget; returns how each run ended. hooks: one for each of `members`, or None.

    A member whose hook asked to stop does so when everything that is due then has been called, or with several workers
    at its next log line; one whose loss or weights are not finite stops at once. The others continue.
    """
    if hooks is None:
        hooks = [NoHooks() for _ in runs.members]
    members = [
        _Member(place, runs, hook) for place, hook in zip(range(len(runs.members)), hooks, strict=True)
    ]
    active: list[int] = []
    while runs.training:
        before, active = active, runs.active
        for place in set(active) - set(before):
            runs.members[place].meter.start()
        over = members[active[0]].over
        if not over:
            runs.step()
        for place in active:
            end = True if over else members[place].after_step()
            if end is not None:
                runs.ended[place] = end
                hooks[place].on_end(end)
    return [end for end in runs.ended if end is not None]


class _Member:
    """A run in the loop, and the hooks that are due after a step."""

    def __init__(self, place: int, runs: Lockstep, hooks: Hooks) -> None:
        self._trainer, self._runs, self._hooks = runs.members[place], runs, hooks
        self._logged = self._trainer.steps
        self._stop = False

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return self._trainer.steps == self._trainer.config.total_steps

    def after_step(self) -> End | None:
        """Call the hooks that are due; returns how the run ended, None while it continues."""
        try:
            return self._call_due()
        except NonFiniteLoss as error:
            return error

    def _call_due(self) -> End | None:
        trainer, hooks, config, over = self._trainer, self._hooks, self._trainer.config, self.over
        if trainer.heldout and self._due(config.heldout_steps):
            with self._uncounted():
                hooks.on_heldout(trainer)
        logged, stopped = self._due(config.log_steps), False
        if logged:
            line, stopped = trainer.log(trainer.steps - self._logged, self._stop)
            self._logged = trainer.steps
            self._stop = hooks.on_log(line)
        with self._uncounted():
            if self._due(config.preview_steps):
                self._stop = hooks.on_preview(trainer) or self._stop
            if self._due(config.snapshot_steps):
                hooks.on_snapshot(trainer)
        if over:
            return True
        # What was due came first: a run that resumes from the checkpoint of this step does not repeat it.
        if stopped or (self._stop and trainer.world.size == 1):
            return False
        if (logged and hooks.wants_checkpoint()) or self._due(config.checkpoint_steps):
            hooks.on_checkpoint(trainer)
        return None

    def _due(self, every: int | None) -> bool:
        """Whether a hook that is due every `every` steps and at the end, or never if None, is due now."""
        return every is not None and (self.over or self._trainer.steps % every == 0)

    @contextmanager
    def _uncounted(self) -> Iterator[None]:
        """Leave the time of the block out of the speed of every run."""
        start = time.perf_counter()
        yield
        taken = time.perf_counter() - start
        for member in self._runs.members:
            member.meter.leave_out(taken)
