"""The door of `python -m tune`."""

from tuning.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
