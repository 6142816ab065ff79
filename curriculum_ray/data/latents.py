"""Cached latents: safetensors shards beside a JSON file that says what their numbers mean."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.conditioning import NO_CONDITIONING, Conditioning
from curriculum_ray.data.dataset import Dataset
from curriculum_ray.data.spec import DataSpec

__all__ = [
    "CONDITION_TENSORS",
    "LATENTS_FILE",
    "LatentsInfo",
    "load_latents",
    "read_latents_info",
    "read_shard",
    "told_by_latents",
]

LATENTS_FILE = "latents.json"

# The tensor of a shard that holds each kind of condition.
CONDITION_TENSORS = {"class": "labels", "tokens": "tokens", "embedding": "embeddings"}


@dataclass(frozen=True)
class LatentsInfo:
    """What `latents.json` holds. A stored latent is (mean of the autoencoder - shift) * scale."""

    shape: tuple[int, ...]
    scale: float
    shift: float
    shards: tuple[tuple[str, int], ...]
    """File name and number of items of each shard, in order."""
    class_names: tuple[str, ...] = ()
    vae_sha256: str = ""
    """SHA-256 of the autoencoder's weights."""
    conditioning: Conditioning = NO_CONDITIONING
    """What the shards tell of each latent, in the tensor that `CONDITION_TENSORS` names."""
    vocabulary: tuple[str, ...] = ()
    """Of captions that are stored as numbered words."""
    text_encoder_sha256: str = ""
    """SHA-256 of the weights of the encoder that read the captions, where one is known."""

    @property
    def count(self) -> int:
        """Items in all shards."""
        return sum(rows for _, rows in self.shards)

    def as_json(self) -> dict[str, Any]:
        """What `read_latents_info` reads."""
        return {"version": 1, **asdict(self)}


def read_latents_info(folder: Path) -> LatentsInfo:
    """Read `latents.json` in `folder`; anything else raises `ConfigError`."""
    path = folder / LATENTS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        shards = tuple((str(name), int(rows)) for name, rows in content["shards"])
        if not shards or any(Path(name).name != name for name, _ in shards):
            raise ValueError("shards must be names of files beside it")
        return LatentsInfo(
            shape=tuple(int(size) for size in content["shape"]),
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
    """Of what `latents.json` holds; files without the key, as they were once written, know classes alone."""
    classes, words = len(content.get("class_names", ())), len(content.get("vocabulary", ()))
    if "conditioning" not in content:
        return Conditioning("class", classes) if classes else NO_CONDITIONING
    told = Conditioning.from_json(content["conditioning"])
    sizes = {"none": 0, "class": classes, "tokens": words, "embedding": told.size}
    if told.size != sizes.get(told.kind) or (told.kind in ("tokens", "embedding") and told.length < 1):
        raise ValueError(f"conditioning must fit {classes} class names and {words} words, but is {told!r}")
    return told


def told_by_latents(
    info: LatentsInfo, spec: DataSpec
) -> tuple[Conditioning, tuple[str, ...], tuple[str, ...]]:
    """Conditioning, class names and vocabulary of latents as `spec` wants them; `ConfigError` if they have no such."""
    told = info.conditioning
    if spec.conditioning == "none":
        return NO_CONDITIONING, (), ()
    kinds = {"class": ("class",), "text": ("tokens", "embedding")}.get(spec.conditioning or "", (told.kind,))
    if told.kind not in kinds:
        what = "classes" if spec.conditioning == "class" else "captions"
        raise ConfigError(
            f"data.conditioning {spec.conditioning} needs latents with {what}, but {spec.name} has {told}"
        )
    if spec.text_encoder is not None and told.kind != "embedding":
        raise ConfigError(
            f"data.text_encoder needs latents that were cached with a text encoder, but {spec.name} has {told}"
        )
    return told, info.class_names, info.vocabulary


def read_shard(
    folder: Path, name: str, rows: int, shape: tuple[int, ...], told: Conditioning = NO_CONDITIONING
) -> tuple[Tensor, Tensor | None]:
    """The latents of one shard, float32 (rows, *shape), and their condition (rows, ...), which `told` describes."""
    from safetensors import SafetensorError, safe_open

    path = folder / name
    key = CONDITION_TENSORS.get(told.kind, "")
    try:
        with safe_open(path, "pt") as file:
            latents = file.get_tensor("latents").to(torch.float32)
            condition = file.get_tensor(key) if told else None
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} cannot be read as a shard of latents: {error}") from None
    if tuple(latents.shape) != (rows, *shape):
        raise ConfigError(f"{path} must hold {(rows, *shape)} latents, but holds {tuple(latents.shape)}")
    return latents, None if condition is None else _checked(path, condition, rows, told)


def _checked(path: Path, condition: Tensor, rows: int, told: Conditioning) -> Tensor:
    """Labels and tokens as long, embeddings as float32; of another shape or out of range, `ConfigError`."""
    name = CONDITION_TENSORS[told.kind]
    shape = (rows, told.length, told.size)[: ("class", "tokens", "embedding").index(told.kind) + 1]
    if tuple(condition.shape) != shape:
        raise ConfigError(f"{path} must hold {shape} {name}, but holds {tuple(condition.shape)}")
    if told.kind == "embedding":
        if not condition.isfinite().all():
            raise ConfigError(f"{path} must hold finite {name}, but holds others")
        return condition.to(torch.float32)
    # A class of -1 is not told.
    low = -1 if told.kind == "class" else 0
    if condition.is_floating_point() or not (low <= condition.min() and condition.max() < told.size):
        found = f"{condition.dtype} in {condition.min().item()} .. {condition.max().item()}"
        raise ConfigError(f"{path} must hold {name} as integers in {low} .. {told.size - 1}, but got {found}")
    return condition.long()


def load_latents(spec: DataSpec) -> Dataset:
    """All latents of a folder that `cache-latents` wrote, in memory."""
    folder = Path(spec.name)
    info = read_latents_info(folder)
    told, class_names, vocabulary = told_by_latents(info, spec)
    parts = [read_shard(folder, name, rows, info.shape, told) for name, rows in info.shards]
    conditions = [condition for _, condition in parts if condition is not None]
    return Dataset(
        folder.resolve().name,
        torch.cat([latents for latents, _ in parts]),
        torch.cat(conditions) if told else None,
        class_names,
        vocabulary,
    )
