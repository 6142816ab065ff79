"""A place for files: a folder of this machine, or one in object storage, by the same requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from curriculum_ray.buckets.store import Bucket
from curriculum_ray.files import replace_file

__all__ = ["LocalFolder", "Place", "place_of"]


@dataclass(frozen=True)
class LocalFolder:
    """A folder of this machine; names are relative to it. Requests raise OSError."""

    path: Path

    def shown(self, name: str = "") -> str:
        """The path of a file in it, or its own."""
        return str(self.path / name)

    def write(self, name: str, content: bytes) -> None:
        """Write a file: readers see the earlier one, or all of this one."""
        self.path.mkdir(parents=True, exist_ok=True)
        replace_file(self.path / name, content)

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def sizes(self) -> dict[str, int]:
        """Bytes of each file directly in it by its name."""
        if not self.path.is_dir():
            return {}
        return {path.name: path.stat().st_size for path in self.path.iterdir() if path.is_file()}

    def remove(self, name: str) -> None:
        """Delete a file, if there is one."""
        (self.path / name).unlink(missing_ok=True)


Place = LocalFolder | Bucket


def place_of(output: Path | str) -> Place:
    """The folder, or that at an address as `check_address` returns it."""
    return LocalFolder(output) if isinstance(output, Path) else Bucket(output)
