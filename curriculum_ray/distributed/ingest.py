"""Batches streamed from shards through Ray Data, in an order that depends only on the seed.

Order: epoch e takes the units (row groups, tar files, latent shards) in a permutation drawn from (seed, e),
and the rows of unit i in one drawn from (seed, e, i). This is one global sequence of rows for any number of
workers; rank r of w reads the positions p with p mod w = r, and decodes no other image. Held-out rows are left out of
it. After a resume, units before the position are skipped without being opened, and rows before it without being
decoded.

Memory: at most the encoded images of one unit in each of two reading processes, a few hundred decoded rows, and a plan
of what is read next, which holds some thousand units or million rows, however large an epoch is. What is kept in
memory, i.e. held-out items and the reference of an evaluation, is read once by the driver. The workers of a node share
one copy in Ray's object store, and do not scan the shards again.
"""

from __future__ import annotations

import logging
import math
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from curriculum_ray.buckets.store import BucketError
from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataInfo, Dataset, DataSpec, from_uint8
from curriculum_ray.data.chosen_rows import NO_ROWS, ChosenRows
from curriculum_ray.data.headers import Unit
from curriculum_ray.data.shard_rows import open_unit, read_rows
from curriculum_ray.data.shards import Scan
from curriculum_ray.distributed.outages import storage_error
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.prepared import adopt_stream, cached_stream, stream_key
from curriculum_ray.splitmix import mix

__all__ = [
    "READERS",
    "SharedItems",
    "SharedStream",
    "StreamedBatches",
    "open_batches",
    "share_stream",
    "stream_order",
    "take_stream",
]

_LOG = logging.getLogger(__name__)

_CHUNK, _CHUNK_BYTES = 256, 32 << 20
"""The most rows, and bytes, that are sent at a time."""
_ENOUGH = (1_024, 1 << 20)
"""Reads, or rows, from which on a plan ends with the epoch: of small data, it is of many epochs at once."""
_MOST = (8_192, 1 << 22)
"""Reads, or rows, after which a plan ends within an epoch; 8 bytes a row."""
# Ray Data appends this to the message of an error in a task, to that of a ConfigError on the same line.
_ATTEMPTS = re.compile(r"\s+Failed to [^.]* after \d+/\d+ attempts \(")
READERS = 2
"""Processes of a worker that read shards at a time."""
_OBJECT_STORE = 1 << 29
"""Bytes of Ray's object store that one worker's stream may fill."""
_PAUSE_S = 0.05
"""Between two looks at the readers."""


@dataclass(frozen=True)
class SharedItems:
    """Items in Ray's object store, as arrays, which processes of one node share without a copy, unlike tensors."""

    name: str
    stored: Any
    """An array of NumPy, as `Dataset.stored`."""
    condition: Any
    """An array, or None."""
    class_names: tuple[str, ...]
    vocabulary: tuple[str, ...]

    @classmethod
    def of(cls, items: Dataset | None) -> SharedItems | None:
        """Those of `items`."""
        if items is None:
            return None
        condition = None if items.condition is None else items.condition.numpy()
        return cls(items.name, items.stored.numpy(), condition, items.class_names, items.vocabulary)

    def taken(self) -> Dataset:
        """The items as a data set, whose tensors must not be written to."""
        condition = None if self.condition is None else _tensor(self.condition)
        return Dataset(self.name, _tensor(self.stored), condition, self.class_names, self.vocabulary)


@dataclass(frozen=True)
class SharedStream:
    """A stream in Ray's object store: what the driver found in its shards, and the items that are kept in memory."""

    key: tuple[str, int]
    """See `stream_key`."""
    found: Scan
    """Its metadata is without items."""
    heldout: SharedItems | None
    reference: SharedItems | None


def share_stream(config: RunConfig) -> Any:
    """Put the stream of `config` into Ray's object store, for `take_stream`; None where its data are not streamed."""
    if not config.data.streamed:
        return None
    import ray

    found = cached_stream(config.data, config.evaluation)
    bare = replace(found, info=replace(found.info, heldout=None, reference=None))
    heldout, reference = SharedItems.of(found.info.heldout), SharedItems.of(found.info.reference)
    return ray.put(SharedStream(stream_key(config.data, config.evaluation), bare, heldout, reference))


