"""What the benchmarks share that measure several arms in turn, round by round."""

from __future__ import annotations

from statistics import quantiles

import torch

__all__ = ["device_name", "finish", "spread"]


def finish(device: torch.device) -> None:
    """Wait for the device's work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """The name of the GPU; "CPU" for a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def spread(values: list[float]) -> str:
    """The quartiles, or nothing where there are too few values."""
    if len(values) < 2:
        return ""
    low, _, high = quantiles(values, n=4, method="inclusive")
    return f"[{low:.4g}, {high:.4g}]"
