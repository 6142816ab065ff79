"""How Ray Train sets up the workers of a run, without torch in the controller, whose memory it would triple.

Ray's `TorchConfig` imports torch wherever it is unpickled. Here only the workers call what is in its module.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.execution.callback import WorkerGroupCallback

__all__ = ["NoteRoom", "OneEach", "OneGroup"]

_LOG = logging.getLogger(__name__)

# As in Ray's.
_SHUTDOWN_S = 30.0


class _Together(Backend):
    """One process group of all workers, as Ray's backend for torch starts it."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Connect the workers; the first one's node is the meeting place."""
        address, port = worker_group.execute_single(0, get_address_and_port)
        size = len(worker_group)
        joined = [
            worker_group.execute_single_async(
                rank, _join, backend_config.backend, rank, size, address, port, backend_config.timeout_s
            )
            for rank in range(size)
        ]
        ray.get(joined)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """Take the process group apart; workers that do not answer in time are killed afterwards anyway."""
        try:
            ray.get(worker_group.execute_async(_part, len(worker_group) > 1), timeout=_SHUTDOWN_S)
        except GetTimeoutError:
            _LOG.warning("the process group was not taken apart within %g s", _SHUTDOWN_S)


class _Apart(Backend):
    """Starts no process group: workers never wait for each other."""

    has_replica_groups = True


@dataclass
class OneGroup(BackendConfig):
    """For `TorchTrainer(torch_config=…)`: one run on all workers."""

    backend: str | None = None
    """nccl or gloo, which the trainer sets by the resources of a worker."""
    timeout_s: int = 1800
    """Of a collective."""

    @property
    def backend_cls(self) -> Any:
        """The backend with which Ray Train sets up the workers."""
        return _Together

    @property
    def train_func_context(self) -> Any:
        """Ray's own, which chooses each worker's GPU."""
        from ray.train.torch.config import TorchConfigContextManager

        return TorchConfigContextManager


class OneEach(OneGroup):
    """For `TorchTrainer(torch_config=…)`: independent workers, each a slot, on its own device.

    Each is a replica group, so that Ray replaces only the one that died. A Ray Train run has one controller and two
    further actors, whether it has one worker or sixty-four.
    """

    @property
    def backend_cls(self) -> Any:
        """The backend with which Ray Train sets up the workers."""
        return _Apart


class NoteRoom(WorkerGroupCallback):
    """In the controller: tells the board of the workers' placement group, which outlives a controller that dies."""

    def __init__(self, board: Any, slot: int) -> None:
        self._board, self._slot = board, slot

    def after_worker_group_start(self, worker_group: Any) -> None:
        """The workers have their room."""
        room = worker_group.get_worker_group_state().placement_group_handle.placement_group
        ray.get(self._board.note_room.remote(self._slot, room))


def _join(backend: str, rank: int, size: int, address: str, port: int, timeout_s: int) -> None:
    """In a worker: join the process group."""
    from ray.train.torch import config

    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = address, str(port)
    config._set_torch_distributed_env_vars()
    config._setup_torch_process_group(backend, rank, size, "env://", timeout_s)


def _part(has_peers: bool) -> None:
    """In a worker: leave the process group, and free the GPU's memory."""
    from ray.train.torch import config

    config._shutdown_torch(destroy_process_group=has_peers)
