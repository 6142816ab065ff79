"""Ray Train's trainer with fewer processes, whose controller may run beside its workers.

Ray starts five processes beside the workers of every run, on the driver's node or the cluster's least busy one, which
is the driver's too: 64 slots would need 45 GB there. Two of them do nothing here. The cleaner removes what a controller
that dies had reserved, which the slot does itself; a manager of data sets is started without any, too. The others go
where the slot's workers are.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
    get_or_create_autoscaling_coordinator,
)
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.callbacks.preemption_callback import PreemptionCallback
from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.preemption import PreemptionWatcher
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy
from ray.train.v2.torch.torch_trainer import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from curriculum_ray.distributed.backend import NoteRoom
from curriculum_ray.distributed.elastic import FairScaling

__all__ = ["LightTrainer"]


class LightTrainer(TorchTrainer):
    """A TorchTrainer whose controller runs on `node`, the id of one of Ray's; None for the driver's.

    The board is given the room of the slot's workers. If the controller dies, `fit` raises a RayActorError, and that
    room must be given back. A range of workers is shared out by `FairScaling`.
    """

    def __init__(self, board: Any, slot: int, node: str | None, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._board, self._slot, self._node = board, slot, node

    def _create_default_callbacks(self) -> list[Any]:
        unneeded: tuple[type, ...] = (PlacementGroupCleanerCallback,)
        if not self.datasets:
            unneeded = (*unneeded, DatasetsCallback)
        needed = [each for each in super()._create_default_callbacks() if not isinstance(each, unneeded)]
        needed = [NearbyWatcher() if isinstance(each, PreemptionCallback) else each for each in needed]
        return [*needed, NoteRoom(self._board, self._slot)]

    def _initialize_and_run_controller(self, **settings: Any) -> Any:
        if isinstance(settings["scaling_policy"], ElasticScalingPolicy):
            settings["scaling_policy"] = FairScaling(self.scaling_config, self._board, self._slot)
        if self._node is None:
            return super()._initialize_and_run_controller(**settings)
        # Ray puts this one actor of a cluster on the node of the first controller for good, and where that node is lost
        # all other controllers wait for it.
        get_or_create_autoscaling_coordinator()
        controller: Any = (
            ray.remote(TrainController)
            .options(
                num_cpus=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(self._node, soft=False),
                # As Ray's own, which warns of calls that wait inside an asynchronous actor.
                runtime_env={
                    "env_vars": {"RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0", **get_env_vars_to_propagate()}
                },
            )
            .remote(**settings)
        )
        ray.get(controller.run.remote())
        return ray.get(controller.get_result.remote())


class NearbyWatcher(PreemptionCallback):
    """Starts what watches the workers' nodes beside the controller."""

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Called when the workers of a run have started."""
        self._stop_watcher()
        workers = {each.distributed_context.world_rank: each for each in worker_group.get_workers()}
        ranks: dict[str, list[int]] = {}
        for rank, worker in workers.items():
            ranks.setdefault(worker.metadata.node_id, []).append(rank)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        watcher: Any = ray.remote(PreemptionWatcher)
        self._watcher = watcher.options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote(
            node_to_ranks=ranks,
            poll_interval_s=self._poll_interval_s,
            worker_actors_by_rank={rank: worker.actor for rank, worker in workers.items()},
        )
