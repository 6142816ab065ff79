"""Batches streamed through Ray Data from shards, in an order that a seed fixes and a resumed run repeats.

The order: epoch e takes the units (row groups, tar files, latent shards) in the permutation that (seed, e) draws, the
rows of unit i in the permutation that (seed, e, i) draws. That is one global sequence of rows, whatever the number of
workers; rank r of w reads the positions p with p mod w = r, and no other image is decoded. After a resume, the units
before the position are passed over without being opened, and the rows before it without being decoded.

What lies in memory: at most one unit's encoded images in each of two reading tasks, and a few hundred decoded rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataInfo, DataSpec, data_info, from_uint8
from curriculum_ray.data.shards import Unit, open_unit, read_rows, scan
from curriculum_ray.data.summary import quiet
from curriculum_ray.splitmix import mix

__all__ = ["StreamedBatches", "open_batches", "stream_order", "train_datasets"]

_CHUNK = 256
# What Ray Data writes behind the message of an error in a task, on the line that a ConfigError is.
_ATTEMPTS = re.compile(r"\s+Failed to [^.]* after \d+/\d+ attempts \(")
_READERS = 2
_OBJECT_STORE = 1 << 30
"""Bytes of Ray's object store that one worker's stream may fill."""
_DATASET = "units"


def train_datasets(spec: DataSpec) -> dict[str, Any]:
    """The `datasets` of a TorchTrainer: for a stream the table of its units, which every worker gets whole."""
    if not spec.streamed:
        return {}
    import ray.data

    rows = [
        {"index": index, "path": unit.path, "group": unit.group, "rows": unit.rows}
        for index, unit in enumerate(scan(spec).units)
    ]
    return {_DATASET: ray.data.from_items(rows)}


def say(names: list[str]) -> None:
    """Print which corrupt images were skipped."""
    print(f"{len(names)} corrupt images skipped: {', '.join(names)}", flush=True)


def open_batches(
    spec: DataSpec,
    seed: int,
    keep_condition: bool = True,
    on_corrupt: Callable[[list[str]], None] = say,
) -> tuple[DataInfo, StreamedBatches]:
    """In a Ray Train worker: what the stream of `spec` is, and its batches, from `get_dataset_shard`."""
    import ray.train

    table = ray.train.get_dataset_shard(_DATASET)
    assert table is not None
    rows = sorted(table.iter_rows(), key=lambda row: row["index"])
    units = [Unit(str(row["path"]), int(row["group"]), int(row["rows"])) for row in rows]
    # The driver has said what there is to say of the data.
    with quiet():
        info = data_info(spec)
    return info, StreamedBatches(spec, info, units, seed, keep_condition, on_corrupt)


def stream_order(units: list[Unit], seed: int, epoch: int) -> Iterator[tuple[int, Tensor]]:
    """The units of an epoch, and the order of the rows within each, long (rows,)."""
    order = torch.randperm(len(units), generator=torch.Generator().manual_seed(mix(seed, epoch)))
    for index in order.tolist():
        source = torch.Generator().manual_seed(mix(seed, epoch, index))
        yield index, torch.randperm(units[index].rows, generator=source)


class StreamedBatches:
    """Batches read while training; see `Batches`. A jump to another position starts the stream anew there.

    on_corrupt: hears the names of corrupt images that were skipped, each once.
    """

    def __init__(
        self,
        spec: DataSpec,
        info: DataInfo,
        units: list[Unit],
        seed: int,
        keep_condition: bool = True,
        on_corrupt: Callable[[list[str]], None] = say,
    ) -> None:
        self.spec, self.info, self.units, self.seed = spec, info, units, seed
        self.keep_condition = keep_condition and bool(info.conditioning)
        self._on_corrupt, self._skipped = on_corrupt, set[str]()
        self.count = sum(unit.rows for unit in units)
        self._position: int | None = None
        self._chunks: Iterator[tuple[Tensor, Tensor | None]] = iter(())
        self._rest: tuple[Tensor, Tensor | None] | None = None

    def next(
        self, images: int, batch_size: int, rank: int, world_size: int, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """See `Batches`."""
        if images != self._position:
            self._chunks = self._read(images, rank, world_size)
            self._rest = None
        wanted = batch_size // world_size
        items: list[Tensor] = []
        told: list[Tensor] = []
        while wanted:
            if self._rest is None:
                self._rest = next(self._chunks)
            chunk, condition = self._rest
            items.append(chunk[:wanted])
            if condition is not None:
                told.append(condition[:wanted])
            taken = len(items[-1])
            wanted -= taken
            left = None if condition is None else condition[taken:]
            self._rest = (chunk[taken:], left) if taken < len(chunk) else None
        self._position = images + batch_size
        batch = torch.cat(items).to(device)
        batch = from_uint8(batch) if batch.dtype == torch.uint8 else batch
        return batch, torch.cat(told).to(device) if told else None

    def _read(self, images: int, rank: int, world_size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Chunks of the rank's rows from global position `images` on, for ever."""
        epoch, start = divmod(images, self.count)
        while True:
            tasks = list(self._tasks(epoch, start, rank, world_size))
            for block in self._pipeline(tasks):
                names = {name for name in block["failed"][0].split("\n") if name} - self._skipped
                if names:
                    self._skipped |= names
                    self._on_corrupt(sorted(names))
                told = torch.from_numpy(block["told"].copy()) if self.keep_condition else None
                yield torch.from_numpy(block["items"].copy()), told
            epoch, start = epoch + 1, 0

    def _tasks(self, epoch: int, start: int, rank: int, world_size: int) -> Iterator[dict[str, Any]]:
        """What is to be read in an epoch from its row `start` on, in chunks of one unit's rows."""
        first = 0
        for index, order in stream_order(self.units, self.seed, epoch):
            end = first + len(order)
            if end > start:
                position = torch.arange(max(first, start), end)
                mine = order[position - first][(epoch * self.count + position) % world_size == rank]
                if len(mine):
                    yield {"unit": index, "rows": mine.tolist()}
            first = end

    def _pipeline(self, tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Read `tasks` through Ray Data, in their order; blocks of arrays."""
        import ray.data
        import ray.exceptions

        if not tasks:
            return
        reader = _Reader(self.spec, self.info, self.units)
        read = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
            # Reading waits for the disk. The workers may hold every CPU: whatever is asked for might never be free.
            reader,
            batch_size=1,
            num_cpus=0,
            concurrency=_READERS,
        )
        options = read.context.execution_options
        options.preserve_order = True
        options.resource_limits = options.resource_limits.copy(object_store_memory=_OBJECT_STORE)
        read.context.enable_progress_bars = False
        try:
            yield from read.iter_batches(batch_size=None, prefetch_batches=1)
        except ray.exceptions.RayError as error:
            # Ray wraps what a task raises in the story of the task, and gives the whole both types.
            cause: BaseException | None = error
            while isinstance(cause, ray.exceptions.RayError) or not isinstance(cause, ConfigError | None):
                cause = getattr(cause, "cause", None) or cause.__cause__
            raise (ConfigError(_ATTEMPTS.split(str(cause))[0]) if cause else error) from None


class _Reader:
    """Reads the rows of one task at a time; rows stand for tensors of any shape."""

    def __init__(self, spec: DataSpec, info: DataInfo, units: list[Unit]) -> None:
        self.spec, self.info, self.units = spec, info, units

    def __call__(self, task: dict[str, Any]) -> Iterator[dict[str, Any]]:
        import numpy

        unit, rows = self.units[int(task["unit"][0])], [int(row) for row in task["rows"][0]]
        latents = self.spec.format == "latents"
        # A file of latents is read whole at once.
        size = len(rows) if latents else _CHUNK
        fetch = None if latents else open_unit(self.spec, self.info, unit)
        for at in range(0, len(rows), size):
            items, told, failed = read_rows(self.spec, self.info, unit, rows[at : at + size], fetch)
            condition = told.numpy() if told is not None else numpy.zeros(len(items), dtype=numpy.int64)
            names = numpy.array(["\n".join(failed)] * len(items))
            yield {"items": items.numpy(), "told": condition, "failed": names}
