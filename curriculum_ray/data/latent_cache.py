"""Latents of images, cached in shards: any number of workers encode a part each, into a folder or object storage."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from curriculum_ray.data.dataset import Dataset, LatentShape, as_float
from curriculum_ray.data.image_source import Images, InMemory, Part
from curriculum_ray.data.latent_files import claim, finished, shards_in, tried
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
                "data.flip and data.crop are for training on images, and latents are cached without them"
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
    left_out: tuple[str, ...] = ()
    """Corrupt images, unless an earlier run wrote the shard."""


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
        tried("written", lambda: claim(self.place, self._plan), self.place)

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
        missing = {shard.name for shard in shards} - tried("read", self.place.sizes, self.place).keys()
        if missing:
            raise ConfigError(
                f"--output must be a folder that all nodes see, or an address, but {self.place.shown()} has no "
                f"{min(missing)}, which a worker wrote"
            )
        about, plan = self.images.about, self._plan
        info = LatentsInfo(
            LatentShape(shards[0].shape),
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
        tried("written", lambda: self.place.write(LATENTS_FILE, content), self.place)
        return info

    def _shard(
        self, number: int, vae: Any, device: torch.device | str, on_shard: Callable[[int], None]
    ) -> Shard:
        from safetensors.torch import save

        name = f"latents-{number:05d}.safetensors"
        start = number * self.shard_size
        stop = min(start + self.shard_size, len(self.images.about))
        known = self._known(start, stop) if self.images.complete else None
        there = tried("read", lambda: self.place.read(name), self.place)
        kept = finished(there, stop - start, self._names(), known)
        if kept is not None:
            return Shard(name, *kept)
        encoded: dict[str, list[Tensor]] = {}
        conditions: list[Tensor] = []
        left_out: list[str] = []
        for part in self._parts(start, stop):
            left_out += part.left_out
            if not len(part.images):
                continue
            for each, tensor in self._encoded(part.images, vae, device).items():
                encoded.setdefault(each, []).append(tensor)
            if part.condition is not None:
                conditions.append(part.condition)
        if not encoded:
            raise ConfigError(
                f"{self.images.about.name} must hold readable images, but none of {start:,} .. {stop - 1:,} is"
            )
        tensors = {each: torch.cat(parts).contiguous() for each, parts in encoded.items()}
        content = save({**tensors, **_tensors(self.images, torch.cat(conditions) if conditions else None)})
        # The description lists only complete shards, also while one is rewritten.
        tried("written", lambda: self.place.remove(LATENTS_FILE), self.place)
        tried("written", lambda: self.place.write(name, content), self.place)
        on_shard(number)
        items, *shape = tensors["latents"].shape
        return Shard(name, items, tuple(shape), tuple(left_out))

    def _parts(self, start: int, stop: int) -> Iterator[Part]:
        """The images, a batch at a time; while one is encoded, the next is read."""
        ends = [*range(start, stop, self.batch_size), stop]
        with ThreadPoolExecutor(max_workers=1) as reader:
            ahead = [reader.submit(self.images.read, *batch) for batch in itertools.pairwise(ends[:2])]
            for batch in itertools.pairwise(ends[1:]):
                ahead.append(reader.submit(self.images.read, *batch))
                yield ahead.pop(0).result()
            yield ahead.pop().result()

    def _encoded(self, images: Tensor, vae: Any, device: torch.device | str) -> dict[str, Tensor]:
        """The latents of a batch."""
        plan = self._scaling()
        with torch.no_grad():
            batch = as_float(images.expand(-1, self._channels, -1, -1))
            found = vae.encode(batch.to(device)).latent_dist
            tensors = {"latents": ((found.mean - plan["shift"]) * plan["scale"]).cpu()}
            return {**tensors, "std": (found.std * plan["scale"]).cpu()} if self.std else tensors

    def _known(self, start: int, stop: int) -> dict[str, Tensor]:
        condition = self.images.condition
        return _tensors(self.images, None if condition is None else condition[start:stop])

    @property
    def _channels(self) -> int:
        return int(self.vae.config.in_channels)

    def _match_channels(self) -> None:
        """Refuse images unless they are grey (then repeated) or have as many channels as the autoencoder takes."""
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
            **self.images.settings,
            "condition": _condition_hash(self.images),
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
    device: torch.device | str = "cpu",
) -> LatentsInfo:
    """Encode the images of `data` into shards in the folder `output`, in this process: see `LatentCache`."""
    cache = LatentCache(
        images=InMemory(data),
        vae=vae,
        place=LocalFolder(output),
        shard_size=shard_size,
        std=std,
        text_encoder=text_encoder,
    )
    cache.begin()
    return cache.end(cache.encode(device=device, on_shard=on_shard))


def _condition_hash(images: Images) -> str:
    """SHA-256 (hex) of condition and names; of embeddings only the size, as last bits vary by machine.

    The conditions of a stream count with its fingerprint.
    """
    about, condition = images.about, images.condition
    names = json.dumps([about.conditioning.as_json(), about.class_names, about.vocabulary])
    digest = hashlib.sha256(names.encode())
    if condition is not None and not condition.is_floating_point():
        digest.update(condition.contiguous().numpy().data)
    return digest.hexdigest()


def _tensors(images: Images, condition: Tensor | None) -> dict[str, Tensor]:
    if condition is None:
        return {}
    condition = condition.contiguous()
    # float16 is finer than an encoder's variation between machines; values beyond its range stay float32.
    half = condition.half() if condition.is_floating_point() else condition
    name = CONDITION_TENSORS[images.about.conditioning.kind]
    return {name: half if half.isfinite().all() else condition}
