"""The room that a study would have: its slots and workers on this machine, or on the GPUs of a cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.capacity import (
    Capacity,
    available_cpus,
    check_resources,
    packs_of,
    room,
    room_line,
    share_of,
    slots_in,
    within_share,
    workers_in,
)
from curriculum_ray.words import number_of, there_are

if TYPE_CHECKING:
    from curriculum_ray.distributed.resources import ResourceSpec
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
        """ConfigError where a cluster of so many GPUs does not hold the trials that are asked for at a time.

        gpus: those of a cluster; None for what this machine has. concurrent: trials at a time, if that is asked.
        """
        import torch

        resources, share = config.resources, config.share
        asked = None if concurrent is None else packs_of(concurrent, config.pack, share)
        alone = "RAY_ADDRESS" not in os.environ
        if gpus is None:
            here = Capacity.of({"CPU": float(available_cpus()), "GPU": float(torch.cuda.device_count())})
            workers = workers_in(resources, here, share)
            slots = asked or room(resources, config.maximum_trials(controls), here, config.pack, share)
        else:
            _check_gpus(gpus, asked or 1, resources)
            workers = share_of(_workers_on(gpus, resources), resources, share)
            slots = asked or slots_in(workers, resources)
        said = room_line(within_share(resources, slots, workers, share), slots, workers, share)
        if gpus is None and alone and not resources.use_gpu:
            said += _too_small(asked or 1, resources)
        return cls(slots, workers, said, alone, gpus is not None or not alone)


def _workers_on(gpus: float, resources: ResourceSpec) -> int:
    """How many workers so many GPUs hold."""
    return Capacity.of({"GPU": gpus}).workers({"GPU": resources.gpus_per_worker})


def _check_gpus(gpus: float, runs: int, resources: ResourceSpec) -> None:
    """Refuse what a study on a cluster of so many GPUs would refuse; see `check_resources`."""
    least, each = resources.workers[0], resources.gpus_per_worker
    many, lower = (f"{runs} at a time x ", " or --concurrent") if runs > 1 else ("", "")
    remedy = f"lower --num-workers{lower}, or raise --gpus"
    if (needed := runs * least * each) > gpus + 1e-6:
        raise ConfigError(
            f"{needed:g} GPUs are needed ({many}{number_of(least, 'worker')} x {each:g}), but {there_are(gpus)}: "
            f"{remedy}"
        )
    if (held := _workers_on(gpus, resources)) < runs * least:
        raise ConfigError(
            f"{runs * least} workers of {each:g} GPUs are needed, each on one GPU, but {number_of(gpus, 'GPU')} hold "
            f"{held}: {remedy}"
        )


def _too_small(runs: int, resources: ResourceSpec) -> str:
    """Why this machine does not hold so many runs at a time, for the end of a line; empty where it does."""
    try:
        check_resources(runs, resources)
    except ConfigError as error:
        return f"; search would not start here: {error}"
    return ""