def take_stream(shared: Any) -> None:
    """Take in a worker what `share_stream` returned, so that its jobs read no shards before they train."""
    if shared is None:
        return
    import ray

    stream: SharedStream = ray.get(shared)
    info = replace(
        stream.found.info,
        heldout=None if stream.heldout is None else stream.heldout.taken(),
        reference=None if stream.reference is None else stream.reference.taken(),
    )
    adopt_stream(stream.key, replace(stream.found, info=info))


def _tensor(array: Any) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def log_skipped(names: list[str]) -> None:
    """Log which corrupt images were skipped."""
    _LOG.warning("%d corrupt images skipped: %s", len(names), ", ".join(names))


def open_batches(
    config: RunConfig,
    keep_condition: bool = True,
    on_corrupt: Callable[[list[str]], None] = log_skipped,
) -> tuple[DataInfo, StreamedBatches]:
    """Open the stream of `config` in a worker: its metadata, with the items in memory, and its batches."""
    found = cached_stream(config.data, config.evaluation)
    return found.info, StreamedBatches(config.data, found, config.seed, keep_condition, on_corrupt)


def stream_order(
    units: Sequence[Unit], seed: int, epoch: int, without: ChosenRows = NO_ROWS
) -> Iterator[tuple[int, Tensor]]:
    """Iterate over the units of an epoch, each with the order of its rows, long (rows,).

    without: rows that are left out; the others keep their order.
    """
    order = torch.randperm(len(units), generator=torch.Generator().manual_seed(mix(seed, epoch)))
    for index in order.tolist():
        source = torch.Generator().manual_seed(mix(seed, epoch, index))
        rows = torch.randperm(units[index].rows, generator=source)
        out = without.of(index)
        yield index, rows[~torch.isin(rows, torch.tensor(out))] if out else rows


