"""Workers of one Ray Train run that know nothing of each other: each is a slot of its own.

One run of Ray Train has one controller and three further actors, whether it has one worker or sixty-four. Where
each run of a study trains on one worker, all of its slots are the workers of one Ray Train run: a replica group each,
so that Ray replaces the one that died and leaves the others alone.
"""

from __future__ import annotations

from typing import Any

from ray.train.backend import Backend
from ray.train.torch import TorchConfig

__all__ = ["OneEach"]


class _Apart(Backend):
    """Starts no process group: no worker waits for another."""

    has_replica_groups = True


class OneEach(TorchConfig):
    """For `TorchTrainer(torch_config=…)`: every worker by itself, on its own device."""

    @property
    def backend_cls(self) -> Any:
        """What Ray Train sets the workers up with."""
        return _Apart
