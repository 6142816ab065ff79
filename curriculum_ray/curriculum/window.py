"""Windows of losses: collected on the device, averaged over the ranks, and read one window later.

Every K steps the K losses are all-reduced without waiting, and read at the end of the *next* window. So every
rank reads the same numbers at the same step whatever the timing, and waits only if another is a whole window behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from curriculum_ray.config import ConfigError

__all__ = ["LossWindow", "Losses", "check_exchange"]


def check_exchange(what: str, world_size: int, group: dist.ProcessGroup | None) -> None:
    """Refuse to average losses over `world_size` ranks where the process group has another number; ConfigError.

    what: the part of a schedule that reads them, for the line. group: None for the default one.
    """
    if world_size == 1:
        return
    if not (dist.is_available() and dist.is_initialized()):
        raise ConfigError(f"{what} with world_size {world_size} needs torch.distributed initialised")
    if (found := dist.get_world_size(group)) != world_size:
        which = "torch.distributed" if group is None else "process_group"
        raise ConfigError(
            f"{what} averages losses over all ranks of process_group, so world_size must be their number, {found} in "
            f"{which}, but got {world_size}"
        )


@dataclass(frozen=True)
class Losses:
    """The losses of one window's steps, averaged over the ranks."""

    stages: tuple[int, ...]
    """The stage in which each step was drawn."""
    images: tuple[int, ...]
    """Images seen after each step."""
    rows: tuple[tuple[float, ...], ...]
    """The row of each step."""

    def to_json(self) -> dict[str, Any]:
        """JSON-safe: losses that are not finite become None."""
        return {"stages": list(self.stages), "images": list(self.images), "rows": _to_json(self.rows)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Losses:
        """The inverse of `to_json`."""
        # Earlier states named one stage for the whole window.
        stages = data.get("stages", [data.get("stage")] * len(data["images"]))
        return cls(tuple(stages), tuple(data["images"]), _from_json(data["rows"]))


def _to_json(rows: tuple[tuple[float, ...], ...]) -> list[list[float | None]]:
    return [[value if math.isfinite(value) else None for value in row] for row in rows]


def _from_json(rows: list[list[float | None]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(math.nan if value is None else value for value in row) for row in rows)


class LossWindow:
    """Collects a row of `width` numbers in each of `steps` steps; the previous window may still be in flight.

    Every rank must pass the same images at the same step.
    """

    def __init__(self, steps: int, width: int, world_size: int, group: dist.ProcessGroup | None) -> None:
        self.steps, self.width, self.world_size, self.group = steps, width, world_size, group
        self._images: list[int] = []
        self._stages: list[int] = []
        # Rows of this window from a checkpoint, which have no device yet.
        self._loaded: tuple[tuple[float, ...], ...] = ()
        self._open = False
        self._pending: _Transfer | Losses | None = None
        self._device: torch.device | None = None
        self._buffers: list[Tensor] = []
        self._rows: list[list[Tensor]] = []

    @property
    def full(self) -> bool:
        """Whether the window has all of its steps."""
        return len(self._images) == self.steps

    @property
    def empty(self) -> bool:
        """Whether the window has no step yet."""
        return not self._images and not self._open

    def add(self, row: Tensor) -> None:
        """Add a part of the current step's row, shape (width,) or (); never waits for the device."""
        if row.device != self._device:
            self._move(row.device)
        target = self._rows[0][len(self._images)]
        if self._open:
            target.add_(row)
        else:
            target.copy_(row)
            self._open = True

    def close_step(self, images: int, stage: int = 0) -> None:
        """The current step's row is complete, after `images` images; it was drawn in this stage."""
        self._images.append(images)
        self._stages.append(stage)
        self._open = False

    def exchange(self) -> Losses | None:
        """Start to exchange the full window, and return the previous one; None at the first."""
        assert self.full
        before = self.collect()
        self._pending = _Transfer(self._buffers[0], self._stages, self._images, self)
        self._buffers.reverse()
        self._rows.reverse()
        self._images, self._stages = [], []
        return before

    def collect(self) -> Losses | None:
        """Wait for the window in flight, if any, and return it."""
        pending, self._pending = self._pending, None
        return pending.wait() if isinstance(pending, _Transfer) else pending

    def drop(self) -> None:
        """Forget everything collected or in flight: nothing is left to decide."""
        self.collect()
        self._images, self._stages, self._loaded, self._open = [], [], (), False

    def state_dict(self) -> dict[str, Any]:
        """JSON-safe; the same on all ranks when the current window is empty."""
        self._pending = self.collect()
        rows = self._loaded
        if self._buffers:
            count = len(self._images) + self._open
            flat = self._buffers[0][: count * self.width]
            rows = tuple(map(tuple, flat.view(count, self.width).tolist()))
        return {
            "pending": self._pending.to_json() if self._pending else None,
            "stages": list(self._stages),
            "images": list(self._images),
            "rows": _to_json(rows),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        self.collect()
        self._pending = Losses.from_json(state["pending"]) if state["pending"] else None
        self._images = list(state["images"])
        # Earlier states did not name the stages of an open window.
        self._stages = list(state.get("stages", [-1] * len(self._images)))
        self._loaded = _from_json(state["rows"])
        self._open = len(self._loaded) > len(self._images)
        self._device, self._buffers, self._rows = None, [], []

    def _move(self, device: torch.device) -> None:
        """Make the buffers on the device of the losses; a change of device keeps what is collected."""
        dtype = torch.float32 if device.type == "mps" else torch.float64
        old, size = self._buffers, self.steps * self.width + 1
        self._buffers = [torch.zeros(size, dtype=dtype, device=device) for _ in range(2)]
        self._rows = [list(buffer[:-1].view(self.steps, self.width).unbind()) for buffer in self._buffers]
        if old:
            self._pending = self.collect()
            self._buffers[0].copy_(old[0])
        for target, row in zip(self._rows[0], self._loaded, strict=False):
            target.copy_(torch.tensor(row, dtype=dtype))
        self._loaded, self._device = (), device


class _Transfer:
    """A window's sum over the ranks, in flight to the host."""

    def __init__(self, buffer: Tensor, stages: list[int], images: list[int], window: LossWindow) -> None:
        self.stages, self.images, self.window, self.host = stages, images, window, buffer
        self.work: dist.Work | None = None
        self.event: torch.cuda.Event | None = None
        # The last number lets `wait` detect ranks that have not seen equally many images. Not assigned: that would copy
        # from the host, and wait.
        buffer[-1:].fill_(images[-1])
        if buffer.device.type != "cuda":
            self.work = self._all_reduce(buffer)
            return
        # On a separate stream: neither the host nor the training stream waits for the copy.
        stream = torch.cuda.Stream(buffer.device)
        stream.wait_stream(torch.cuda.current_stream(buffer.device))
        with torch.cuda.stream(stream):
            work = self._all_reduce(buffer)
            if work is not None:
                work.wait()
            self.host = torch.empty(buffer.shape, dtype=buffer.dtype, pin_memory=True)
            self.host.copy_(buffer, non_blocking=True)
            self.event = stream.record_event()

    def _all_reduce(self, buffer: Tensor) -> dist.Work | None:
        if self.window.world_size == 1:
            return None
        return dist.all_reduce(buffer, group=self.window.group, async_op=True)

    def wait(self) -> Losses:
        """The averages over the ranks."""
        if self.work is not None:
            self.work.wait()
        if self.event is not None:
            self.event.synchronize()
        ranks, width = self.window.world_size, self.window.width
        values = [value / ranks for value in self.host.tolist()]
        if ranks > 1 and values[-1] != self.images[-1]:
            raise RuntimeError(
                f"all ranks must see equally many images, but this one saw {self.images[-1]} "
                f"where the mean is {values[-1]}: drop the last batch where it is smaller"
            )
        rows = tuple(tuple(values[i : i + width]) for i in range(0, len(values) - 1, width))
        return Losses(tuple(self.stages), tuple(self.images), rows)
