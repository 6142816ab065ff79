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
from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy
from ray.train.v2.torch.torch_trainer import TorchTrainer

from curriculum_ray.distributed.backend import NoteRoom
from curriculum_ray.distributed.controller import TrainController
from curriculum_ray.distributed.elastic import FairScaling
from curriculum_ray.distributed.nodes import on_node

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
                scheduling_strategy=on_node(self._node),
                # As Ray's own, which warns of calls that wait inside an asynchronous actor.
                runtime_env={
                    "env_vars": {"RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0", **get_env_vars_to_propagate()}
                },
            )
            .remote(**settings)
        )
        ray.get(controller.run.remote())
        return ray.get(controller.get_result.remote())
