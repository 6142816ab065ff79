"""One Ray for all tests that need it (starting it takes seconds), and one thread: small tensors gain nothing by two."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# How long an example takes says nothing of the product on a machine that is shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
os.environ["OMP_NUM_THREADS"] = "1"
# Tests wait for Ray's workers, which would otherwise give way to the tests beside them.
os.environ.update({"RAY_worker_niceness": "0"})


# Beside those that need Ray, the files whose tests take longest.
_LONG = ("test_main_job.py", "test_every_shape.py", "test_packed.py", "test_exact.py", "test_gpu_steps.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run long files first: test processes take whole files in this order, and none is left with a long one alone.

    What is marked `gpu` is skipped where there is none.
    """
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))
    ray = {item.path for item in items if "ray_of_two" in getattr(item, "fixturenames", ())}

    def place(item: pytest.Item) -> int:
        if item.path in ray:
            return 0
        return 1 + (_LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG))

    items.sort(key=place)


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    """The GPU, for tests that are marked `gpu`."""
    return torch.device("cuda", 0)


@pytest.fixture(scope="session")
def ray_of_two() -> Iterator[None]:
    """A local Ray with room for two workers."""
    os.environ.pop("RAY_ADDRESS", None)
    # Workers import `witness` from here: what they know as `tests` may be another project's.
    here = str(Path(__file__).parent / "distributed")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    from curriculum_ray.distributed.connection import connected
    from curriculum_ray.distributed.slots import ResourceSpec

    with connected(1, ResourceSpec(num_workers=2, cpus_per_worker=0.5)):
        yield
