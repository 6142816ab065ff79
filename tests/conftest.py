"""One Ray for all tests that need it (starting it takes seconds), and one thread: small tensors gain nothing by two."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# How long an example takes says nothing of the product on a machine that is shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# For this process, whose torch has read the variable, and for those that it starts.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
# Tests wait for Ray's workers, which would otherwise give way to the tests beside them. No test starts a Ray unawares.
os.environ.update({"RAY_worker_niceness": "0", "RAY_ENABLE_AUTO_CONNECT": "0"})
# Tests send Ctrl-C, which a shell without job control has its background commands ignore, and these their own.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# A full collection looks at all that thousands of modules have made, again and again while they are imported.
gc.set_threshold(50_000, 50, 100)

_TESTS = Path(__file__).parent
# As in the Makefile.
_RAY = ("distributed/", "tuning/test_main_job.py")
# Files that start a Ray of their own.
_OWN_RAY = ("test_main_job.py", "test_faults.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs Ray; skip what is marked `gpu` where there is none; give slow tests time on a busy machine."""
    has_gpu = torch.cuda.is_available()
    for item in items:
        if item.get_closest_marker("gpu") and not has_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1200))
        if "ray_of_two" in getattr(item, "fixturenames", ()) or item.path.name in _OWN_RAY:
            item.add_marker("ray")
            if not (item.get_closest_marker("slow") or str(item.path.relative_to(_TESTS)).startswith(_RAY)):
                raise pytest.UsageError(
                    f"{item.nodeid} needs Ray: add its folder to RAY_TESTS in the Makefile"
                )


def pytest_collection_finish() -> None:
    """What has been imported stays, and is not looked at again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    """The GPU, for tests that are marked `gpu`."""
    return torch.device("cuda", 0)


class SharedRay:
    """The tests' Ray, with room for two workers: started for the first test that needs it, and kept for the others."""

    def __init__(self) -> None:
        self._open: ExitStack | None = None

    def start(self) -> None:
        if self._open is not None:
            return
        os.environ.pop("RAY_ADDRESS", None)
        from curriculum_ray.distributed.connection import connected
        from curriculum_ray.distributed.resources import ResourceSpec

        self._open = ExitStack()
        self._open.enter_context(connected(1, ResourceSpec(num_workers=2, cpus_per_worker=0.5)))

    def stop(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[SharedRay]:
    # Workers import `witness` from here: what they know as `tests` may be another project's.
    here = str(Path(__file__).parent / "distributed")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    shared = SharedRay()
    yield shared
    shared.stop()


@pytest.fixture(scope="module")
def ray_of_two(shared_ray: SharedRay) -> None:
    """The tests' Ray."""
    shared_ray.start()


@pytest.fixture(scope="module")
def own_ray(shared_ray: SharedRay) -> None:
    """For tests of what connects to Ray itself: the tests' Ray has ended."""
    shared_ray.stop()
