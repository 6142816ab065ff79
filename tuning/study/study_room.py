"""The room that a study would have: its slots and workers on this machine, or on the GPUs of a cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curriculum_ray.distributed.capacity import (
    Capacity,
    available_cpus,
    packs_of,
    room,
    room_line,
    slots_in,
    within_share,
    workers_in,
)

if TYPE_CHECKING:
    from tuning.study.config import StudyConfig
    from tuning.study.controls import Controls

__all__ = ["StudyRoom"]


@dataclass(frozen=True)
class StudyRoom:
    """The slots of a study, and the workers for them."""

    slots: int
    """Trials, or packs of them, at a time."""
    workers: int
    """Those that fit into the study's share of the machine or cluster."""
    in_words: str
    alone: bool
    """Whether a local Ray would be started."""
    elsewhere: bool
    """Whether other machines would train."""

    @classmethod
    def of(
        cls, config: StudyConfig, controls: Controls, gpus: float | None = None, concurrent: int | None = None
    ) -> StudyRoom:
        """gpus: those of a cluster; None for what this machine has. concurrent: trials at a time, if that is asked."""
        import torch

        resources, share = config.resources, config.share
        if gpus is None:
            here = Capacity.of({"CPU": float(available_cpus()), "GPU": float(torch.cuda.device_count())})
            workers = workers_in(resources, here, share)
            slots = room(resources, config.maximum_trials(controls), here, config.pack, share)
        else:
            workers = int(share * gpus / resources.gpus_per_worker + 1e-6)
            slots = slots_in(workers, resources)
        if concurrent is not None:
            slots = packs_of(concurrent, config.pack, share)
        alone = "RAY_ADDRESS" not in os.environ
        said = room_line(within_share(resources, slots, workers, share), slots, workers, share)
        return cls(slots, workers, said, alone, gpus is not None or not alone)
