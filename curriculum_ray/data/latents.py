"""Cached latents: safetensors shards beside a JSON file that says what their numbers mean."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.dataset import Dataset

__all__ = ["LATENTS_FILE", "LatentsInfo", "load_latents", "read_latents_info", "read_shard"]

LATENTS_FILE = "latents.json"


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
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{path} must describe cached latents, as `cache-latents` writes it, but: {reason}"
        ) from None


def read_shard(folder: Path, name: str, rows: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
    """The latents, float32 (rows, *shape), and labels, long (rows,), of one shard."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / name)
        latents = tensors["latents"].to(torch.float32)
    except (OSError, SafetensorError, KeyError) as error:
        raise ConfigError(f"{folder / name} cannot be read as a shard of latents: {error}") from None
    if tuple(latents.shape) != (rows, *shape):
        raise ConfigError(
            f"{folder / name} must hold {(rows, *shape)} latents, but holds {tuple(latents.shape)}"
        )
    return latents, tensors.get("labels")


def load_latents(folder: Path, classes: bool = True) -> Dataset:
    """All latents of a folder that `cache-latents` wrote, in memory."""
    info = read_latents_info(folder)
    parts = [read_shard(folder, name, rows, info.shape) for name, rows in info.shards]
    labels = [label for _, label in parts if label is not None]
    keep = classes and bool(info.class_names)
    return Dataset(
        folder.resolve().name,
        torch.cat([latents for latents, _ in parts]),
        torch.cat(labels) if keep else None,
        info.class_names if keep else (),
    )
