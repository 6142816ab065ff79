"""Fetches the next batch while the current one trains; pins it and copies it on a side stream on a GPU."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from curriculum_ray.data import Batches

__all__ = ["Prefetched"]

Batch = tuple[Tensor, Tensor | None]


class Prefetched:
    """Wraps any `Batches` and prefetches one batch; the batches are the same, in the same order.

    A batch is a function of its position in the stream, so a resume at another position is no special case. An error of
    the source is raised by the `next` that returns its batch.
    """

    def __init__(self, source: Batches, total_images: int) -> None:
        self._source, self._total = source, total_images
        self._pool = ThreadPoolExecutor(1, "prefetch")
        self._stream: torch.cuda.Stream | None = None
        self._ahead: tuple[tuple[int, int, int, int, torch.device], Future[Batch]] | None = None

    def next(self, images: int, batch_size: int, rank: int, world_size: int, device: torch.device) -> Batch:
        """See `Batches`."""
        wanted = (images, batch_size, rank, world_size, device)
        if self._ahead is None or self._ahead[0] != wanted:
            self._ahead = (wanted, self._pool.submit(self._fetch, *wanted))
        items, condition = self._ahead[1].result()
        self._ahead = None
        if images + batch_size < self._total:
            after = (images + batch_size, batch_size, rank, world_size, device)
            self._ahead = (after, self._pool.submit(self._fetch, *after))
        if self._stream is not None:
            # The copy is complete; its memory must not be reused before the step that reads it has ended.
            present = torch.cuda.current_stream(device)
            for tensor in (items, condition):
                if tensor is not None:
                    tensor.record_stream(present)
        return items, condition

    def _fetch(self, images: int, batch_size: int, rank: int, world_size: int, device: torch.device) -> Batch:
        if device.type != "cuda":
            return self._source.next(images, batch_size, rank, world_size, device)
        cpu = torch.device("cpu")
        items, condition = self._source.next(images, batch_size, rank, world_size, cpu)
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)
        with torch.cuda.stream(self._stream):
            here = items.pin_memory().to(device, non_blocking=True)
            condition = None if condition is None else condition.pin_memory().to(device, non_blocking=True)
            self._stream.synchronize()
        return here, condition

    def close(self) -> None:
        """Drop the batch in flight and end the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)
