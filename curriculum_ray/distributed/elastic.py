"""In the controller of a run with a range of workers: how many it has, beside others that use the cluster.

Ray's elastic policy asks for the most workers of a run at once, so that the first of several runs takes all there is,
and the last none. Here the fewest workers of every run come first, and what is then free goes to runs that may have
more, the earliest first.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import ray
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import ResourceRequestPriority
from ray.train._internal.autoscaling_coordinator_client import build_train_resource_request
from ray.train.v2._internal.execution.scaling_policy import (
    AUTOSCALING_REQUESTS_EXPIRE_TIME_S,
    AUTOSCALING_REQUESTS_GET_TIMEOUT_S,
    AUTOSCALING_REQUESTS_INTERVAL_S,
    ElasticScalingPolicy,
    NoopDecision,
    ScalingDecision,
)
from ray.train.v2._internal.execution.scaling_policy.autoscaling_coordinator_client import (
    TrainAutoscalingCoordinatorClient,
)

from curriculum_ray.distributed.claims import claim_name

__all__ = ["FairScaling", "workers_of"]

_LOG = logging.getLogger(__name__)

_PAUSE_S = 0.5
_PATIENCE_S = 600.0


class FairScaling(ElasticScalingPolicy):
    """Ray's elastic policy, with three differences.

    - The fewest workers of a run have a higher priority than what others would like to have beside their fewest.
    - A run that is to have more or fewer workers is restarted right after its next checkpoint, for which it has ten
      minutes. The board is told, so that it does not take this for a death.
    - What the nodes hold is looked at anew, so that a node that was lost does not count, and a controller that waits
      for room does not keep a core busy.
    """

    def __init__(self, scaling_config: Any, board: Any, slot: int) -> None:
        super().__init__(scaling_config)
        self._board, self._slot = board, slot
        self._due: float | None = None
        self._asked = float("-inf")

    def after_controller_start(self, train_run_context: Any) -> None:
        """Take over the claim of the slot."""
        self._requester_id = claim_name(self._board, self._slot)
        self._coordinator_client = TrainAutoscalingCoordinatorClient(self._requester_id)
        self._maybe_send_resource_request()

    def _get_num_workers_for_resource_request(self) -> int:
        return self.scaling_config.min_workers

    def _maybe_send_resource_request(self) -> None:
        super()._maybe_send_resource_request()
        further = self.scaling_config.max_workers - self.scaling_config.min_workers
        if time.monotonic() - self._asked < AUTOSCALING_REQUESTS_INTERVAL_S or not further:
            return
        resources, selectors = build_train_resource_request(self.scaling_config, further)
        try:
            asked = self._autoscaling_coordinator.request_resources.remote(
                requester_id=self._further,
                resources=resources,
                label_selectors=selectors,
                expire_after_s=AUTOSCALING_REQUESTS_EXPIRE_TIME_S,
                priority=ResourceRequestPriority.MEDIUM,
            )
            ray.get(asked, timeout=AUTOSCALING_REQUESTS_GET_TIMEOUT_S)
            self._asked = time.monotonic()
        except Exception as error:  # as Ray's own request: the next one may be answered
            _LOG.warning("slot %d could not ask for more workers: %s", self._slot, error)

    def _cancel_resource_request(self) -> None:
        super()._cancel_resource_request()
        if self._coordinator_client is not None:
            TrainAutoscalingCoordinatorClient(self._further).cancel_resource_request()

    @property
    def _further(self) -> str:
        return f"{self._requester_id}-further"

    def _get_reserved_resources(self) -> Any:
        ask = self._autoscaling_coordinator.get_reserved_resources
        try:
            # The first call makes the coordinator look at the nodes.
            asked = [ask.remote(self._requester_id, recompute=True), ask.remote(self._further)]
            found: list[dict[str, dict[str, float]]] = ray.get(
                asked, timeout=AUTOSCALING_REQUESTS_GET_TIMEOUT_S
            )
        except Exception as error:  # as Ray's own: the workers stay as they are
            _LOG.warning("slot %d could not ask for its room: %s", self._slot, error)
            return None
        fewest, further = found
        return {
            node: {
                kind: fewest.get(node, {}).get(kind, 0.0) + further.get(node, {}).get(kind, 0.0)
                for kind in {**fewest.get(node, {}), **further.get(node, {})}
            }
            for node in {**fewest, **further}
        }

    def _count_possible_workers(self, reserved_resources: dict[str, dict[str, float]]) -> int:
        needs = self.scaling_config._resources_per_worker_not_none
        return min(workers_of(needs, reserved_resources), self.scaling_config.max_workers)

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """The workers to start with; without room for the fewest, a pause."""
        self._due = None
        decision = super().make_decision_for_non_running_worker_group()
        if isinstance(decision, NoopDecision):
            time.sleep(_PAUSE_S)
        return decision

    def make_decision_for_running_worker_group(
        self, worker_group_state: Any, worker_group_status: Any
    ) -> ScalingDecision:
        """Another number of workers, once there is a checkpoint to go on from."""
        self._maybe_send_resource_request()
        now = time.monotonic()
        if self._due is None:
            before = max(worker_group_state.start_time, self._latest_monitor_time)
            if now - before < self.scaling_config.elastic_resize_monitor_interval_s:
                return NoopDecision()
            self._latest_monitor_time = now
            if self._other_number(worker_group_state.num_workers) is None:
                return NoopDecision()
            self._due = now + _PATIENCE_S
        reports = [status.training_report for status in worker_group_status.worker_statuses.values()]
        saved = any(report is not None and report.checkpoint is not None for report in reports)
        if not saved and now < self._due:
            return NoopDecision()
        self._due = None
        # Meanwhile, others may have come or gone.
        workers = self._other_number(worker_group_state.num_workers)
        if workers is None:
            return NoopDecision()
        ray.get(self._board.note_resize.remote(self._slot))
        return self._get_resize_decision(workers)

    def _other_number(self, workers: int) -> int | None:
        """The number of workers that there is room for, if it differs from `workers` and is enough, else None."""
        if (reserved := self._get_reserved_resources()) is None:
            return None
        fit = self._count_possible_workers(reserved)
        return None if fit == workers or fit < self.scaling_config.min_workers else fit


def workers_of(needs: dict[str, float], reserved: dict[str, dict[str, float]]) -> int:
    """How many workers, each on one node, are in what is reserved on each; shares of a device are rounded to 1e-6."""
    return sum(
        min(int(amounts.get(kind, 0.0) / each + 1e-6) for kind, each in needs.items() if each)
        for amounts in reserved.values()
    )
