"""Which data set to train on, and loading it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from curriculum_ray.config import ConfigError, Spec
from curriculum_ray.data.dataset import Dataset
from curriculum_ray.data.digits import load_digits
from curriculum_ray.data.folder import load_folder

__all__ = ["DataSpec", "load_data"]


class DataSpec(Spec):
    """A data set of images."""

    name: str = Field(default="digits", min_length=1)
    """`digits` (1,797 real 8×8 grey images, no download) or the path of a folder of images."""

    image_size: int | None = Field(default=None, ge=4, le=1024)
    """Side in pixels that the images of a folder are cropped and resized to (32 if not given)."""

    channels: Literal[1, 3] | None = None
    """1 (grey) or 3 (colour) for the images of a folder; if not given, 1 when all files are grey, else 3."""

    @model_validator(mode="after")
    def _digits_come_in_one_size(self) -> Self:
        for key, only in (("image_size", 8), ("channels", 1)):
            value = getattr(self, key)
            if self.name == "digits" and value not in (None, only):
                raise ValueError(f"data.{key} must be {only} or left out for the digits, but got {value}")
        return self


def load_data(spec: DataSpec) -> Dataset:
    """Load the images of `spec`; a missing, empty or partly unreadable folder raises `ConfigError`."""
    if spec.name == "digits":
        return load_digits()
    if not Path(spec.name).is_dir():
        raise ConfigError(f"data.name must be 'digits' or a folder of images, but {spec.name!r} is neither")
    return load_folder(spec.name, size=spec.image_size, channels=spec.channels)
