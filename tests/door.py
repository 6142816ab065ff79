"""`python -m tune` as a person starts it: a process of its own, with nobody's cluster or store in its environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def start_tune(
    folder: Path, *arguments: str, dropped: tuple[str, ...] = (), stderr: int = subprocess.STDOUT
) -> subprocess.Popen[str]:
    """Start it in `folder` as the head of a process group; dropped: more variables that it does not get."""
    without = {"RAY_ADDRESS", "MLFLOW_TRACKING_URI", *dropped}
    environment = {key: value for key, value in os.environ.items() if key not in without}
    return subprocess.Popen(
        [sys.executable, "-m", "tune", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
