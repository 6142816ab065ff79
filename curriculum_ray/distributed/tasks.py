"""Ray tasks that are no longer wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["cancel_unfinished"]


def cancel_unfinished(tasks: Sequence[Any]) -> None:
    """End the tasks, given by their references, that have no result yet, with the processes that run them.

    A task that has ended is left alone: Ray (2.60) may abort the whole driver where a task is cancelled while its reply
    is still being dealt with ("Tried to complete task that was not pending"), which goes on for a moment after its
    result can be read. So this is for what has failed, never for tidying up after a success.
    """
    import ray

    if tasks:
        _, left = ray.wait(list(tasks), num_returns=len(tasks), timeout=0, fetch_local=False)
        for task in left:
            ray.cancel(task, force=True)
