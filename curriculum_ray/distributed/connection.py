"""Connecting to Ray: the cluster that RAY_ADDRESS names, or this machine's own cores."""

from __future__ import annotations

import importlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from curriculum_ray.addresses import presentable, without_secrets
from curriculum_ray.buckets.store import Bucket
from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.board import NAMESPACE
from curriculum_ray.distributed.capacity import Capacity, available_cpus, check_resources
from curriculum_ray.distributed.growth import Growth, growth, wait_for_room
from curriculum_ray.distributed.nodes import live_nodes
from curriculum_ray.distributed.preemption import heeded
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.distributed.slots import slots_left
from curriculum_ray.distributed.storage import check_shared
from curriculum_ray.logs import written_to

__all__ = ["check_reachable", "connected", "endpoint", "waiting_line"]

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


def endpoint(address: str) -> tuple[str, int] | None:
    """Host, an IPv6 address without its brackets, and port of an address such as "10.0.0.1:6379" or "ray://head:10001".

    None for others: "auto", or what Ray resolves by a plug-in. ConfigError where no machine has such a host or port.
    """
    try:
        parts = urlsplit(address if "://" in address else f"ray://{address}")
        if parts.scheme != "ray" or parts.path or parts.hostname is None or parts.port is None:
            return None
        parts.hostname.encode("idna")
        return parts.hostname, parts.port
    except ValueError:
        raise ConfigError(
            f"RAY_ADDRESS must be HOST:PORT, ray://HOST:PORT or auto, but got {presentable(address)}"
        ) from None


def check_reachable(address: str, within_s: float | None = None) -> None:
    """Refuse, within seconds, an address at which no Ray answers: Ray itself would try for minutes.

    within_s: how long to try to connect, and then again for an answer; 8 seconds by default. Raises ConfigError.
    """
    found = endpoint(address)
    if found is None:
        return
    host, port = found
    within_s = _REACH_S if within_s is None else within_s
    name = f"the Ray cluster at RAY_ADDRESS={presentable(address)}"
    try:
        socket.create_connection((host, port), timeout=within_s).close()
    except OSError as error:
        raise ConfigError(
            f"cannot reach {name}: {error.strerror or error}: is it gone? without RAY_ADDRESS a local Ray is started"
        ) from None
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return
    import grpc

    with grpc.insecure_channel(f"[{host}]:{port}" if ":" in host else f"{host}:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=within_s)
        except grpc.FutureTimeoutError:
            raise ConfigError(f"cannot reach {name}: something other than Ray listens there") from None


def _there() -> Capacity:
    return Capacity.of(*(node["Resources"] for node in live_nodes()))


@contextmanager
def connected(
    runs: int,
    resources: ResourceSpec,
    output: Path | Bucket | None = None,
    say: Callable[[str], None] = lambda line: None,
    log: Path | None = None,
) -> Iterator[Capacity]:
    """A connection to Ray with room for `runs` runs at a time; shut down at the end, unless a slot is still waiting.

    Yields what it can hold. A cluster that grows is asked for the room of one run, which is waited for; ConfigError
    where it cannot grow to the room of all of them. `runs` is 0 for what needs no room. `output` is the folder of
    the results, or their bucket: ConfigError where the cluster's nodes do not share it. `say` is given a line on
    what is waited for. What this process logs is added to the file `log`, if there is one, and so are Ray's
    warnings, which are not shown.

    Without RAY_ADDRESS a local Ray is started, and it ends with this process. ConfigError where this process is
    connected to a Ray already, e.g. a notebook to its own, which is left as it is. SIGTERM raises Preempted inside.
    """
    check_resources(runs, resources)
    address = os.environ.get("RAY_ADDRESS")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray = importlib.import_module("ray")  # its logger has handlers from then on
    if ray.is_initialized():
        raise ConfigError("this process is connected to Ray already: end that first, by ray.shutdown()")
    if address:
        check_reachable(address)
    with (
        nullcontext() if address else _alone(),
        nullcontext() if log is None else written_to(log, ("ray",)),
        _messages_logged(),
    ):
        yield from _connection(runs, resources, address, output, say, log)


@contextmanager
def _alone() -> Iterator[None]:
    """The environment of a local Ray, which a cluster that this process connects to later must not see."""
    added = {name: value for name, value in _ENVIRONMENT_ALONE.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _messages_logged() -> Iterator[None]:
    """Make a warning of Ray's logger of what its nodes tell a driver, which it prints on stdout: amid a table or JSON.

    That is, for example, that a process was killed for lack of memory, or that many processes were started.
    """
    from ray._private import worker

    def log(data: dict[str, Any], ignore_prefix: bool) -> None:
        for line in data["lines"]:
            logging.getLogger("ray").warning("%s: %s", data["pid"], line)

    before = worker.print_to_stdstream
    worker.print_to_stdstream = log
    try:
        yield
    finally:
        worker.print_to_stdstream = before


def _connection(
    runs: int,
    resources: ResourceSpec,
    address: str | None,
    output: Path | Bucket | None,
    say: Callable[[str], None],
    log: Path | None,
) -> Iterator[Capacity]:
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
        with heeded():
            there = _there() if address else Capacity.of(ray.cluster_resources())
            _LOG.info("Ray has %s", there)
            found = growth(there) if address else Growth(there)
            most = found.most
            if most is not None:
                # There may be nodes that the autoscaler does not know.
                most = max(most, there, key=lambda nodes: nodes.workers(resources.per_worker))
                check_resources(runs, resources, most)
            if found.grows and runs and there.workers(resources.per_worker) < resources.workers[0]:
                wait_for_room(resources, found, say)
            if output is not None:
                check_shared(output)
            yield most or _there()
    finally:
        if not slots_left():
            ray.shutdown()
