"""Latents of images, cached in shards: any number of workers encode a part each, into a folder or object storage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import field_validator
from torch import Tensor

from curriculum_ray.buckets.place import LocalFolder, Place
from curriculum_ray.config import ConfigError, Spec
from curriculum_ray.data.autoencoder import weights_hash
from curriculum_ray.data.dataset import Dataset, as_float
from curriculum_ray.data.image_source import Images, InMemory
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.latent_files import claim, finished, shards_in, written
from curriculum_ray.data.latents import CONDITION_TENSORS, LATENTS_FILE, LatentsInfo
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.text_encoder import encoder_hash

__all__ = ["CacheSpec", "LatentCache", "Shard", "cache_latents"]


class CacheSpec(Spec):
    """Settings of `tune cache-latents`."""

    data: DataSpec = DataSpec()
    """The images, and which of their classes or captions are stored."""

    @field_validator("data")
    @classmethod
    def _images(cls, data: DataSpec) -> DataSpec:
        if data.format == "latents":
            raise ValueError("data.format must be folder, parquet, webdataset or left out to cache latents")
        if data.flip or data.crop is not None:
            raise ValueError(
                "data.flip and data.crop are for training on images, and latents are cached without"
            )
        if data.holdout_share:
            raise ValueError(
                f"data.holdout_share is for training on the latents, and all images are cached, but got "
                f"{data.holdout_share:g}"
            )
        return data.model_copy(update={"holdout_share": 0.0})


@dataclass(frozen=True)
class Shard:
    """A shard that is written."""

    name: str
    items: int
    shape: tuple[int, ...]
    """Of a latent."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentCache:
    """Latents of images in `place`; every worker opens one, and encodes its part.

    A shard holds the means of the latents, minus the autoencoder's shift, times its scaling factor (Rombach
    et al. 2022, App. G); with `std` also the standard deviations, scaled by the same factor; and the
    condition of each image: labels, captions as word numbers, or embeddings as float16, zeros where padded,
    with a hash of their `text_encoder`. Shards finished by a killed run on the same images, condition,
    autoencoder and settings are kept.
    """

    images: Images
    vae: Any
    place: Place
    shard_size: int = 1024
    std: bool = False
    text_encoder: str | None = None
    batch_size: int = 16

    @property
    def count(self) -> int:
        """Shards of the whole."""
        return -(-len(self.images.about) // self.shard_size)

    def there(self) -> int:
        """Shards that are there, as far as can be seen now."""
        try:
            return len(shards_in(self.place))
        except OSError:
            return 0

    def begin(self) -> None:
        """Say in `place` which latents it holds; raises ConfigError where it holds others."""
        self._match_channels()
        written(lambda: claim(self.place, self._plan), self.place)

    def encode(
        self,
        rank: int = 0,
        size: int = 1,
        device: torch.device | str = "cpu",
        on_shard: Callable[[int], None] = lambda number: None,
    ) -> list[Shard]:
        """Encode every `size`-th shard from the `rank`-th on, and return them.

        on_shard: called with the number of each that was not there.
        """
        vae = self.vae.to(device)
        return [self._shard(number, vae, device, on_shard) for number in range(rank, self.count, size)]

    def end(self, shards: Sequence[Shard]) -> LatentsInfo:
        """Describe all shards in `latents.json`, which makes the latents readable; raises ConfigError."""
        missing = {shard.name for shard in shards} - self.place.sizes().keys()
        if missing:
            raise ConfigError(
                f"--output must be a folder that all nodes see, or an address, but {self.place.shown()} has no "
                f"{min(missing)}, which a worker wrote"
            )
        about, plan = self.images.about, self._plan
        info = LatentsInfo(
            shards[0].shape,
            plan["scale"],
            plan["shift"],
            tuple((shard.name, shard.items) for shard in sorted(shards, key=lambda shard: shard.name)),
            class_names=about.class_names,
            vae_sha256=plan["vae_sha256"],
            conditioning=about.conditioning,
            vocabulary=about.vocabulary,
            text_encoder_sha256=plan["text_encoder_sha256"],
        )
        content = json.dumps(info.as_json(), indent=1).encode()
        written(lambda: self.place.write(LATENTS_FILE, content), self.place)
        return info

    def _shard(
        self, number: int, vae: Any, device: torch.device | str, on_shard: Callable[[int], None]
    ) -> Shard:
        from safetensors.torch import save

        name = f"latents-{number:05d}.safetensors"
        start = number * self.shard_size
        stop = min(start + self.shard_size, len(self.images.about))
        condition = _stored(self.images, start, stop) if isinstance(self.images, InMemory) else None
        kept = finished(self.place.read(name), stop - start, self._names(), condition)
        if kept is not None:
            return Shard(name, *kept)
        # The description lists only complete shards, also while one is rewritten.
        written(lambda: self.place.remove(LATENTS_FILE), self.place)
        items, found = self.images.read(start, stop)
        tensors = self._encoded(as_float(items.expand(-1, self._channels, -1, -1)), vae, device)
        content = save({**tensors, **_tensors(self.images, found)})
        written(lambda: self.place.write(name, content), self.place)
        on_shard(number)
        return Shard(name, len(items), tuple(tensors["latents"].shape[1:]))

    def _encoded(self, images: Tensor, vae: Any, device: torch.device | str) -> dict[str, Tensor]:
        plan = self._scaling()
        means, deviations = [], []
        with torch.no_grad():
            for batch in images.split(self.batch_size):
                found = vae.encode(batch.to(device)).latent_dist
                means.append(((found.mean - plan["shift"]) * plan["scale"]).cpu())
                deviations.append((found.std * plan["scale"]).cpu())
        tensors = {"latents": torch.cat(means).contiguous()}
        return {**tensors, "std": torch.cat(deviations).contiguous()} if self.std else tensors

    @property
    def _channels(self) -> int:
        return int(self.vae.config.in_channels)

    def _match_channels(self) -> None:
        """Refuse images that are neither grey, which is repeated, nor have the autoencoder's channels."""
        about = self.images.about
        if about.shape[0] not in (1, self._channels):
            raise ConfigError(
                f"the autoencoder takes images of {self._channels} channels, but those of {about.name} have "
                f"{about.shape[0]}"
            )

    def _names(self) -> set[str]:
        """The tensors of a shard."""
        kind = self.images.about.conditioning.kind
        return {
            "latents",
            *(["std"] if self.std else []),
            *([CONDITION_TENSORS[kind]] if kind in CONDITION_TENSORS else []),
        }

    def _scaling(self) -> dict[str, float]:
        return {
            "scale": float(self.vae.config.scaling_factor),
            "shift": float(self.vae.config.shift_factor or 0.0),
        }

    @cached_property
    def _plan(self) -> dict[str, Any]:
        """What decides the content of the shards."""
        return {
            "images": self.images.about.fingerprint,
            "condition": _condition_hash(self.images.about),
            "vae_sha256": weights_hash(self.vae),
            "text_encoder_sha256": encoder_hash(self.text_encoder) if self.text_encoder is not None else "",
            "shard_size": self.shard_size,
            "std": self.std,
            **self._scaling(),
        }


def cache_latents(
    data: Dataset,
    vae: Any,
    output: Path,
    *,
    shard_size: int = 1024,
    std: bool = False,
    text_encoder: str | None = None,
    on_shard: Callable[[int], None] = lambda number: None,
) -> LatentsInfo:
    """Encode the images of `data` into shards in the folder `output` on the CPU of this process: see `LatentCache`."""
    cache = LatentCache(
        images=InMemory(data),
        vae=vae,
        place=LocalFolder(output),
        shard_size=shard_size,
        std=std,
        text_encoder=text_encoder,
    )
    cache.begin()
    return cache.end(cache.encode(on_shard=on_shard))


def _condition_hash(data: Dataset | DataInfo) -> str:
    """SHA-256 (hex) of condition and names; of embeddings only the size, as last bits vary by machine.

    The conditions of a stream count with its fingerprint.
    """
    names = json.dumps([data.conditioning.as_json(), data.class_names, data.vocabulary])
    digest = hashlib.sha256(names.encode())
    condition = data.condition if isinstance(data, Dataset) else None
    if condition is not None and not condition.is_floating_point():
        digest.update(condition.contiguous().numpy().data)
    return digest.hexdigest()


def _stored(images: InMemory, start: int, stop: int) -> dict[str, Tensor]:
    """The tensor that stores the condition of images `start` .. `stop`-1, if there is one."""
    condition = images.about.condition
    return _tensors(images, None if condition is None else condition[start:stop])


def _tensors(images: Images, condition: Tensor | None) -> dict[str, Tensor]:
    if condition is None:
        return {}
    condition = condition.contiguous()
    # float16 is finer than an encoder's variation between machines; values beyond its range stay float32.
    half = condition.half() if condition.is_floating_point() else condition
    name = CONDITION_TENSORS[images.about.conditioning.kind]
    return {name: half if half.isfinite().all() else condition}
