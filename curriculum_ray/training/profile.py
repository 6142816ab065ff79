"""Runs of which some steps are recorded by torch's profiler, as a trace for Perfetto or chrome://tracing."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from curriculum_ray.training.lockstep import Lockstep
from curriculum_ray.training.profile_spec import ProfiledSteps
from curriculum_ray.training.trainer import Trainer

__all__ = ["Profiled", "trace_name"]


_LOG = logging.getLogger(__name__)


def trace_name(images: int) -> str:
    """The file name of a trace that ends after so many images."""
    return f"trace-{images:012d}.json.gz"


class Profiled(Lockstep):
    """Records `wanted` steps, which are the same as without, into the folder `folder`; on a full disk, none."""

    def __init__(self, members: Sequence[Trainer], wanted: ProfiledSteps, folder: Path) -> None:
        super().__init__(members)
        self._folder, self._wanted = folder, wanted
        device = self.members[0].world.device
        # Its messages, on stderr, begin with STAGE or USDT, and without a GPU there is an error for want of one.
        os.environ.setdefault("KINETO_LOG_LEVEL", "4" if device.type == "cuda" else "6")
        activities = [torch.profiler.ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        # The first step after the profiler has begun is slow, and is thrown away.
        warmup = min(wanted.start - 1, 1)
        self._profiler: torch.profiler.profile | None = torch.profiler.profile(
            activities=activities,
            schedule=torch.profiler.schedule(
                wait=wanted.start - 1 - warmup, warmup=warmup, active=wanted.steps, repeat=1
            ),
            on_trace_ready=self._write,
            acc_events=True,
        )
        self._steps = 0

    def step(self) -> None:
        """One optimiser step of every active member."""
        if self._profiler is not None and not self._steps:
            self._profiler.start()
        super().step()
        self._steps += 1
        if self._profiler is not None:
            self._profiler.step()
            if self._steps == self._wanted.last:
                self.close()

    def close(self) -> None:
        """End the profiler; a run that ended too early has no trace."""
        if self._profiler is None:
            return
        if self._steps > 0:
            self._profiler.stop()
        self._profiler = None
        if self._steps < self._wanted.last:
            _LOG.warning("no profile was written: there were only %d steps left", self._steps)

    def _write(self, profiler: torch.profiler.profile) -> None:
        if self._steps < self._wanted.last:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            profiler.export_chrome_trace(str(self._folder / trace_name(self.members[0].images)))
        except OSError as error:
            _LOG.warning("the profile was not written: %s", error.strerror)
