"""Independent workers of one Ray Train run: each is a slot.

A Ray Train run has one controller and three further actors, whether it has one worker or sixty-four. Where each run of
a study trains on one worker, all of its slots are workers of one Ray Train run. Each is a replica group, so that Ray
replaces only the one that died.
"""

from __future__ import annotations

from typing import Any

from ray.train.backend import Backend
from ray.train.torch import TorchConfig

__all__ = ["OneEach"]


class _Apart(Backend):
    """Starts no process group: workers never wait for each other."""

    has_replica_groups = True


class OneEach(TorchConfig):
    """For `TorchTrainer(torch_config=…)`: independent workers, each on its own device."""

    @property
    def backend_cls(self) -> Any:
        """The backend with which Ray Train sets up the workers."""
        return _Apart
