"""Connecting to Ray: the cluster that RAY_ADDRESS names, or this machine's own cores."""

from __future__ import annotations

import importlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from curriculum_ray.addresses import presentable, without_secrets
from curriculum_ray.buckets.store import Bucket
from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.board import NAMESPACE
from curriculum_ray.distributed.preemption import heeded
from curriculum_ray.distributed.slots import ResourceSpec, slots_left
from curriculum_ray.distributed.storage import check_shared
from curriculum_ray.logs import written_to

__all__ = ["available_cpus", "check_resources", "connected", "packs_of", "room", "waiting_line"]

_LOG = logging.getLogger(__name__)

# By default, Ray Train polls its workers every 2 s, and every checkpoint report waits for a poll. Tune's signal handler
# and log writers are replaced by this project's. Unfinished trials have no metric. On a small machine, Ray warns of too
# many processes, although boards, controllers and trials need no CPU. Usage statistics are not sent. A thread that
# outlives the connection must not start another Ray.
_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_worker_maximum_startup_concurrency": "8",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}
_REACH_S = 8.0
_SETTLE_S = 1.0
# A cloud does not reclaim a local Ray: no process needs to watch for that.
_ENVIRONMENT_ALONE = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}


def available_cpus() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_resources(runs: int, resources: ResourceSpec, cluster: Mapping[str, float] | None = None) -> None:
    """Refuse, in one line, `runs` runs at a time that do not fit into `cluster` (default: this machine)."""
    import torch

    if cluster is None:
        if os.environ.get("RAY_ADDRESS"):
            return
        gpus = torch.cuda.device_count() if resources.use_gpu else 0
        cluster = {"CPU": float(available_cpus()), "GPU": float(gpus)}
    workers = resources.workers[0]
    needed = runs * workers
    for kind, each in resources.per_worker.items():
        if needed > _workers(kind, each, cluster):
            share = f"{runs} at a time x " if runs > 1 else ""
            raise ConfigError(
                f"{needed * each:g} {kind}s are needed ({share}{workers} workers x {each:g}), "
                f"but {cluster.get(kind, 0.0):g} are there: "
                f"lower --num-workers{' or --concurrent' if runs > 1 else ''}"
            )


def packs_of(concurrent: int, pack: int) -> int:
    """The number of packs of `pack` runs in `concurrent` runs; ConfigError where they are not whole packs."""
    if concurrent % pack:
        raise ConfigError(f"--concurrent must be a multiple of --pack {pack}, but got {concurrent}")
    return concurrent // pack


def room(resources: ResourceSpec, runs: int, cluster: Mapping[str, float], pack: int = 1) -> int:
    """How many packs of `pack` runs fit into `cluster` at a time: at most half of all `runs`, and at least one pack.

    cluster: totals of Ray's resources, e.g. {"CPU": 8.0, "GPU": 2.0}.
    """
    workers = min(_workers(kind, each, cluster) for kind, each in resources.per_worker.items())
    return max(1, min(workers // resources.workers[0], runs // 2 // pack))


def waiting_line(resources: ResourceSpec) -> str | None:
    """What the first run waits for because others use the cluster; None where there is room for it.

    Ray hears with a delay what has become free: what is missing twice in a second counts.
    """
    import ray

    if not os.environ.get("RAY_ADDRESS") or resources.missing(ray.available_resources()) is None:
        return None
    time.sleep(_SETTLE_S)
    missing = resources.missing(ray.available_resources())
    return None if missing is None else f"waiting for {missing}, which others use"


def _workers(kind: str, each: float, cluster: Mapping[str, float]) -> int:
    """How many workers get `each` of a resource; a share of a GPU lies on one GPU: two of 0.4 fit on each."""
    there = cluster.get(kind, 0.0)
    if kind == "GPU" and each < 1:
        return int(there + 1e-6) * int(1 / each + 1e-6)
    return int(there / each + 1e-6)


def _check_reachable(address: str) -> None:
    """Refuse, within seconds, an address at which no Ray answers: Ray itself would try for minutes."""
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme != "ray" or host is None or port is None:
        return  # e.g. "auto", or an address that Ray resolves by a plug-in
    name = f"the Ray cluster at RAY_ADDRESS={presentable(address)}"
    try:
        socket.create_connection((host, port), timeout=_REACH_S).close()
    except OSError as error:
        raise ConfigError(
            f"cannot reach {name}: {error.strerror or error}: is it gone? without RAY_ADDRESS a local Ray is started"
        ) from None
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return
    import grpc

    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_REACH_S)
        except grpc.FutureTimeoutError:
            raise ConfigError(f"cannot reach {name}: something else than Ray listens there") from None


@contextmanager
def connected(
    runs: int,
    resources: ResourceSpec,
    output: Path | Bucket | None = None,
    say: Callable[[str], None] = lambda line: None,
    log: Path | None = None,
) -> Iterator[dict[str, float]]:
    """A connection to Ray with room for `runs` runs at a time; shut down at the end, unless a slot is still waiting.

    Yields the totals of its resources. `output` is the folder of the results, or their bucket: ConfigError where
    the cluster's nodes do not share it. `say` is given a line on what is waited for. What this process logs is added to
    the file `log`, if there is one, and so are Ray's warnings, which are not shown.

    Without RAY_ADDRESS a local Ray is started, and it ends with this process. SIGTERM raises Preempted inside.
    """
    check_resources(runs, resources)
    address = os.environ.get("RAY_ADDRESS")
    for name, value in (_ENVIRONMENT if address else _ENVIRONMENT | _ENVIRONMENT_ALONE).items():
        os.environ.setdefault(name, value)
    if address:
        _check_reachable(address)
    importlib.import_module("ray")  # its logger has handlers from then on
    with nullcontext() if log is None else written_to(log, ("ray",)):
        yield from _connection(runs, resources, address, output, say, log)


def _connection(
    runs: int,
    resources: ResourceSpec,
    address: str | None,
    output: Path | Bucket | None,
    say: Callable[[str], None],
    log: Path | None,
) -> Iterator[dict[str, float]]:
    import ray

    say(f"connecting to the Ray cluster at {presentable(address)}" if address else "starting Ray")
    own: dict[str, Any] = {} if address else {"num_cpus": available_cpus(), "include_dashboard": False}

    def start() -> None:
        ray.init(
            address=address or "local",
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR if log is None else logging.WARNING,
            **own,
        )

    try:
        try:
            start()
        except Exception:
            # A local Ray may take too long to start on a busy machine: the second time it is warm.
            if address:
                raise
            ray.shutdown()
            start()
    except Exception as error:  # Ray raises a bare Exception where its processes do not start in time
        where = f"the Ray cluster at RAY_ADDRESS={presentable(address)}" if address else "a local Ray"
        reason = without_secrets(next(iter(str(error).splitlines()), type(error).__name__), address)
        raise ConfigError(f"cannot reach or start {where}: {reason}") from None
    try:
        cluster = ray.cluster_resources()
        check_resources(runs, resources, cluster)
        _LOG.info("Ray has %s", cluster)
        if output is not None:
            check_shared(output)
        with heeded():
            yield cluster
    finally:
        if not slots_left():
            ray.shutdown()
