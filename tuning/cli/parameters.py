"""Types of a command's parameters, which reject invalid values."""

from __future__ import annotations

import math
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from curriculum_ray.addresses import presentable
from curriculum_ray.buckets.address import check_address, is_address, names
from curriculum_ray.config import check_path
from curriculum_ray.config.shown import shown
from tuning.folder.names import check_name

if TYPE_CHECKING:
    from curriculum_ray.buckets.store import Bucket

__all__ = [
    "CheckpointOption",
    "CountOrRange",
    "FileOption",
    "FiniteRange",
    "GivenPath",
    "NameOption",
    "PathOption",
    "PlaceOption",
    "stored_checkpoint",
]

_STORED = "curriculum_ray.stored_checkpoint"


class CountOrRange(click.ParamType):
    """A number of something, or a range such as 1-4."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | tuple[int, int]:
        """As the settings take it."""
        ends = value.split("-")
        if len(ends) > 2 or not all(re.fullmatch("[1-9][0-9]{0,5}", end) for end in ends):
            self.fail(
                f"{shown(value)} is neither a number of {self.name} nor a range such as 1-4", param, ctx
            )
        return int(ends[0]) if len(ends) == 1 else (int(ends[0]), int(ends[1]))


class FiniteRange(click.FloatRange):
    """A range of numbers, of which neither nan nor infinity is one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, where it lies in the range."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class PathOption(click.Path):
    """A path of this machine that a file system could have; whether anything is there is not looked at."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; an address is refused, of which pathlib would make a folder `s3:` here."""
        if isinstance(value, str) and is_address(value):
            command = "this command" if ctx is None else f"`{ctx.info_name}`"
            self.fail(f"{command} needs a path of this machine, but got {presentable(value)}", param, ctx)
        path = Path(str(super().convert(value, param, ctx)))
        try:
            check_path(path)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not str(value):
            self.fail("a path must not be empty", param, ctx)
        return path


class FileOption(PathOption):
    """A file to write."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; one that names a folder is refused."""
        path = super().convert(value, param, ctx)
        if str(value).endswith("/") or path.name in ("", "..") or path.is_dir():
            self.fail(f"{path} is a folder: name a file to write", param, ctx)
        return path


class PlaceOption(PathOption):
    """A path, or an address in object storage."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, or the address as text, without a slash at its end."""
        if isinstance(value, str) and is_address(value):
            return check_address(value, "--output" if param is None else param.opts[0])
        return super().convert(value, param, ctx)


class CheckpointOption(PlaceOption):
    """A checkpoint's folder or a run's; of an address, a copy that is here until the command ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        place = super().convert(value, param, ctx)
        if isinstance(place, Path):
            return place
        from curriculum_ray.buckets.copy import stage
        from curriculum_ray.buckets.store import Bucket
        from curriculum_ray.runs.stored_checkpoints import bring

        assert ctx is not None
        into = ctx.with_resource(TemporaryDirectory(prefix="checkpoint-", dir=stage()))
        bucket = Bucket(place)
        found = bring(bucket, Path(into), f"--checkpoint {bucket.shown()}")
        ctx.meta[_STORED] = bucket if names(place)[-1] == found.name else bucket / found.name
        return found


def stored_checkpoint() -> Bucket | None:
    """Where the checkpoint of the command now running lies in object storage; None where it lies in a folder."""
    found: Bucket | None = click.get_current_context().meta.get(_STORED)
    return found


class GivenPath(click.ParamType):
    """KEY=PATH: where a file lies that a bundle does not hold."""

    name = "key=path"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """The key and the path."""
        key, separator, path = str(value).partition("=")
        if not key or not separator or not path:
            self.fail(f"{value} is not KEY=PATH, e.g. data.vae=models/vae", param, ctx)
        return key, path


class NameOption(click.ParamType):
    """The name of a study or run, which becomes that of its folder."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name."""
        try:
            check_name(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)
