"""Environments with nothing but what pyproject.toml declares, made of links into the one that runs the tests."""

from __future__ import annotations

import tomllib
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = "curriculum-ray"
OURS = ("curriculum_ray", "tuning", "clusters", "tune.py")


def project() -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]


def declared(*extras: str) -> list[Requirement]:
    """What the core and these extras of the project ask for, extras that they name included."""
    table = project()
    found, waiting = [Requirement(text) for text in table["dependencies"]], list(extras)
    while waiting:
        for text in table["optional-dependencies"][waiting.pop()]:
            requirement = Requirement(text)
            if requirement.name == PROJECT:
                waiting += requirement.extras
            else:
                found.append(requirement)
    return found


def names(*extras: str) -> set[str]:
    """Canonical names of the distributions that are declared for these extras."""
    return {canonicalize_name(requirement.name) for requirement in declared(*extras)}


def _installed(*extras: str) -> set[str]:
    """Those distributions and what they need in turn, as far as it is installed here."""
    seen: set[tuple[str, str]] = set()
    waiting = declared(*extras)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            try:
                further = distribution(name).requires or ()
            except PackageNotFoundError:
                assert requirement.marker or name not in names(*extras), (
                    f"{name} is declared, but missing here"
                )
                continue
            seen.add((name, extra))
            for line in further:
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    return {name for name, _ in seen}


def make_environment(folder: Path, *extras: str) -> Path:
    """Make a virtual environment with the project, its core and these extras; its python."""
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    for name in _installed(*extras):
        files = distribution(name).files or ()
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            source = Path(str(distribution(name).locate_file(top))).resolve()
            if source.exists() and not (packages / top).exists():
                (packages / top).symlink_to(source)
    for own in OURS:
        (packages / own).symlink_to(ROOT / own)
    return folder / "bin" / "python"
