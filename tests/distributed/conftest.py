"""A folder whose path is short enough for Ray's sockets."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short() -> Iterator[Path]:
    """A place for a Ray cluster's sockets and logs, removed at the end."""
    parent = Path(tempfile.mkdtemp(prefix="ray-"))
    yield parent / "ray"
    shutil.rmtree(parent, ignore_errors=True)
