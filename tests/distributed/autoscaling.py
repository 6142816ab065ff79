"""A cluster of Ray's fake nodes with a real autoscaler, and the settings of the shipped launchers."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.distributed.nodes import ROOT, Command, tree

LAUNCHERS = ["aws", "gcp", "raycluster", "rayjob"]


def launcher(name: str) -> dict[str, Any]:
    """The settings of a shipped launcher as its autoscaler has them; a manifest's as Ray derives them on Kubernetes."""
    if name in ("aws", "gcp"):
        return yaml.safe_load((ROOT / "clusters" / f"{name}.yaml").read_text())
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    manifest = yaml.safe_load((ROOT / "clusters" / "kuberay" / f"{name}.yaml").read_text())
    spec = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    return _derive_autoscaling_config_from_ray_cr(
        {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
    )


@contextlib.contextmanager
def autoscaling(folder: Path, settings: dict[str, Any], **limits: int) -> Iterator[dict[str, str]]:
    """A cluster that grows as one of these settings would, from its head alone; yields the environment of its drivers.

    limits: most nodes by the name of their type, where they differ from the settings'. Fake nodes are what
    `ray.cluster_utils.AutoscalingCluster` starts; that class itself stops every Ray of the machine, and lacks the file
    of its settings in Ray's wheel.
    """
    head, kinds = settings["head_node_type"], settings["available_node_types"]
    workers = {
        name: {
            "resources": _of_a_small_machine(kind["resources"]),
            "node_config": {},
            "min_workers": kind.get("min_workers", 0),
            "max_workers": limits.get(name, kind.get("max_workers", settings["max_workers"])),
        }
        for name, kind in kinds.items()
        if name != head
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    own = {"resources": _of_a_small_machine(kinds[head]["resources"]), "node_config": {}, "max_workers": 0}
    content = {
        "cluster_name": "fake",
        "max_workers": settings["max_workers"],
        "upscaling_speed": settings["upscaling_speed"],
        "idle_timeout_minutes": settings["idle_timeout_minutes"],
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            # All nodes have one address, and are there as soon as they are started.
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {"ray.head.default": own, **workers},
        "head_node_type": "ray.head.default",
        "auth": {},
        # What Ray's launcher requires, whatever it is.
        **{f"{what}_commands": [] for what in ("initialization", "setup", "head_setup", "worker_setup")},
        **{f"{what}_start_ray_commands": [] for what in ("head", "worker")},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
    }
    folder.mkdir(parents=True)
    config = folder / "autoscaler.json"
    config.write_text(json.dumps(content))
    dropped = {"RAY_ADDRESS", "MLFLOW_TRACKING_URI", "RAY_AUTH_TOKEN_PATH"}
    environment = {
        **{key: value for key, value in os.environ.items() if key not in dropped},
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    ray = str(Path(sys.executable).parent / "ray")
    start = [ray, "start", "--head", "--block", f"--port={port}", f"--temp-dir={folder / 'ray'}"]
    start += ["--node-ip-address=127.0.0.1", "--include-dashboard=false", "--disable-usage-stats"]
    start += [f"--num-cpus={int(own['resources'].get('CPU', 0))}", "--object-store-memory=100000000"]
    start.append(f"--autoscaling-config={config}")
    with open(folder / "head.log", "ab") as log:
        process = subprocess.Popen(
            start, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        drivers = {**environment, "RAY_ADDRESS": address}
        wait = [sys.executable, "-m", "clusters", "wait", "--nodes", "1", "--timeout", "90"]
        subprocess.run(wait, env=drivers, cwd=ROOT, check=True)
        yield drivers
    finally:
        while Command.started:
            Command.started.pop().close()
        _end(process.pid, str(folder))
        process.wait(30)


def _of_a_small_machine(resources: dict[str, float]) -> dict[str, float]:
    """Memory is what a fake node cannot have; its object store is small."""
    return {
        **{key: value for key, value in resources.items() if key != "memory"},
        "object_store_memory": 10**8,
    }


def _end(pid: int, folder: str) -> None:
    """Kill the head and the fake nodes, whose files are in `folder`: they may no longer be children of the head."""
    there = {process.pid: process for process in tree(pid)}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(folder in part for part in process.cmdline()):
                there.update({each.pid: each for each in tree(process.pid)})
    there.pop(os.getpid(), None)
    for process in there.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
