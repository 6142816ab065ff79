"""Encode images to latents, and decode them, with a local diffusers AutoencoderKL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import field_validator
from torch import Tensor

from curriculum_ray.config import ConfigError, Spec
from curriculum_ray.data.dataset import Dataset, as_float, to_uint8
from curriculum_ray.data.latents import (
    CONDITION_TENSORS,
    LATENTS_FILE,
    LatentsInfo,
    latents_folder,
    read_latents_info,
)
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.text_encoder import encoder_hash
from curriculum_ray.extras import install_command
from curriculum_ray.files import replace_file

__all__ = ["CacheSpec", "Decoder", "cache_latents", "decode_latents", "load_autoencoder", "load_decoder"]


class CacheSpec(Spec):
    """Settings of `tune cache-latents`."""

    data: DataSpec = DataSpec()
    """The images, and which of their classes or captions are stored."""

    @field_validator("data")
    @classmethod
    def _images_in_memory(cls, data: DataSpec) -> DataSpec:
        if data.format not in (None, "folder"):
            raise ValueError(
                f"data.format must be folder or left out to cache latents, but got {data.format}"
            )
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


def load_autoencoder(path: str | Path) -> Any:
    """Load the AutoencoderKL in the folder `path`, in evaluation mode; only local safetensors are read."""
    if not Path(path).is_dir():
        raise ConfigError(f"the autoencoder {path} is not a folder")
    try:
        from diffusers import AutoencoderKL
    except ImportError:
        raise ConfigError(
            f"the autoencoder {path} needs the package diffusers: {install_command('diffusers')}"
        ) from None
    try:
        vae = AutoencoderKL.from_pretrained(str(path), local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path} does not hold an AutoencoderKL in safetensors: {reason}") from None
    return vae.eval().requires_grad_(False)


def _weights_hash(vae: Any) -> str:
    digest = hashlib.sha256()
    for name, value in vae.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def cache_latents(
    data: Dataset,
    vae: Any,
    output: Path,
    *,
    shard_size: int = 1024,
    batch_size: int = 16,
    std: bool = False,
    device: torch.device | str = "cpu",
    text_encoder: str | None = None,
    on_shard: Callable[[int, int], None] = lambda done, total: None,
) -> LatentsInfo:
    """Encode the images of `data` into shards in `output`, and describe them in `latents.json`, written last.

    A shard holds the means of the latents, minus the autoencoder's shift, times its scaling factor (Rombach
    et al. 2022, App. G); with `std` also the standard deviations, scaled by the same factor; and the
    condition of each image: labels, captions as word numbers, or embeddings as float16, zeros where padded,
    with a hash of their `text_encoder`. Shards finished by a killed run on the same images, condition,
    autoencoder and settings are kept; a folder with other latents raises `ConfigError`.
    """
    from safetensors.torch import save

    images = _match_channels(vae, data)
    shift, scale = float(vae.config.shift_factor or 0.0), float(vae.config.scaling_factor)
    plan = {
        "images": data.fingerprint,
        "condition": _condition_hash(data),
        "vae_sha256": _weights_hash(vae),
        "text_encoder_sha256": encoder_hash(text_encoder) if text_encoder is not None else "",
        "shard_size": shard_size,
        "std": std,
        "scale": scale,
        "shift": shift,
    }
    output.mkdir(parents=True, exist_ok=True)
    _claim(output, plan)
    total = -(-len(data) // shard_size)
    vae = vae.to(device)
    shards = []
    shape: tuple[int, ...] = ()
    for number in range(total):
        start, stop = number * shard_size, min((number + 1) * shard_size, len(data))
        path = output / f"latents-{number:05d}.safetensors"
        shards.append((path.name, stop - start))
        condition = _condition(data, start, stop)
        kept = _finished(path, stop - start, std, condition)
        if kept is not None:
            shape = kept
            continue
        # The description lists only complete shards, also while one is rewritten.
        (output / LATENTS_FILE).unlink(missing_ok=True)
        tensors = _encode(vae, as_float(images[start:stop]), batch_size, shift, scale, std, device)
        shape = tuple(tensors["latents"].shape[1:])
        replace_file(path, save({**tensors, **condition}))
        on_shard(number + 1, total)
    info = LatentsInfo(
        shape,
        scale,
        shift,
        tuple(shards),
        class_names=data.class_names,
        vae_sha256=str(plan["vae_sha256"]),
        conditioning=data.conditioning,
        vocabulary=data.vocabulary,
        text_encoder_sha256=str(plan["text_encoder_sha256"]),
    )
    replace_file(output / LATENTS_FILE, json.dumps(info.as_json(), indent=1).encode())
    return info


def _match_channels(vae: Any, data: Dataset) -> Tensor:
    """Return the images of `data` with the autoencoder's channels: grey is repeated, others are refused."""
    channels = int(vae.config.in_channels)
    if data.shape[0] not in (1, channels):
        raise ConfigError(
            f"the autoencoder takes images of {channels} channels, but those of {data.name} have {data.shape[0]}"
        )
    return data.stored.expand(-1, channels, -1, -1)


def _condition_hash(data: Dataset) -> str:
    """SHA-256 (hex) of condition and names; of embeddings only the size, as last bits vary by machine."""
    names = json.dumps([data.conditioning.as_json(), data.class_names, data.vocabulary])
    digest = hashlib.sha256(names.encode())
    if data.condition is not None and not data.condition.is_floating_point():
        digest.update(data.condition.contiguous().numpy().data)
    return digest.hexdigest()


