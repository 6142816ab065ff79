"""One Ray for all tests that need it (starting it takes seconds), and one thread: small tensors gain nothing by two."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says nothing of the product on a machine that is shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
os.environ["OMP_NUM_THREADS"] = "1"


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
