"""The load of every node, under the names of MLflow's own system metrics: system/NODE/cpu_utilization_percentage.

MLflow's monitor would write to the server itself, from each node. Here an actor on each node only measures, with
MLflow's own probes, and the driver stores what they report, as it does everything else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from curriculum_ray.distributed.nodes import live_nodes, on_node
from tuning.tracking.fields import metric_key
from tuning.tracking.store import import_mlflow
from tuning.tracking.tracker import Tracker

__all__ = ["LoadProbe", "node_load", "store_load"]

_EVERY_SECONDS = 10.0
_ANSWER_SECONDS = 60.0


class LoadProbe:
    """Measures the node that it runs on; an actor of Ray."""

    def __init__(self) -> None:
        import_mlflow()
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
        from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

        self._monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        for gpu in (GPUMonitor, ROCMMonitor):
            try:
                self._monitors.append(gpu())
                break
            except Exception:  # each in its own way where there is no such GPU, or no package that asks it
                continue

    def measure(self) -> dict[str, float]:
        """The load now, by MLflow's names."""
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {key: float(value) for key, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return found


@contextmanager
def node_load(tracker: Tracker, run: str, every_s: float = _EVERY_SECONDS) -> Iterator[None]:
    """Store the load of all nodes of the cluster in `run` every `every_s` seconds; without Ray, of this machine."""
    import ray

    probes: _Probes | _Here = _Probes() if ray.is_initialized() else _Here()
    ended = threading.Event()

    def poll() -> None:
        while not ended.is_set():
            store_load(tracker, run, probes.measure())
            ended.wait(every_s)

    thread = threading.Thread(target=poll, name="node-load", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_ANSWER_SECONDS)
        probes.close()


def store_load(
    tracker: Tracker,
    run: str,
    measured: Mapping[str, Mapping[str, float]],
    clock: Callable[[], float] = time.time,
) -> None:
    """Store what was measured on each node, by its name; the step is the second of the Unix clock."""
    for node, load in measured.items():
        named = {metric_key(f"system/{node}/{key}"): value for key, value in load.items()}
        tracker.sample(run, named, int(clock()))


class _Here:
    """A probe in this process, where nothing runs on Ray."""

    def __init__(self) -> None:
        self._probe = LoadProbe()

    def measure(self) -> dict[str, dict[str, float]]:
        """The load of this machine, by its address."""
        import ray.util

        return {ray.util.get_node_ip_address(): self._probe.measure()}

    def close(self) -> None:
        """Nothing was started."""


class _Probes:
    """One probe on each node that is there; nodes may come and go."""

    def __init__(self) -> None:
        self._probes: dict[str, Any] = {}

    def measure(self) -> dict[str, dict[str, float]]:
        """What each node reports, by its address; a node that does not answer is left out."""
        import ray

        try:
            waiting = {name: probe.measure.remote() for name, probe in self._here().items()}
        except Exception:  # Ray is going down
            return {}
        found = {}
        for name, answer in waiting.items():
            try:
                found[name] = ray.get(answer, timeout=_ANSWER_SECONDS)
            except Exception:  # the node is lost, or cannot run a probe
                self._probes.pop(name, None)
        return found

    def _here(self) -> dict[str, Any]:
        import ray

        # Several nodes of Ray on one machine have one load.
        nodes = {node["NodeManagerAddress"]: node["NodeID"] for node in live_nodes()}
        for name, ident in nodes.items():
            if name not in self._probes:
                probe = ray.remote(LoadProbe).options(num_cpus=0, scheduling_strategy=on_node(ident))
                self._probes[name] = probe.remote()
        return {name: probe for name, probe in self._probes.items() if name in nodes}

    def close(self) -> None:
        import ray

        for probe in self._probes.values():
            try:
                ray.kill(probe)
            except Exception:  # Ray is gone already
                return
