"""Images to latents and back, by a diffusers AutoencoderKL at a local path; shards that a killed run keeps."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.data.dataset import Dataset, to_uint8
from curriculum_ray.data.latents import LATENTS_FILE, LatentsInfo, read_latents_info
from curriculum_ray.data.spec import DataSpec

__all__ = ["cache_latents", "decode_latents", "load_autoencoder"]


def load_autoencoder(path: str | Path) -> Any:
    """The AutoencoderKL in the folder `path`, in evaluation mode; nothing is fetched, only safetensors are read."""
    if not Path(path).is_dir():
        raise ConfigError(f"the autoencoder {path} is not a folder")
    try:
        from diffusers import AutoencoderKL
    except ImportError:
        raise ConfigError(
            "an autoencoder needs diffusers: install it with pip install 'curriculum-ray[examples]'"
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
    on_shard: Callable[[int, int], None] = lambda done, total: None,
) -> LatentsInfo:
    """Encode the images of `data` into shards in `output`, and describe them in `latents.json`, written last.

    Stored are the means of the latents, less the autoencoder's shift, times its scaling factor (Rombach et al. 2022,
    App. G); with `std` the standard deviations, scaled alike, beside them. Shards that a killed run of the same images,
    autoencoder and settings finished are kept; a folder of others is refused by `ConfigError`.
    """
    from safetensors.torch import save

    output.mkdir(parents=True, exist_ok=True)
    shift, scale = float(vae.config.shift_factor or 0.0), float(vae.config.scaling_factor)
    plan = {
        "images": data.fingerprint,
        "vae_sha256": _weights_hash(vae),
        "shard_size": shard_size,
        "std": std,
        "scale": scale,
        "shift": shift,
    }
    note = output / "plan.json"
    if note.exists() and json.loads(note.read_text()) != plan:
        raise ConfigError(f"--output {output} holds latents of other images, settings or weights")
    _write(note, json.dumps(plan).encode())
    images = data.items.expand(-1, int(vae.config.in_channels), -1, -1) if data.shape[0] == 1 else data.items
    total = -(-len(data) // shard_size)
    vae = vae.to(device)
    shards = []
    shape: tuple[int, ...] = ()
    for number in range(total):
        start, stop = number * shard_size, min((number + 1) * shard_size, len(data))
        path = output / f"latents-{number:05d}.safetensors"
        shards.append((path.name, stop - start))
        if path.exists() and (number + 1 < total or shape):
            continue
        tensors = _encode(vae, images[start:stop], batch_size, shift, scale, std, device)
        shape = tuple(tensors["latents"].shape[1:])
        if data.conditioning.kind == "class" and data.condition is not None:
            tensors["labels"] = data.condition[start:stop].contiguous()
        _write(path, save(tensors))
        on_shard(number + 1, total)
    info = LatentsInfo(shape, scale, shift, tuple(shards), data.class_names, str(plan["vae_sha256"]))
    _write(output / LATENTS_FILE, json.dumps(info.as_json(), indent=1).encode())
    return info


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


def _write(path: Path, content: bytes) -> None:
    """Write under another name, flush to the disk and rename: a reader sees all of it or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def decode_latents(spec: DataSpec, latents: Tensor, batch_size: int = 16) -> Tensor:
    """Turn samples (n, C, H, W) of the cached latents of `spec` into uint8 images by its autoencoder, `spec.vae`."""
    assert spec.vae is not None
    info = read_latents_info(Path(spec.name))
    vae = load_autoencoder(spec.vae)
    if info.vae_sha256 and info.vae_sha256 != _weights_hash(vae):
        raise ConfigError(f"data.vae {spec.vae} is not the autoencoder that made the latents of {spec.name}")
    with torch.no_grad():
        images = [vae.decode(part / info.scale + info.shift).sample for part in latents.split(batch_size)]
    return to_uint8(torch.cat(images))
