"""One value for a step of a run's metric: the first, also where a later process reports the step again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

__all__ = ["StoredSteps", "is_point"]


class StoredSteps:
    """The steps at which a run's metrics have a value in MLflow."""

    def __init__(self, client: MlflowClient, run: Run) -> None:
        """run: as it is now in MLflow; later values must be told by `add`."""
        self._client, self._run_id = client, run.info.run_id
        self._known: dict[str, set[int]] = {}
        # The last step of each metric whose earlier steps are not known here.
        self._last = {metric.key: metric.step for metric in run.data.to_proto().metrics}

    def fresh(self, points: Iterable[tuple[str, float, int, int]]) -> list[Metric]:
        """Of points (metric, value, time in ms, step), those whose step has no value yet; of several, the first."""
        from mlflow.entities import Metric

        found: dict[tuple[str, int], Metric] = {}
        for key, value, now, step in points:
            if step not in self._steps(key, step):
                found.setdefault((key, step), Metric(key, value, now, step))
        return list(found.values())

    def add(self, metrics: Iterable[Metric]) -> None:
        """Note that these have been stored."""
        for metric in metrics:
            self._known.setdefault(metric.key, set()).add(metric.step)

    def _steps(self, key: str, step: int) -> set[int]:
        """The steps of a metric, complete up to `step`: MLflow is asked, once, only where it may have that one."""
        known = self._known.setdefault(key, set())
        if key in self._last and step <= self._last[key]:
            known |= {point.step for point in self._client.get_metric_history(self._run_id, key)}
            del self._last[key]
        return known


def is_point(point: Any) -> bool:
    """Whether it is a metric's name, value, time and step, as Tracker.log queues them."""
    kinds = [type(part) for part in point] if isinstance(point, list) else []
    return kinds in ([str, float, int, int], [str, int, int, int])
