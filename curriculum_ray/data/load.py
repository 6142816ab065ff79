"""Load a data set into memory, or read only its metadata."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from curriculum_ray.buckets.address import is_address
from curriculum_ray.config import ConfigError
from curriculum_ray.data.dataset import Dataset
from curriculum_ray.data.digits import load_digits
from curriculum_ray.data.embeddings import EMBEDDINGS_FILE, has_embeddings
from curriculum_ray.data.folder import load_folder
from curriculum_ray.data.holdout import hold_out, hold_out_split
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.latents import load_latents
from curriculum_ray.data.mixture import load_mixture2d
from curriculum_ray.data.official import check_split, not_held_out, official_split
from curriculum_ray.data.photos import load_photos
from curriculum_ray.data.shapes import load_shapes
from curriculum_ray.data.shards import scan
from curriculum_ray.data.spec import EMBEDDED, DataSpec
from curriculum_ray.data.summary import DataSummary, warn_of
from curriculum_ray.data.tones import load_tones

__all__ = ["data_info", "load_data", "require_folder"]


def load_data(spec: DataSpec) -> Dataset:
    """Load the training items of `spec`; its held-out items are in `heldout`.

    A missing, empty or partly unreadable folder raises `ConfigError`. Anything that the user might miss about
    how the data is read is a `DataWarning`, and is in `summary`, whose counts include the held-out items.
    """
    data = _load(spec)
    if data.summary is None:
        path = "" if spec.name in EMBEDDED else spec.name
        form = spec.format or "embedded"
        data = replace(data, summary=DataSummary(data.name, form, path, shape=data.shape).of(data))
    summary = data.summary
    assert summary is not None
    official, notes = _official(spec, data, summary)
    summary = replace(summary, notes=(*summary.notes, *notes))
    warn_of(summary)
    data = replace(official or hold_out(data, spec.holdout_share), summary=summary)
    if data.heldout is None:
        return data
    how = "an official split" if official else "chosen by content"
    return replace(data, summary=replace(summary, held_out=len(data.heldout), held_out_from=how))


def _official(spec: DataSpec, data: Dataset, summary: DataSummary) -> tuple[Dataset | None, tuple[str, ...]]:
    """Hold out the validation or test split of a folder if `data` is its train split, with notes; None otherwise."""
    name = official_split(summary.splits, summary.split)
    if spec.holdout_share is not None or name is None:
        return None, ()
    same = {"split": name, "channels": data.shape[0], "corrupt": "skip"}
    try:
        other = _load(spec.model_copy(update=same))
        notes = check_split(name, data, other)
        return hold_out_split(data, other), notes
    except ConfigError as error:
        return None, (not_held_out(name, error),)


def _load(spec: DataSpec) -> Dataset:
    if spec.streamed:
        raise ConfigError(
            f"data.format {spec.format} is streamed, but this command loads data whole: give it a folder of images"
        )
    classes = spec.conditioning in (None, "class")
    if spec.name == "digits":
        digits = load_digits()
        return digits if classes else Dataset("digits", digits.stored)
    if spec.name == "photos":
        return load_photos(spec.image_size or 16)
    if spec.name == "shapes":
        return load_shapes(spec.image_size or 16, spec.conditioning or "class", spec.text_encoder)
    if spec.name == "mixture2d":
        return load_mixture2d(spec.set_size, classes)
    if spec.name == "tones":
        return load_tones(classes)
    require_folder(spec)
    return load_latents(spec) if spec.format == "latents" else load_folder(spec)


def require_folder(spec: DataSpec) -> None:
    """Raise `ConfigError` where the data are neither an address nor a folder."""
    if not is_address(spec.name) and not Path(spec.name).is_dir():
        raise ConfigError(
            f"data.name must be {', '.join(repr(name) for name in reversed(EMBEDDED))} or a folder of images, "
            f"but {spec.name!r} is neither"
        )


def data_info(spec: DataSpec) -> DataInfo:
    """Return the metadata of the data set of `spec`; of a stream only the headers are read."""
    if spec.streamed:
        captioned = spec.conditioning in (None, "text")
        if spec.format != "latents" and captioned and has_embeddings(Path(spec.name)):
            raise ConfigError(
                f"{EMBEDDINGS_FILE} is for image folders, not for {spec.format} ({spec.name}), whose captions are read "
                "as words: remove it, or cache latents of the images as a folder"
            )
        info = scan(spec).info
        if info.summary is not None:
            warn_of(info.summary)
        return info
    data = load_data(spec)
    return DataInfo(
        name=data.name,
        shape=data.shape,
        conditioning=data.conditioning,
        count=len(data),
        fingerprint=data.fingerprint,
        class_names=data.class_names,
        vocabulary=data.vocabulary,
        held_out=0 if data.heldout is None else len(data.heldout),
        summary=data.summary,
    )
