"""Wait for the nodes of a Ray cluster, or start several on one machine."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from curriculum_ray.addresses import presentable
from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.connection import check_reachable, endpoint

__all__ = ["run_on_local_nodes", "wait_for_nodes"]

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# To connect, and again for an answer, before the next try.
_REACH_S = 2.0


def wait_for_nodes(nodes: int, timeout_s: float) -> int:
    """Wait up to about `timeout_s` seconds for `nodes` live nodes at RAY_ADDRESS; return their number.

    Raises ConfigError if RAY_ADDRESS is not set, or no address of a cluster.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        raise ConfigError("RAY_ADDRESS must name the cluster to wait for, but it is not set")
    if address != "auto" and endpoint(address) is None:
        raise ConfigError(
            f"RAY_ADDRESS must be HOST:PORT, ray://HOST:PORT or auto, but got {presentable(address)}"
        )
    import ray

    until = time.monotonic() + timeout_s
    connected, there = False, 0
    while there < nodes:
        try:
            if not connected:
                check_reachable(address, min(_REACH_S, max(0.1, until - time.monotonic())))
                ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
                connected = True
            there = sum(node["Alive"] for node in ray.nodes())
        except (ConfigError, OSError, RuntimeError, ValueError):
            # The head may still be starting.
            there = 0
        if time.monotonic() > until:
            break
        if there < nodes:
            time.sleep(1.0)
    if connected:
        ray.shutdown()
    return there


def run_on_local_nodes(nodes: int, cpus: int, command: list[str]) -> int:
    """Run `command` on `nodes` Ray nodes of `cpus` CPUs each on this machine; return its exit code.

    The nodes end after the command, to which Ctrl-C, SIGTERM and SIGHUP are passed on. Ray's token authentication is
    on, with a token only for this cluster. Raises ConfigError if the command cannot be started.
    """
    import secrets

    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    settings: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=settings)
    try:
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=cpus)
        return _run(command, {**os.environ, "RAY_ADDRESS": cluster.address})
    finally:
        cluster.shutdown()


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run `command` until it ends, passing signals on to it; return its exit code, 128 + N where signal N ended it."""
    try:
        # In a session of its own: otherwise Ctrl-C in a terminal reaches it twice, and the second ends the saving.
        process = subprocess.Popen(command, env=environment, start_new_session=True)
    except FileNotFoundError:
        raise ConfigError(f"the command to run does not exist: {command[0]!r}") from None
    except OSError as error:
        raise ConfigError(f"the command to run cannot be started: {command[0]!r}: {error.strerror}") from None

    def pass_on(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
