"""The door of `python -m tune`."""

from __future__ import annotations

import sys
from pathlib import Path

from curriculum_ray.extras import exit_saying_what_is_missing

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; where a package that a command needs is not installed, one line says what to type."""
    words = sys.argv[1:] if arguments is None else arguments
    with exit_saying_what_is_missing("tune", words, Path(__file__).absolute().parent):
        from tuning.cli import main as run

        run(arguments)


if __name__ == "__main__":
    main()
