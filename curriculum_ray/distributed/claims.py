"""Claims to the room of a slot's fewest workers, with which runs with a range of workers make room for others.

Ray's coordinator shares a cluster among all who asked it, by priority and then first come, first served. Ray Train asks
once the controller of a run has started; a slot that waits for room has none, so that it claims its room itself.
"""

from __future__ import annotations

from typing import Any

from curriculum_ray.distributed.resources import ResourceSpec

__all__ = ["SlotClaim", "claim_name"]


def claim_name(board: Any, slot: int) -> str:
    """The name of a slot's claim; board: the handle of the actor that serves it."""
    return f"{board._actor_id.hex()}-{slot}"


class SlotClaim:
    """The claim of a slot. It expires three minutes after it was last renewed.

    The first one of a cluster also starts Ray's coordinator, on the driver's node: where a controller starts it, it is
    lost with the node of that controller, and nobody may start workers any more.
    """

    def __init__(self, board: Any, slot: int, resources: ResourceSpec) -> None:
        from ray.train.v2._internal.execution.scaling_policy.autoscaling_coordinator_client import (
            TrainAutoscalingCoordinatorClient,
        )
        from ray.train.v2.api.config import ScalingConfig

        least, _ = resources.workers
        self._scaling = ScalingConfig(
            num_workers=least, use_gpu=resources.use_gpu, resources_per_worker=resources.per_worker
        )
        self._client = TrainAutoscalingCoordinatorClient(claim_name(board, slot))

    def renew(self) -> None:
        """Claim the room, or renew the claim; the coordinator is asked at most every 20 seconds."""
        self._client.maybe_send_resource_request(self._scaling, self._scaling.max_workers)

    def withdraw(self) -> None:
        """Claim it no longer."""
        self._client.cancel_resource_request()
