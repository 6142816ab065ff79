"""What tests of faults share: a folder whose path is short enough for Ray's sockets, and what nothing disturbed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributed.nodes import state, train


@pytest.fixture
def short() -> Iterator[Path]:
    """A place for a Ray cluster's sockets and logs, removed at the end."""
    parent = Path(tempfile.mkdtemp(prefix="ray-"))
    yield parent / "ray"
    shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The state at the end of a run of two workers that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = train(folder, {**environment, "OMP_NUM_THREADS": "1"}, "2")
    assert command.end() == 0, command.lines
    found = state(folder / "runs" / "run")
    assert len(found["stage_starts"]) == 3, "the test needs a run that changes stage"
    return found
