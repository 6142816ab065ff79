"""The resources of one run, as settings and as Ray's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches

from pydantic import Field, model_validator

from curriculum_ray.config import Spec
from curriculum_ray.words import number_of

__all__ = ["ACCELERATOR", "ResourceSpec"]

ACCELERATOR = "accelerator_type:"
"""How the names of Ray's resources for types of accelerator begin."""

# As Ray asks for it where a task has an `accelerator_type`.
_SOME = 0.001


class ResourceSpec(Spec):
    """The resources of one run."""

    num_workers: int | tuple[int, int] = 1
    """Ray Train workers (DDP ranks) of one run, or the fewest and the most of a run that adapts to the cluster."""
    resize_seconds: float | None = Field(default=None, gt=0)
    """How often a run looks for room for more workers, where num_workers is a range; null for Ray's 60 seconds."""
    use_gpu: bool = False
    """Whether each worker gets a GPU."""
    cpus_per_worker: float = Field(default=1.0, gt=0)
    """CPUs that Ray reserves for each worker."""
    gpus_per_worker: float = Field(default=1.0, gt=0)
    """GPUs of each worker where use_gpu is on; a fraction shares one among runs."""
    accelerator_type: str | None = None
    """Ray's name of the type of GPU that every worker gets, e.g. A100, so that paired arms run on one kind; null for
    any."""
    isolate: bool = False
    """Whether every run gets fresh worker processes, which takes seconds, instead of those of the previous run."""

    leak_gib: float | None = Field(default=None, gt=0)
    """GiB that a worker may hold in addition to those held after its first run, before it is replaced; null for 2."""

    @model_validator(mode="after")
    def _a_range_of_workers(self) -> ResourceSpec:
        least, most = self.workers
        if not 1 <= least <= most:
            raise ValueError(f"num_workers must be 1 or more, or a range of such, but got {self.num_workers}")
        if self.resize_seconds is not None and least == most:
            raise ValueError("resize_seconds applies to a range of num_workers only")
        return self

    @model_validator(mode="after")
    def _a_known_accelerator(self) -> ResourceSpec:
        name = self.accelerator_type
        if name is None:
            return self
        if not self.use_gpu:
            raise ValueError(
                f"accelerator_type chooses among GPUs, but use_gpu is off and accelerator_type {name}"
            )
        known = _accelerators()
        if name not in known:
            raise ValueError(
                f"accelerator_type must be one of Ray's names for a type of GPU, but got {name}{_meant(name, known)}"
            )
        return self

    @model_validator(mode="after")
    def _a_share_of_a_gpu_that_there_is(self) -> ResourceSpec:
        if not self.use_gpu and self.gpus_per_worker != type(self).model_fields["gpus_per_worker"].default:
            raise ValueError(
                "gpus_per_worker is for workers with GPUs, but use_gpu is off and gpus_per_worker "
                f"{self.gpus_per_worker:g}"
            )
        return self

    @model_validator(mode="after")
    def _leaks_where_processes_live_on(self) -> ResourceSpec:
        if self.isolate and self.leak_gib is not None:
            raise ValueError(
                "leak_gib is for workers that serve one run after another, but isolate is on and leak_gib "
                f"{self.leak_gib:g}"
            )
        return self

    @property
    def workers(self) -> tuple[int, int]:
        """The fewest and the most workers of one run."""
        return (
            self.num_workers if isinstance(self.num_workers, tuple) else (self.num_workers, self.num_workers)
        )

    @property
    def pieces(self) -> int:
        """The pieces of a batch that every number of workers of a range can share evenly; 0 without a range."""
        least, most = self.workers
        return 0 if least == most else math.lcm(*range(least, most + 1))

    def with_most(self, most: int) -> ResourceSpec:
        """The same with at most so many workers for a run."""
        least, before = self.workers
        return self.model_copy(
            update={
                "num_workers": least if most == least else (least, min(most, before)),
                "resize_seconds": None if most == least else self.resize_seconds,
            }
        )

    def missing(self, free: Mapping[str, float]) -> str | None:
        """What a run waits for where others use a cluster: "1 of 2 CPUs"; None where its fewest workers fit.

        free: amounts of Ray's resources that nobody uses, e.g. {"CPU": 1.0}.
        """
        for kind, each in self.per_worker.items():
            needed, there = self.workers[0] * each, free.get(kind, 0.0)
            if there < needed - 1e-6:
                return f"{needed - there:g} of {number_of(needed, kind)}"
        return None

    def starting_line(self, runs: int = 1) -> str:
        """What a person waits for until the first of `runs` runs at a time begins."""
        least, most = (runs * count for count in self.workers)
        count = f"{least}" if least == most else f"{least} to {most}"
        return f"starting {number_of(count, 'worker')}"

    @property
    def per_worker(self) -> dict[str, float]:
        """Ray's resources for one worker."""
        resources = {"CPU": self.cpus_per_worker}
        if self.use_gpu:
            resources["GPU"] = self.gpus_per_worker
        if self.accelerator_type is not None:
            resources[f"{ACCELERATOR}{self.accelerator_type}"] = _SOME
        return resources

    @property
    def bundles(self) -> list[dict[str, float]]:
        """Ray's resources for each of the fewest workers of a run."""
        return [self.per_worker for _ in range(self.workers[0])]

    def in_words(self) -> str:
        """What one worker gets: "8 CPUs, 1 GPU of type A100"."""
        parts = [number_of(self.cpus_per_worker, "CPU")]
        if self.use_gpu:
            parts.append(f"{self.gpus_per_worker:g} GPU{'' if self.gpus_per_worker <= 1 else 's'}")
        of_type = "" if self.accelerator_type is None else f" of type {self.accelerator_type}"
        return f"{', '.join(parts)}{of_type}"


def _accelerators() -> list[str]:
    """Ray's names for types of GPU, sorted."""
    from ray.util.accelerators import accelerators

    makers = ("NVIDIA_", "AMD_", "INTEL_MAX_")
    return sorted({value for name, value in vars(accelerators).items() if name.startswith(makers)})


def _meant(name: str, known: list[str]) -> str:
    """What to say after an unknown name: "; did you mean A100?", else all names."""
    folded = {each.casefold(): each for each in known}
    words = name.casefold().replace("_", "-").replace(" ", "-").split("-")
    found = [folded[word] for word in words if word in folded]
    found += [folded[each] for each in get_close_matches(name.casefold(), list(folded), 1, 0.6)]
    return f"; did you mean {found[0]}?" if found else f" (known: {', '.join(known)})"
