"""What a study was trained with: environment.json in its folder holds the versions and the hardware of each start."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pydantic

from curriculum_ray.config import ConfigError
from curriculum_ray.config.stored import Stored
from curriculum_ray.distributed.capacity import available_cpus
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.files import replace_file
from tuning.folder.layout import ENVIRONMENT_FILE
from tuning.folder.versions import code_commit, package_versions

__all__ = ["Environment", "Environments", "note_environment", "this_environment"]


class Environment(pydantic.BaseModel):
    """The driver's machine and its packages, and the resources of each trial; of a cluster, only the driver's."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    python: str
    packages: dict[str, str]
    """Versions by name, of those that are installed."""
    commit: str | None
    """Of the checkout that the code ran from, with "-dirty" where it had changes; None where there was none."""
    platform: str
    processor: str
    vector_instructions: str
    """Those that torch uses, e.g. AVX512."""
    threads: str | None
    """OMP_NUM_THREADS; without it, Ray gives each worker as many threads as CPUs."""
    cpus: int
    gpus: tuple[str, ...]
    """Names of the GPUs, where trials use them."""
    resources: ResourceSpec
    """Of each trial."""
    pack: int
    """Trials that one worker trained at a time."""
    asked: dict[str, Any]
    """Settings of the start that determine no trial, such as the number of trials."""

    def differences(self, other: Environment) -> list[str]:
        """What differs from `self` to `other`, one line each: "torch 2.15.0 -> 2.16.0"."""
        return [
            f"{name} {before or 'none'} -> {after or 'none'}"
            for (name, before), (_, after) in zip(
                self._lines(other.packages), other._lines(self.packages), strict=True
            )
            if before != after
        ]

    def _lines(self, also: Iterable[str]) -> Iterator[tuple[str, str | None]]:
        yield "python", self.python
        for name in sorted({*self.packages, *also}):
            yield name, self.packages.get(name)
        yield "commit", self.commit
        yield "platform", self.platform
        yield "processor", self.processor
        yield "vector instructions", self.vector_instructions
        yield "OMP_NUM_THREADS", self.threads
        yield "GPUs", ", ".join(self.gpus)
        yield "workers of a trial", "-".join(str(count) for count in dict.fromkeys(self.resources.workers))
        yield "CPUs of a worker", f"{self.resources.cpus_per_worker:g}"
        yield "trials in a pack", str(self.pack)


class Environments(Stored):
    """Contents of environment.json."""

    starts: tuple[Environment, ...] = ()
    """In the order of the study's starts; one that is like the one before is left out."""

    @property
    def asked(self) -> Mapping[str, Any]:
        """What the last start asked for; see `Environment.asked`."""
        return self.starts[-1].asked if self.starts else {}

    @property
    def margin(self) -> float | None:
        """The margin of practical equivalence that the last start asked for; None where that is not known."""
        found = self.asked.get("margin")
        return found if isinstance(found, float) else None


def this_environment(
    resources: ResourceSpec, pack: int = 1, asked: Mapping[str, Any] | None = None
) -> Environment:
    """What a trial with these resources would be trained with now."""
    import torch

    gpus = range(torch.cuda.device_count()) if resources.use_gpu else ()
    return Environment(
        python=platform.python_version(),
        packages=package_versions(),
        commit=code_commit(),
        platform=platform.platform(),
        processor=_processor(),
        vector_instructions=torch.backends.cpu.get_cpu_capability(),
        threads=os.environ.get("OMP_NUM_THREADS"),
        cpus=available_cpus(),
        gpus=tuple(torch.cuda.get_device_name(index) for index in gpus),
        resources=resources,
        pack=pack,
        asked=dict(asked or {}),
    )


def note_environment(folder: Path, now: Environment) -> None:
    """Add `now` to the environments of the study in `folder`, where it differs from the last one."""
    path = folder / ENVIRONMENT_FILE
    before = Environments.read(path) or Environments()
    if before.starts and before.starts[-1] == now:
        return
    try:
        replace_file(path, json.dumps(Environments(starts=(*before.starts, now)).to_json(), indent=1))
    except OSError as error:
        raise ConfigError(f"--output {folder} cannot be written: {error.strerror}") from None


def _processor() -> str:
    """The processor's name as Linux has it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
