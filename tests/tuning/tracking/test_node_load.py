"""The load of a node, under MLflow's own names, through the tracker."""

from __future__ import annotations

import time
from pathlib import Path

from tuning.tracking import Tracker
from tuning.tracking.node_load import LoadProbe, node_load, store_load


def test_a_probe_measures_by_the_names_of_mlflow() -> None:
    load = LoadProbe().measure()
    assert {"cpu_utilization_percentage", "system_memory_usage_percentage"} <= load.keys()
    assert 0 < load["system_memory_usage_percentage"] < 100


def test_the_load_of_each_node_is_stored_at_its_second(output: Path) -> None:
    with Tracker.open(None, output, "digits/ddpm") as tracker:
        run = tracker.train("a", {}, {})
        for second in (7.2, 17.4):
            store_load(tracker, run, {"10.0.0.1": {"cpu": 5.0}, "10.0.0.2": {"cpu": 6.0}}, lambda s=second: s)
        assert tracker.flush()
        ident = tracker.run_id(run)
        steps = [
            point.step for point in tracker.store.client.get_metric_history(ident, "system/10.0.0.2/cpu")
        ]
        metrics = tracker.store.client.get_run(ident).data.metrics
    assert steps == [7, 17]
    assert metrics == {"system/10.0.0.1/cpu": 5.0, "system/10.0.0.2/cpu": 6.0}


def test_without_ray_it_is_that_of_this_machine(output: Path) -> None:
    with Tracker.open(None, output, "digits/ddpm") as tracker:
        run = tracker.train("a", {}, {})
        with node_load(tracker, run, every_s=0.01):
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                tracker.flush()
                stored = tracker.store.client.get_run(tracker.run_id(run)).data.metrics
                if stored:
                    break
        assert any(key.endswith("/cpu_utilization_percentage") for key in stored)