def _condition(data: Dataset, start: int, stop: int) -> dict[str, Tensor]:
    """Return the tensor that stores the condition of images `start` .. `stop`-1, if there is one."""
    if data.condition is None:
        return {}
    condition = data.condition[start:stop].contiguous()
    # float16 is finer than an encoder's variation between machines; values beyond its range stay float32.
    half = condition.half() if condition.is_floating_point() else condition
    return {CONDITION_TENSORS[data.conditioning.kind]: half if half.isfinite().all() else condition}


# How messages name the keys of a plan; all other keys are settings.
_PLAN_WORDS = {
    "images": "images",
    "condition": "labels or captions",
    "vae_sha256": "autoencoder",
    "text_encoder_sha256": "text encoder",
}


def _claim(output: Path, plan: dict[str, Any]) -> None:
    """Record in `output` which latents it holds; other latents, or shards without a record, are refused."""
    record = output / "plan.json"
    if record.exists():
        try:
            found = dict(json.loads(record.read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{record} must say which latents --output holds, but: {reason}") from None
        keys = [key for key in plan if found.get(key) != plan[key]]
        if keys:
            others = dict.fromkeys(_PLAN_WORDS.get(key, "settings") for key in keys)
            raise ConfigError(f"--output {output} holds latents with other {', '.join(others)}")
    elif any(output.glob("latents-*.safetensors")):
        raise ConfigError(
            f"--output {output} holds shards without the {record.name} that describes them: empty it"
        )
    replace_file(record, json.dumps(plan).encode())


def _finished(path: Path, rows: int, std: bool, condition: dict[str, Tensor]) -> tuple[int, ...] | None:
    """Return the shape of a latent in `path`, if the shard is complete and holds `condition`; None if not."""
    from safetensors import SafetensorError, safe_open

    try:
        # safe_open refuses a file whose size does not match its header.
        with safe_open(path, "pt") as file:
            shape = tuple(file.get_slice("latents").get_shape())
            names = {"latents", *condition, *(["std"] if std else [])}
            same = all(_is_same(file.get_tensor(name), value) for name, value in condition.items())
            return shape[1:] if same and set(file.keys()) == names and shape[:1] == (rows,) else None
    except (OSError, SafetensorError):
        return None


def _is_same(stored: Tensor, now: Tensor) -> bool:
    """Return whether labels or words are equal, or embeddings differ no more than between two machines."""
    if not now.is_floating_point():
        return torch.equal(stored, now)
    return stored.shape == now.shape and torch.allclose(stored.float(), now.float(), rtol=1e-2, atol=1e-3)


def _encode(
    vae: Any,
    images: Tensor,
    batch_size: int,
    shift: float,
    scale: float,
    std: bool,
    device: torch.device | str,
) -> dict[str, Tensor]:
    means, deviations = [], []
    with torch.no_grad():
        for batch in images.split(batch_size):
            found = vae.encode(batch.to(device)).latent_dist
            means.append(((found.mean - shift) * scale).cpu())
            deviations.append((found.std * scale).cpu())
    tensors = {"latents": torch.cat(means).contiguous()}
    return {**tensors, "std": torch.cat(deviations).contiguous()} if std else tensors


@dataclass(frozen=True, eq=False)
class Decoder:
    """Latents as `cache_latents` stores them to images, by the autoencoder that made them."""

    vae: Any
    scale: float
    shift: float
    sha256: str
    """Of the autoencoder's weights, hex."""

    @torch.no_grad()
    def __call__(self, latents: Tensor, device: torch.device | str = "cpu", batch_size: int = 16) -> Tensor:
        """Decode (n, C, H, W), `batch_size` at a time, on `device` to uint8 images on the CPU."""
        vae = self.vae.to(device)
        parts = (part.to(device) / self.scale + self.shift for part in latents.split(batch_size))
        return torch.cat([to_uint8(vae.decode(part).sample).cpu() for part in parts])

    def shape(self, latent: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the image of a latent of this shape: each block of the decoder but the last doubles the side."""
        channels, blocks = int(self.vae.config.out_channels), len(self.vae.config.up_block_types)
        return (channels, *(side << (blocks - 1) for side in latent[1:]))


def load_decoder(spec: DataSpec) -> Decoder:
    """The decoder of the latents of `spec`, by `spec.vae`; ConfigError where that is not what made them."""
    assert spec.vae is not None
    return _decoder(spec.name, spec.vae)


@lru_cache(maxsize=1)
def _decoder(latents: str, path: str) -> Decoder:
    info = read_latents_info(latents_folder(latents))
    vae = load_autoencoder(path)
    found = _weights_hash(vae)
    if info.vae_sha256 and info.vae_sha256 != found:
        raise ConfigError(f"data.vae {path} is not the autoencoder that made the latents of {latents}")
    return Decoder(vae, info.scale, info.shift, found)


def decode_latents(spec: DataSpec, latents: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Decode generated latents (n, C, H, W) of the data of `spec` to uint8 images with `spec.vae`; both on the CPU.

    device: where the autoencoder computes.
    """
    return load_decoder(spec)(latents, device)
