"""Which extra of the package brings which import, for the line that a missing one ends in; standard library only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["EXTRAS", "exit_naming_the_extra", "install_command"]

EXTRAS: dict[str, tuple[str, ...]] = {
    "train": (
        *("PIL", "click", "grpc", "jinja2", "matplotlib", "mlflow", "psutil", "pyarrow", "ray", "regex"),
        *("requests", "rich", "safetensors", "sklearn", "torch_fidelity", "torchvision"),
    ),
    "search": ("cmaes", "optuna", "scipy"),
    "export": ("diffusers",),
    "text": ("transformers",),
}
"""Importable names by the extra in pyproject.toml that declares them; the core's own stand in none."""


def install_command(module: str) -> str | None:
    """The command that installs the extra with the package of `module`, a dotted name; None where no extra has it."""
    package = module.partition(".")[0]
    extra = next((name for name, packages in EXTRAS.items() if package in packages), None)
    return f"pip install 'curriculum-ray[{extra}]'" if extra else None


@contextmanager
def exit_naming_the_extra() -> Iterator[None]:
    """End the process with one line and exit code 2 where a package that belongs to an extra is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        command = install_command(package)
        if command is None:
            raise
        print(f"error: this needs the package {package}, which is not installed: {command}", file=sys.stderr)
        sys.exit(2)
