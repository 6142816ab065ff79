"""Wait for the nodes of a Ray cluster, or start several on one machine."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import time
from typing import Any

from curriculum_ray.addresses import presentable
from curriculum_ray.config import ConfigError

__all__ = ["run_on_local_nodes", "wait_for_nodes"]


def wait_for_nodes(nodes: int, timeout_s: float) -> int:
    """Wait up to `timeout_s` seconds for `nodes` live nodes at RAY_ADDRESS; return their number.

    Raises ConfigError if RAY_ADDRESS is not set, or no address of a cluster.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        raise ConfigError("RAY_ADDRESS must name the cluster to wait for, but it is not set")
    if address != "auto" and not re.fullmatch(r"(ray://)?[^/\s]+:\d+", address):
        raise ConfigError(
            f"RAY_ADDRESS must be HOST:PORT, ray://HOST:PORT or auto, but got {presentable(address)}"
        )
    import ray

    until = time.monotonic() + timeout_s
    connected, there = False, 0
    while there < nodes:
        try:
            if not connected:
                _reach(address)
                ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
                connected = True
            there = sum(node["Alive"] for node in ray.nodes())
        except (OSError, RuntimeError, ValueError):
            # The head may still be starting.
            there = 0
        if time.monotonic() > until:
            break
        if there < nodes:
            time.sleep(1.0)
    if connected:
        ray.shutdown()
    return there


def _reach(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT, where Ray would retry for minutes; ignore other forms."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()


def run_on_local_nodes(nodes: int, cpus: int, command: list[str]) -> int:
    """Run `command` on `nodes` Ray nodes of `cpus` CPUs each on this machine; return its exit code.

    The nodes end with the command. Ray's token authentication is on, with a token only for this cluster.
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
        environment = {**os.environ, "RAY_ADDRESS": cluster.address}
        return subprocess.run(command, env=environment, check=False).returncode
    except FileNotFoundError:
        raise ConfigError(f"the command to run does not exist: {command[0]!r}") from None
    finally:
        cluster.shutdown()
