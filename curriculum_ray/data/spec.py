"""Which data set to train on: settings that do not apply to it are refused, never ignored."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from curriculum_ray.addresses import presentable
from curriculum_ray.buckets.address import check_address, is_address
from curriculum_ray.config import LocalPath, Spec, absolute

__all__ = ["EMBEDDED", "DataSpec", "OnlyData"]

EMBEDDED = ("digits", "photos", "shapes", "mixture2d", "tones")

# What each embedded set offers: sides in pixels, channels, and kinds of condition.
_SIDES: dict[str, tuple[int, ...]] = {"digits": (8,), "photos": (16, 32), "shapes": (16, 32)}
_CHANNELS = {"digits": 1, "photos": 3, "shapes": 3}
_CONDITIONS: dict[str, tuple[str, ...]] = {
    "digits": ("class", "none"),
    "photos": ("none",),
    "shapes": ("class", "text", "none"),
    "mixture2d": ("class", "none"),
    "tones": ("class", "none"),
}

_SIDE = 32
"""Side of images on disk, if not given (see `images.DEFAULT_SIZE`)."""
# Settings for data on disk that can be read in several ways.
_READING = ("image_column", "caption_column", "label_column", "split", "repeats")


class DataSpec(Spec):
    """A data set: images, signals, point sets or vectors."""

    name: str = Field(default="digits", min_length=1)
    """`digits`, `photos`, `shapes`, `mixture2d` or `tones` (no download), or the path of a folder or of shards.

    All nodes must see it. Shards may also lie at an address such as s3://bucket/path, with keys in the environment of
    every node; each node copies those that it reads to its disk.
    """

    format: Literal["folder", "parquet", "webdataset", "latents"] | None = None
    """What the path holds: image files (the default), Parquet or WebDataset shards of images, or cached latents."""

    image_size: int | None = Field(default=None, ge=4, le=1024)
    """Side in pixels: of images on disk (by default 32), or of photos and shapes: 16 (default) or 32."""

    channels: Literal[1, 3] | None = None
    """1 (grey) or 3 (colour) for images on disk; by default 1 if all files of a folder are grey, else 3."""

    conditioning: Literal["class", "text", "none"] | None = None
    """The condition to train on; by default the classes if the data have them, else captions, else none."""

    text_encoder: LocalPath | None = None
    """Local path of a pretrained text encoder for captions; by default word embeddings are learnt.

    Data with stored embeddings (latents, `embeddings.safetensors`) needs it only for `tune sample --caption`.
    """

    image_column: str | None = Field(default=None, min_length=1)
    """Column of encoded images in Parquet shards (`outer.inner` is a field of a struct), member with the
    image in tar files (`image.png`), or column of file names in a folder's metadata; by default a usual
    name."""

    caption_column: str | None = Field(default=None, min_length=1)
    """Column, key or member of the captions, or `.txt` for files of that suffix beside a folder's images; by
    default a usual name."""

    label_column: str | None = Field(default=None, min_length=1)
    """Column, key or member of the labels, which then precede class folders; by default a usual name."""

    split: str | None = Field(default=None, min_length=1)
    """Split to read: one that folders or shards are named after, `all`, or `none` if such names do not mean
    splits; by default `train` if there are several."""

    repeats: bool | None = None
    """Whether images in folders `N_name` are repeated N times per epoch, as in kohya-style trainers; by
    default if they have sidecar captions."""

    set_size: int | None = Field(default=None, ge=2, le=4096)
    """Points per item of mixture2d, which then has no classes; by default each item is one point."""

    corrupt: Literal["refuse", "skip"] = "refuse"
    """What to do about unreadable images on disk: refuse the data, or skip the images with a warning."""

    stream: bool | None = None
    """Whether data is read during training, not before it; by default only Parquet and WebDataset are."""

    holdout_share: float | None = Field(default=None, ge=0, lt=1)
    """Share of the items, chosen by their content, that is never trained on; by default the validation or
    test split of a folder whose train split is read, else 0.1 of sets of 256 items or more.

    Of a stream, at most 1,024 items of the validation or test split beside its train split are held out, else a tenth
    of its items or 1,024, chosen by their places in the shards; 0 holds nothing out.
    """

    flip: bool = False
    """Whether training images are mirrored left to right at random, anew each time they are seen. Held-out items and
    the reference of an evaluation stay as they are."""

    crop: int | None = Field(default=None, ge=1, le=512)
    """Pixels by which training images are padded on each side, by reflection, before a crop of their size is taken at
    random, anew each time they are seen; at most half the side. Held-out items and the reference stay as they are."""

    vae: LocalPath | None = None
    """Local path of the autoencoder of cached latents, which decodes sample grids to images."""

    @property
    def streamed(self) -> bool:
        """Whether the data is read through Ray Data during training."""
        return self.format in ("parquet", "webdataset") or bool(self.stream)

    @field_validator("name")
    @classmethod
    def _from_the_root(cls, name: str) -> str:
        if is_address(name):
            return check_address(name, "data.name")
        return name if name in EMBEDDED else absolute(name)

    @model_validator(mode="after")
    def _settings_apply(self) -> Self:
        # The set in the words of an error.
        what = self.name if self.name != "digits" else "the digits"
        if self.name in EMBEDDED:
            for key in ("format", "stream", "vae", *_READING):
                if getattr(self, key) is not None:
                    raise ValueError(f"data.{key} is for data on disk, not for {what}: leave it out")
            if self.corrupt != "refuse":
                raise ValueError(f"data.corrupt is for data on disk, not for {what}: leave it out")
            self._one_of("image_size", _SIDES.get(self.name, ()), what)
            self._one_of("channels", (_CHANNELS[self.name],) if self.name in _CHANNELS else (), what)
            self._one_of("conditioning", _CONDITIONS[self.name], what)
        if is_address(self.name) and self.format in (None, "folder"):
            raise ValueError(
                "data.format must be parquet, webdataset or latents for data at an address, because a folder of images "
                f"must be one that all nodes see, but data.name is {presentable(self.name)}"
            )
        if self.text_encoder is not None and (
            self.conditioning != "text" or self.format in ("parquet", "webdataset")
        ):
            raise ValueError(
                "data.text_encoder is for captions in memory and latents: it needs data.conditioning text, and "
                "neither parquet nor webdataset, whose captions are read as words"
            )
        if self.set_size is not None:
            if self.name != "mixture2d":
                raise ValueError(f"data.set_size is for mixture2d, but data.name is {self.name}")
            if self.conditioning == "class":
                raise ValueError("data.conditioning must be none or left out where data.set_size is given")
        if self.repeats is not None and self.format not in (None, "folder"):
            raise ValueError(f"data.repeats is for image folders, but data.format is {self.format}")
        if self.repeats and self.conditioning == "class":
            raise ValueError(
                "data.repeats must be false or left out where data.conditioning is class, as folders N_name are then "
                "classes, but got True"
            )
        if self.image_column is not None and self.format in (None, "folder") and self.conditioning == "none":
            raise ValueError(
                "data.image_column of a folder is read with labels or captions, but data.conditioning is none"
            )
        if self.caption_column is not None and self.conditioning in ("class", "none"):
            raise ValueError(
                f"data.caption_column needs captions, but data.conditioning is {self.conditioning}"
            )
        if self.label_column is not None and self.conditioning in ("text", "none"):
            raise ValueError(f"data.label_column needs labels, but data.conditioning is {self.conditioning}")
        if self.label_column is not None and self.caption_column is not None:
            raise ValueError(
                "data.label_column and data.caption_column must not both be given, because either labels or captions "
                f"are trained on: leave one out, but got {self.label_column} and {self.caption_column}"
            )
        self._augmentation_applies()
        if self.format == "latents":
            for key in ("image_size", "channels", *_READING):
                if getattr(self, key) is not None:
                    raise ValueError(f"data.{key} is for images, not for latents: leave it out")
            if self.corrupt == "skip":
                raise ValueError("data.corrupt skip is for images, not for latents")
        elif self.vae is not None:
            raise ValueError(f"data.vae is for data.format latents, but that is {self.format or 'folder'}")
        if self.stream and self.format in (None, "folder"):
            raise ValueError(
                "data.stream is for parquet, webdataset and latents: image folders are loaded whole"
            )
        if self.streamed and self.holdout_share:
            raise ValueError(
                f"data.holdout_share must be 0 or left out for streams, which hold out at most 1,024 items, but got "
                f"{self.holdout_share:g}"
            )
        if self.stream is False and self.format in ("parquet", "webdataset"):
            raise ValueError(f"data.stream must be true or left out for {self.format}, but got False")
        return self

    def _augmentation_applies(self) -> None:
        images = self.format != "latents" and (self.name not in EMBEDDED or self.name in _SIDES)
        for key in ("flip", "crop"):
            if (value := getattr(self, key)) and not images:
                what = self.format or self.name
                raise ValueError(f"data.{key} is for images, not for {what}: leave it out, but got {value}")
        side = self.image_size or _SIDES.get(self.name, (_SIDE,))[0]
        if self.crop is not None and self.crop > side // 2:
            raise ValueError(f"data.crop must be at most {side // 2}, half the side, but got {self.crop}")

    def _one_of(self, key: str, allowed: tuple[object, ...], what: str) -> None:
        value = getattr(self, key)
        if value is not None and value not in allowed:
            choices = f"be {' or '.join(str(choice) for choice in allowed)} or left out" if allowed else ""
            raise ValueError(f"data.{key} must {choices or 'be left out'} for {what}, but got {value}")


class OnlyData(Spec):
    """Settings of a command that only inspects data."""

    data: DataSpec = DataSpec()
    """The data set."""
