"""Networks of transformers from a local folder that features or scores come from: safetensors only, and no code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from curriculum_ray.config import ConfigError
from curriculum_ray.data.text_encoder import encoder_hash
from curriculum_ray.extras import install_command

__all__ = ["LOCAL", "check_weights", "load_network", "refused"]

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""How transformers' Auto classes read a folder."""


def check_weights(folder: Path, sha256: str | None, key: str, what: str, needed_by: str) -> str:
    """The SHA-256 (hex) of the weights in `folder`; sha256: what it must be, if given.

    key: the setting that names the folder. what: what must be in it, e.g. "DINOv2". needed_by: what needs transformers.
    Raises `ConfigError`, one line, for no folder, for another hash, and without the package.
    """
    if not folder.is_dir():
        raise ConfigError(f"{key} {folder} must be a folder with a {what}, but is not a folder")
    found = encoder_hash(folder)
    if sha256 not in (None, found):
        raise ConfigError(f"{key} {folder} must have the SHA-256 {sha256}, but has {found}")
    try:
        import transformers
    except ImportError:
        raise ConfigError(
            f"{needed_by} needs the package transformers: {install_command('transformers')}"
        ) from None
    transformers.utils.logging.disable_progress_bar()
    return found


@contextmanager
def refused(folder: Path, key: str, what: str) -> Iterator[None]:
    """Make one `ConfigError` of what transformers raises where `folder` does not hold what it must."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{key} {folder} does not hold a {what}: {reason}") from None


def load_network(folder: Path, kind: str, name: str) -> nn.Module:
    """The frozen float32 network of transformers' class `name` in `folder`, whose model_type must be `kind`.

    Raises what `refused` expects, a ValueError where weights are missing too.
    """
    import transformers

    found = transformers.AutoConfig.from_pretrained(folder, **LOCAL).model_type
    if found != kind:
        raise ValueError(f"its model_type is {found}")
    with torch.random.fork_rng(devices=[]):
        network, notes = getattr(transformers, name).from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.float32,  # whatever they were saved in: scores need their precision
        )
    lacking = sorted(notes["missing_keys"])
    if lacking:
        more = f" and {len(lacking) - 1} more" if lacking[1:] else ""
        raise ValueError(f"its weights lack {lacking[0]}{more}")
    frozen: nn.Module = network.eval().requires_grad_(False)
    return frozen