class StreamedBatches:
    """Batches read during training; see `Batches`. A jump to another position restarts the stream there.

    on_corrupt: called with the names of corrupt images that were skipped, once per image.
    """

    def __init__(
        self,
        spec: DataSpec,
        found: Scan,
        seed: int,
        keep_condition: bool = True,
        on_corrupt: Callable[[list[str]], None] = log_skipped,
    ) -> None:
        self.spec, self.info, self.units, self.seed = spec, found.info, found.units, seed
        self.reserved = found.reserved
        self.keep_condition = keep_condition and bool(found.info.conditioning)
        self._on_corrupt, self._skipped = on_corrupt, set[str]()
        self.count = sum(unit.rows for unit in found.units) - len(found.reserved)
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
        conditions: list[Tensor] = []
        while wanted:
            if self._rest is None:
                self._rest = next(self._chunks)
            chunk, condition = self._rest
            items.append(chunk[:wanted])
            if condition is not None:
                conditions.append(condition[:wanted])
            taken = len(items[-1])
            wanted -= taken
            left = None if condition is None else condition[taken:]
            self._rest = (chunk[taken:], left) if taken < len(chunk) else None
        self._position = images + batch_size
        batch = torch.cat(items).to(device)
        batch = from_uint8(batch) if batch.dtype == torch.uint8 else batch
        return batch, torch.cat(conditions).to(device) if conditions else None

    def _read(self, images: int, rank: int, world_size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Read chunks of the rank's rows from global position `images`, endlessly."""
        for tasks in self._plans(images, rank, world_size):
            for block in self._pipeline(tasks):
                names = {name for name in block["failed"][0].split("\n") if name} - self._skipped
                if names:
                    self._skipped |= names
                    self._on_corrupt(sorted(names))
                condition = torch.from_numpy(block["condition"].copy()) if self.keep_condition else None
                yield torch.from_numpy(block["items"].copy()), condition

    def _plans(self, images: int, rank: int, world_size: int) -> Iterator[list[dict[str, Any]]]:
        """Iterate over what one pipeline reads at a time, from global position `images`, endlessly.

        Each pipeline starts processes, which takes seconds, and keeps its whole plan in memory.
        """
        epoch, start = divmod(images, self.count)
        tasks: list[dict[str, Any]] = []
        rows = 0
        while True:
            for task in self._tasks(epoch, start, rank, world_size):
                tasks.append(task)
                rows += len(task["rows"])
                if len(tasks) >= _MOST[0] or rows >= _MOST[1]:
                    yield tasks
                    tasks, rows = [], 0
            if len(tasks) >= _ENOUGH[0] or rows >= _ENOUGH[1]:
                yield tasks
                tasks, rows = [], 0
            epoch, start = epoch + 1, 0

    def _tasks(self, epoch: int, start: int, rank: int, world_size: int) -> Iterator[dict[str, Any]]:
        """Iterate over the reads of an epoch from its row `start`, one per unit; "rows" is an array of int64."""
        first = 0
        for index, order in stream_order(self.units, self.seed, epoch, self.reserved):
            end = first + len(order)
            if end > start:
                position = torch.arange(max(first, start), end)
                mine = order[position - first][(epoch * self.count + position) % world_size == rank]
                if len(mine):
                    yield {"unit": index, "rows": mine.numpy()}
            first = end

    def _pipeline(self, tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Read `tasks` through Ray Data, in order; yields blocks of arrays."""
        import ray.data
        import ray.exceptions

        # As bytes: Python's own numbers take five times the memory, and arrays of each length are a type of their own.
        planned = ray.data.from_items(
            [{**task, "rows": task["rows"].tobytes()} for task in tasks], override_num_blocks=len(tasks)
        )
        read = planned.map_batches(
            # Actors: Ray ends an idle process of a task after a second where there are more than CPUs, and the next
            # task would wait for another. Reads wait for the disk, and the training workers may hold every CPU: a
            # request might never be met.
            _Reader,
            fn_constructor_args=(self.spec, self.info, self.units, self.reserved),
            batch_size=1,
            num_cpus=0,
            concurrency=READERS,
        )
        options = read.context.execution_options
        options.preserve_order = True
        options.resource_limits = options.resource_limits.copy(object_store_memory=_OBJECT_STORE)
        read.context.enable_progress_bars = False
        read.context.custom_execution_callback_classes = [_Pause]
        try:
            yield from read.iter_batches(batch_size=None, prefetch_batches=1)
        except ray.exceptions.RayError as error:
            # Ray wraps an error of a task in a traceback, with a type derived from both.
            cause: BaseException | None = error
            while isinstance(cause, ray.exceptions.RayError) or not isinstance(
                cause, ConfigError | OSError | None
            ):
                cause = getattr(cause, "cause", None) or cause.__cause__
            if isinstance(cause, ConfigError):
                cause = ConfigError(_ATTEMPTS.split(str(cause))[0])
            if isinstance(cause, BucketError):
                cause = BucketError(_ATTEMPTS.split(str(cause))[0], cause.reason)
            raise (cause or error) from None


class _Pause:
    """Lets training go on between two looks of Ray Data at the readers.

    It looks from a thread of the training process, and does not wait where every reader has something ready, which is
    whenever reading is faster than training: it would keep a core busy, and Python's lock from training.
    """

    def on_execution_step(self, executor: Any) -> None:
        """Called after each look."""
        time.sleep(_PAUSE_S)

    def before_execution_starts(self, executor: Any) -> None:
        """Called before the first."""

    def after_execution_succeeds(self, executor: Any) -> None:
        """Called after the last."""

    def after_execution_fails(self, executor: Any, error: Exception) -> None:
        """Called after an error."""


class _Reader:
    """Reads the rows of one task at a time."""

    def __init__(
        self, spec: DataSpec, info: DataInfo, units: Sequence[Unit], reserved: ChosenRows = NO_ROWS
    ) -> None:
        # The items in memory are not sent to the tasks.
        self.info = replace(info, heldout=None, reference=None)
        self.spec, self.units, self.reserved = spec, units, reserved

    def __call__(self, task: dict[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            yield from self._read(task)
        except ConfigError as error:
            raise storage_error(error) or error from None

    def _read(self, task: dict[str, Any]) -> Iterator[dict[str, Any]]:
        import numpy

        index, rows = int(task["unit"][0]), numpy.frombuffer(task["rows"][0], numpy.int64).tolist()
        unit, reserved = self.units[index], self.reserved.of(index)
        latents = self.spec.format == "latents"
        # A file of latents is read whole.
        size = len(rows) if latents else max(1, min(_CHUNK, _CHUNK_BYTES // math.prod(self.info.shape)))
        fetch = None if latents else open_unit(self.spec, self.info, unit)
        for at in range(0, len(rows), size):
            items, stored, failed = read_rows(
                self.spec, self.info, unit, rows[at : at + size], fetch, reserved
            )
            condition = stored.numpy() if stored is not None else numpy.zeros(len(items), dtype=numpy.int64)
            names = numpy.array(["\n".join(failed)] * len(items))
            yield {"items": items.numpy(), "condition": condition, "failed": names}
