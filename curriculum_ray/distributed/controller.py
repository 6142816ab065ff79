"""Ray Train's controller, whose watcher of preemptions runs beside it. No torch here: the controller needs none."""

from __future__ import annotations

from typing import Any

import ray
from ray.train.v2._internal.callbacks.preemption_callback import PreemptionCallback
from ray.train.v2._internal.execution import controller
from ray.train.v2._internal.execution.preemption import PreemptionWatcher

from curriculum_ray.distributed.nodes import on_node, this_node

__all__ = ["TrainController"]


class TrainController(controller.TrainController):
    """Ray's, which would start the watcher on the cluster's least busy node: that of the driver."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._worker_group_callbacks_to_propagate = [
            NearbyWatcher() if isinstance(each, PreemptionCallback) else each
            for each in self._worker_group_callbacks_to_propagate
        ]


class NearbyWatcher(PreemptionCallback):
    """Starts what watches the workers' nodes beside the controller."""

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Called when the workers of a run have started."""
        self._stop_watcher()
        workers = {each.distributed_context.world_rank: each for each in worker_group.get_workers()}
        ranks: dict[str, list[int]] = {}
        for rank, worker in workers.items():
            ranks.setdefault(worker.metadata.node_id, []).append(rank)
        watcher: Any = ray.remote(PreemptionWatcher)
        self._watcher = watcher.options(
            num_cpus=0, max_restarts=-1, scheduling_strategy=on_node(this_node())
        ).remote(
            node_to_ranks=ranks,
            poll_interval_s=self._poll_interval_s,
            worker_actors_by_rank={rank: worker.actor for rank, worker in workers.items()},
        )
