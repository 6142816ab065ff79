"""How long a worker reads the images of a step from shards, measured on a few of them."""

from __future__ import annotations

import time

import torch

from curriculum_ray.data import DataInfo, DataSpec
from curriculum_ray.data.shard_rows import open_unit, read_rows
from curriculum_ray.data.shards import scan
from curriculum_ray.distributed.ingest import READERS

__all__ = ["seconds_to_read", "with_reading"]

_IMAGES = 64


def seconds_to_read(spec: DataSpec, info: DataInfo) -> float:
    """Seconds that one core reads and decodes an item of the stream, from a part of one of its units."""
    unit = max(scan(spec).units, key=lambda unit: unit.rows)
    start = time.perf_counter()
    if spec.format == "latents":  # a file is read whole
        read_rows(spec, info, unit, [0])
        return (time.perf_counter() - start) / unit.rows
    fetch = open_unit(spec, info, unit)
    opened = time.perf_counter()
    rows = range(min(_IMAGES, unit.rows))
    read_rows(spec.model_copy(update={"corrupt": "skip"}), info, unit, rows, fetch)
    return (opened - start) / unit.rows + (time.perf_counter() - opened) / len(rows)


def with_reading(step: float, reading: float, device: torch.device) -> float:
    """Seconds of a step of `step` seconds whose items take one core `reading` seconds.

    They are read ahead by tasks that share the CPUs of training, or work beside a GPU.
    """
    return step + reading if device.type == "cpu" else max(step, reading / READERS)
