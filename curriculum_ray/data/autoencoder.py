"""A local diffusers AutoencoderKL, and the decoder of the latents that one has made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.dataset import to_uint8
from curriculum_ray.data.latents import latents_folder, read_latents_info
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.extras import install_command

__all__ = ["Decoder", "decode_latents", "load_autoencoder", "load_decoder", "weights_hash"]


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


def weights_hash(vae: Any) -> str:
    """SHA-256 (hex) of the names and values of an autoencoder's weights."""
    digest = hashlib.sha256()
    for name, value in vae.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().float().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Decoder:
    """Latents as `LatentCache` stores them to images, by the autoencoder that made them."""

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
    found = weights_hash(vae)
    if info.vae_sha256 and info.vae_sha256 != found:
        raise ConfigError(f"data.vae {path} is not the autoencoder that made the latents of {latents}")
    return Decoder(vae, info.scale, info.shift, found)


def decode_latents(spec: DataSpec, latents: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Decode generated latents (n, C, H, W) of the data of `spec` to uint8 images with `spec.vae`; both on the CPU.

    device: where the autoencoder computes.
    """
    return load_decoder(spec)(latents, device)
