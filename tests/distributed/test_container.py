"""The CPUs and the memory that a container leaves to its processes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from curriculum_ray.config import ConfigError
from curriculum_ray.distributed import container
from curriculum_ray.distributed.capacity import available_cpus, check_resources
from curriculum_ray.distributed.head_memory import usable_bytes
from curriculum_ray.distributed.resources import ResourceSpec

GIB = 2**30
V1_QUOTA, V1_PERIOD, V1_MEMORY = (
    "cpu/cpu.cfs_quota_us",
    "cpu/cpu.cfs_period_us",
    "memory/memory.limit_in_bytes",
)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the control group's files, on a host of 64 CPUs and 256 GiB."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=256 * GIB))
    monkeypatch.setattr(container, "_ROOT", tmp_path)
    return tmp_path


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 64),
        ({"cpu.max": "400000 100000\n"}, 4),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "9600000 100000\n"}, 64),
        ({"cpu.max": "max 100000\n"}, 64),
        ({V1_QUOTA: "150000\n", V1_PERIOD: "50000\n"}, 3),
        ({V1_QUOTA: "-1\n", V1_PERIOD: "100000\n"}, 64),
        ({V1_QUOTA: "150000\n"}, 64),
    ],
)
def test_a_container_has_the_cpus_of_its_quota(host: Path, files: dict[str, str], cpus: int) -> None:
    _write(host, files)
    assert available_cpus() == cpus


def test_a_process_that_may_use_fewer_cpus_than_the_quota_has_those(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(host, {"cpu.max": "400000 100000\n"})
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 5})
    assert available_cpus() == 2


def test_runs_beyond_the_quota_of_a_container_are_refused(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    _write(host, {"cpu.max": "400000 100000\n"})
    check_resources(4, ResourceSpec())
    with pytest.raises(ConfigError, match=r"^5 CPUs are needed .* but there are 4"):
        check_resources(5, ResourceSpec())


@pytest.mark.parametrize(
    ("files", "gib"),
    [
        ({}, 256),
        ({"memory.max": f"{8 * GIB}\n"}, 8),
        ({"memory.max": "max\n"}, 256),
        ({V1_MEMORY: f"{16 * GIB}\n"}, 16),
        ({V1_MEMORY: "9223372036854771712\n"}, 256),
    ],
)
def test_a_container_has_the_memory_of_its_limit(host: Path, files: dict[str, str], gib: int) -> None:
    _write(host, files)
    assert usable_bytes() == gib * GIB
