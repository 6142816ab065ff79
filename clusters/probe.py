"""The checks that run on each node, as an actor."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import time
from datetime import timedelta
from typing import Any

__all__ = ["Probe"]

_MEGABYTES = 16
_ROUNDS = 3


class Probe:
    """Checks of one node. Every method returns within a minute."""

    def facts(self) -> dict[str, Any]:
        """Return versions, GPUs, the folder of Ray's files, free disk there (bytes), and whether our code is there."""
        import ray
        import torch
        from ray._private import worker

        import curriculum_ray
        import tuning

        node: Any = worker._global_node
        folder = node.get_temp_dir_path()
        return {
            "python": platform.python_version(),
            "ray": ray.__version__,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "driver": _driver(),
            "code": bool(curriculum_ray.__name__ and tuning.__name__),
            "folder": folder,
            "free_bytes": shutil.disk_usage(folder).free,
            "gpus": torch.cuda.device_count(),
        }

    def now(self) -> float:
        """Return this node's clock, in seconds since 1970."""
        return time.time()

    def matmul(self) -> list[str]:
        """Multiply matrices on every GPU of this actor; return one line per failure."""
        import torch

        problems = []
        for index in range(torch.cuda.device_count()):
            try:
                ones = torch.ones(256, 256, device=f"cuda:{index}")
                total = float((ones @ ones).sum())
                if total != 256.0**3:
                    problems.append(f"GPU {index} multiplies incorrectly: {total:g}")
            except RuntimeError as error:
                problems.append(f"GPU {index}: {str(error).splitlines()[0]}")
        return problems

    def address(self) -> str:
        """Return a `tcp://` address on this node as a rendezvous for the others."""
        import ray.util

        with socket.socket() as free:
            free.bind(("", 0))
            return f"tcp://{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def all_reduce(self, address: str, rank: int, world: int, backend: str, timeout_s: float) -> float:
        """Sum a tensor over all nodes; return its megabytes per second, or raise on failure."""
        import torch
        import torch.distributed as dist

        limit = timedelta(seconds=timeout_s)
        dist.init_process_group(backend, init_method=address, rank=rank, world_size=world, timeout=limit)
        try:
            device = "cuda" if backend == "nccl" else "cpu"
            tensor = torch.ones(_MEGABYTES * 250_000, device=device)
            dist.all_reduce(tensor)
            assert float(tensor[0]) == world
            start = time.perf_counter()
            for _ in range(_ROUNDS):
                dist.all_reduce(tensor)
            if device == "cuda":
                torch.cuda.synchronize()
            return _ROUNDS * _MEGABYTES / (time.perf_counter() - start)
        finally:
            dist.destroy_process_group()


def _driver() -> str | None:
    """Return the version of the NVIDIA driver, None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=False, env=dict(os.environ)
        )
    except subprocess.TimeoutExpired:
        return "does not answer"
    return done.stdout.split("\n")[0].strip() or None
