"""How the shell that started this process starts the program again; standard library only."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["console_script", "tune_command", "typed"]

console_script = "curriculum-ray"


def tune_command(*words: object) -> str:
    """The line that runs `tune WORDS` with this Python from this folder, quoted for a shell where it needs to be."""
    return shlex.join([*_program(), *map(str, words)])


def _program() -> list[str]:
    called = Path(sys.argv[0])
    if called.name == console_script:
        return [console_script if _on_path(console_script, str(called)) else str(called)]
    names = (name for name in ("python", "python3") if _on_path(name, sys.executable))
    return [next(names, typed(Path(sys.executable))), "-m", "tune"]


def _on_path(name: str, program: str) -> bool:
    """Whether the shell finds this very program under `name`; links count as what they are: those of a venv differ."""
    found = shutil.which(name)
    return found is not None and os.path.abspath(found) == os.path.abspath(program)


def typed(path: Path) -> str:
    """The path as a person would type it: relative where it lies below the current folder."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
