"""Cached latents: safetensors shards, and a JSON file that describes them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.config.plain_yaml import read_own_json
from curriculum_ray.config.regular import check_regular, read_regular
from curriculum_ray.config.shown import printable
from curriculum_ray.data.conditioning import NO_CONDITIONING, Conditioning
from curriculum_ray.data.dataset import Dataset, LatentShape
from curriculum_ray.data.shard_copies import copy_here, folder_of
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.walk import stays_below

__all__ = [
    "CONDITION_TENSORS",
    "LATENTS_FILE",
    "LatentsInfo",
    "latents_conditioning",
    "latents_folder",
    "load_latents",
    "read_latents_info",
    "read_shard",
]

LATENTS_FILE = "latents.json"

# The name of the tensor in a shard, by kind of condition.
CONDITION_TENSORS = {"class": "labels", "tokens": "tokens", "embedding": "embeddings"}


@dataclass(frozen=True)
class LatentsInfo:
    """The content of `latents.json`. A stored latent is (mean of the autoencoder - shift) * scale."""

    shape: LatentShape
    scale: float
    shift: float
    shards: tuple[tuple[str, int], ...]
    """File name and number of items of each shard, in order."""
    class_names: tuple[str, ...] = ()
    vae_sha256: str = ""
    """SHA-256 of the autoencoder's weights."""
    conditioning: Conditioning = NO_CONDITIONING
    """The condition of the latents, in the tensor that `CONDITION_TENSORS` names."""
    vocabulary: tuple[str, ...] = ()
    """Vocabulary of captions that are stored as word numbers."""
    text_encoder_sha256: str = ""
    """SHA-256 of the weights of the encoder that embedded the captions, if known."""

    @property
    def count(self) -> int:
        """Number of items in all shards."""
        return sum(rows for _, rows in self.shards)

    def as_json(self) -> dict[str, Any]:
        """Convert to JSON values, which `read_latents_info` reads."""
        return {"version": 1, **asdict(self)}


def latents_folder(name: str) -> Path:
    """The folder of the latents `name` on this machine, with the file that describes them: see `folder_of`."""
    folder = folder_of(name)
    copy_here(name, str(folder / LATENTS_FILE))
    return folder


def read_latents_info(folder: Path) -> LatentsInfo:
    """Read `latents.json` in `folder`; a missing or invalid file raises `ConfigError`."""
    path = folder / LATENTS_FILE
    try:
        content = read_own_json(read_regular(path))
        shards = tuple((str(name), int(rows)) for name, rows in content["shards"])
        if not shards or any("/" in name or not stays_below(name) for name, _ in shards):
            raise ValueError("shards must be names of files in the same folder")
        return LatentsInfo(
            shape=LatentShape(int(size) for size in content["shape"]),
            scale=float(content["scale"]),
            shift=float(content["shift"]),
            shards=shards,
            class_names=tuple(content.get("class_names", ())),
            vae_sha256=str(content.get("vae_sha256", "")),
            conditioning=_conditioning(content),
            vocabulary=tuple(content.get("vocabulary", ())),
            text_encoder_sha256=str(content.get("text_encoder_sha256", "")),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{path} must describe cached latents, as `cache-latents` writes it, but: {reason}"
        ) from None


def _conditioning(content: dict[str, Any]) -> Conditioning:
    """Return the conditioning in `latents.json`; older files without the key have only classes."""
    classes, words = len(content.get("class_names", ())), len(content.get("vocabulary", ()))
    if "conditioning" not in content:
        return Conditioning("class", classes) if classes else NO_CONDITIONING
    found = Conditioning.from_json(content["conditioning"])
    sizes = {"none": 0, "class": classes, "tokens": words, "embedding": found.size}
    if found.size != sizes.get(found.kind) or (found.kind in ("tokens", "embedding") and found.length < 1):
        raise ValueError(f"conditioning must fit {classes} class names and {words} words, but is {found!r}")
    return found


def latents_conditioning(
    info: LatentsInfo, spec: DataSpec
) -> tuple[Conditioning, tuple[str, ...], tuple[str, ...]]:
    """Return the conditioning that `spec` asks for, class names and vocabulary; `ConfigError` if missing."""
    stored = info.conditioning
    if spec.conditioning == "none":
        return NO_CONDITIONING, (), ()
    kinds = {"class": ("class",), "text": ("tokens", "embedding")}.get(
        spec.conditioning or "", (stored.kind,)
    )
    if stored.kind not in kinds:
        what = "classes" if spec.conditioning == "class" else "captions"
        raise ConfigError(
            f"data.conditioning {spec.conditioning} needs latents with {what}, but {spec.name} has {stored}"
        )
    if spec.text_encoder is not None and stored.kind != "embedding":
        raise ConfigError(
            f"data.text_encoder needs latents that were cached with a text encoder, but {spec.name} has {stored}"
        )
    return stored, info.class_names, info.vocabulary


def read_shard(
    folder: Path,
    name: str,
    rows: int,
    shape: tuple[int, ...],
    conditioning: Conditioning = NO_CONDITIONING,
) -> tuple[Tensor, Tensor | None]:
    """Read the latents of one shard, float32 (rows, *shape), and their condition (rows, ...)."""
    from safetensors import SafetensorError, safe_open

    path = folder / name
    key = CONDITION_TENSORS.get(conditioning.kind, "")
    try:
        check_regular(path)
        with safe_open(path, "pt") as file:
            latents = file.get_tensor("latents").to(torch.float32)
            condition = file.get_tensor(key) if conditioning else None
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} cannot be read as a shard of latents: {error}") from None
    if tuple(latents.shape) != (rows, *shape):
        raise ConfigError(f"{path} must hold {(rows, *shape)} latents, but holds {tuple(latents.shape)}")
    return latents, None if condition is None else _checked(path, condition, rows, conditioning)


def _checked(path: Path, condition: Tensor, rows: int, conditioning: Conditioning) -> Tensor:
    """Return labels and tokens as long, embeddings as float32; `ConfigError` if shape or range do not fit."""
    kind, length, size = conditioning.kind, conditioning.length, conditioning.size
    name = CONDITION_TENSORS[kind]
    shape = (rows, length, size)[: ("class", "tokens", "embedding").index(kind) + 1]
    if tuple(condition.shape) != shape:
        raise ConfigError(f"{path} must hold {shape} {name}, but holds {tuple(condition.shape)}")
    if kind == "embedding":
        if not condition.isfinite().all():
            raise ConfigError(f"{path} must hold finite {name}, but some are not")
        return condition.to(torch.float32)
    # A class of -1 is the null condition.
    low = -1 if kind == "class" else 0
    if condition.is_floating_point() or not (low <= condition.min() and condition.max() < size):
        found = f"{condition.dtype} in {condition.min().item()} .. {condition.max().item()}"
        raise ConfigError(f"{path} must hold {name} as integers in {low} .. {size - 1}, but got {found}")
    return condition.long()


def load_latents(spec: DataSpec) -> Dataset:
    """Load all latents of a folder that `cache-latents` wrote."""
    folder = latents_folder(spec.name)
    info = read_latents_info(folder)
    for name, _ in info.shards:
        copy_here(spec.name, str(folder / name))
    conditioning, class_names, vocabulary = latents_conditioning(info, spec)
    parts = [read_shard(folder, name, rows, info.shape, conditioning) for name, rows in info.shards]
    conditions = [condition for _, condition in parts if condition is not None]
    return Dataset(
        printable(folder.resolve().name),
        torch.cat([latents for latents, _ in parts]),
        torch.cat(conditions) if conditioning else None,
        class_names,
        vocabulary,
        latents=True,
    )
