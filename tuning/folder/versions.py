"""What the code is: versions of the packages that decide results, and the commit of the checkout."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["code_commit", "package_versions"]

_PACKAGES = ("curriculum-ray", "torch", "torchvision", "numpy", "ray", "optuna", "mlflow", "torch-fidelity")
_ROOT = Path(__file__).parents[2]
_GIT_SECONDS = 10.0


def package_versions() -> dict[str, str]:
    """Versions by name, of those that are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def code_commit() -> str | None:
    """The commit of the checkout that the code runs from, with "-dirty" where it has changes; None where it is none."""
    if not (_ROOT / ".git").exists():  # installed, perhaps within somebody's own repository
        return None
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
