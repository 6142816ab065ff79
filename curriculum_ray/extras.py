"""Which extra of the package brings which import, for the line that a missing one ends in; standard library only."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from curriculum_ray.shell import typed

__all__ = ["EXTRAS", "exit_saying_what_is_missing", "install_command"]

EXTRAS: dict[str, tuple[str, ...]] = {
    "train": (
        *(
            "PIL",
            "click",
            "fsspec",
            "grpc",
            "jinja2",
            "matplotlib",
            "mlflow",
            "psutil",
            "pyarrow",
            "ray",
            "regex",
        ),
        *("rich", "safetensors", "sklearn", "threadpoolctl", "torch_fidelity", "torchvision"),
    ),
    "search": ("cmaes", "optuna", "scipy"),
    "export": ("diffusers",),
    "text": ("transformers",),
    "lora": ("peft",),
}
"""Importable names by the extra in pyproject.toml that declares them; the core's own stand in none."""


def install_command(module: str) -> str | None:
    """The command that installs the extra with the package of `module`, a dotted name; None where no extra has it."""
    package = module.partition(".")[0]
    extra = next((name for name, packages in EXTRAS.items() if package in packages), None)
    return f"pip install 'curriculum-ray[{extra}]'" if extra else None


@contextmanager
def exit_saying_what_is_missing(module: str, words: Sequence[str], root: Path) -> Iterator[None]:
    """End the process with one line, which says what to type, and exit code 2 where a package is not installed.

    module: what the command is run by, e.g. "tune". words: its arguments. root: the folder of the program, which is a
    clone where it holds a Makefile: the environment that `make setup` makes there has everything.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "curriculum_ray", "tuning", "clusters"):
            raise
        advice = _advice(module, words, root, install_command(package))
        print(f"error: this Python has no package {package}: type {advice}", file=sys.stderr)
        sys.exit(2)


def _advice(module: str, words: Sequence[str], root: Path, install: str | None) -> str:
    if not (root / "Makefile").exists():
        return install or "pip install --force-reinstall curriculum-ray"
    python = root / ".venv" / "bin" / "python"
    command = shlex.join([typed(python), "-m", module, *words])
    if python.exists() and os.path.abspath(python) != os.path.abspath(sys.executable):
        return command
    here = [] if root == Path.cwd() else ["-C", typed(root)]
    return f"{shlex.join(['make', *here, 'setup'])} && {command}"
