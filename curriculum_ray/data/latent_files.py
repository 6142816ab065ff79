"""What lies in a folder or a bucket of cached latents: which latents they are, and which shards are complete."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from curriculum_ray.buckets.place import Place
from curriculum_ray.config import ConfigError

__all__ = ["PLAN_FILE", "claim", "finished", "shards_in", "tried"]

PLAN_FILE = "plan.json"

T = TypeVar("T")


def tried(done: Literal["read", "written"], request: Callable[[], T], place: Place) -> T:
    """Make a request of `place`, whose files are `done` by it; ConfigError, one line, where it fails."""
    try:
        return request()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"--output {place.shown()} cannot be {done}: {reason}") from None


# How messages name the keys of a plan; all other keys are settings.
_PLAN_WORDS = {
    "images": "images",
    "condition": "labels or captions",
    "vae_sha256": "autoencoder",
    "text_encoder_sha256": "text encoder",
}


def claim(place: Place, plan: dict[str, Any]) -> None:
    """Record in `place` which latents it holds; other latents, or shards without a record, are refused."""
    record = place.read(PLAN_FILE)
    if record is not None:
        try:
            found = dict(json.loads(record))
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"{place.shown(PLAN_FILE)} must say which latents --output holds, but: {reason}"
            ) from None
        keys = [key for key in plan if found.get(key) != plan[key]]
        if keys:
            others = dict.fromkeys(_PLAN_WORDS.get(key, "settings") for key in keys)
            raise ConfigError(f"--output {place.shown()} holds latents with other {', '.join(others)}")
        return
    if shards_in(place):
        raise ConfigError(
            f"--output {place.shown()} holds shards without the {PLAN_FILE} that describes them: empty it"
        )
    place.write(PLAN_FILE, json.dumps(plan).encode())


def shards_in(place: Place) -> list[str]:
    """The names of the shards in `place`, complete or not."""
    return [name for name in place.sizes() if name.startswith("latents-") and name.endswith(".safetensors")]


def finished(
    content: bytes | None, rows: int, names: set[str], condition: dict[str, Tensor] | None
) -> tuple[int, tuple[int, ...]] | None:
    """The items and the shape of a latent of a complete shard; None for another.

    rows: its items. condition: what it must hold, as far as that is known before its images are read; None where
    corrupt images are skipped, so that it may have fewer items.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if content is None:
        return None
    try:
        tensors = load(content)
    except (ValueError, SafetensorError):
        return None
    if set(tensors) != names:
        return None
    found, *shape = tensors["latents"].shape
    if condition is None:
        return (found, tuple(shape)) if 0 < found <= rows else None
    same = all(_is_same(tensors[name], value) for name, value in condition.items())
    return (found, tuple(shape)) if same and found == rows else None


def _is_same(stored: Tensor, now: Tensor) -> bool:
    """Return whether labels or words are equal, or embeddings differ no more than between two machines."""
    if not now.is_floating_point():
        return torch.equal(stored, now)
    return stored.shape == now.shape and torch.allclose(stored.float(), now.float(), rtol=1e-2, atol=1e-3)
