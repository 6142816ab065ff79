"""The door of `python -m tune`."""

from __future__ import annotations

from curriculum_ray.extras import exit_naming_the_extra

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; where the extra that a command needs is not installed, one line names it."""
    with exit_naming_the_extra():
        from tuning.cli import main as run

        run(arguments)


if __name__ == "__main__":
    main()
