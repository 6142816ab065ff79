"""The weights of a network in a folder: a checkpoint of ours, an exported folder, or one of diffusers. No pickles."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.config.plain_yaml import read_own_json
from curriculum_ray.config.regular import read_regular
from curriculum_ray.training import checkpoint as checkpoints

__all__ = ["StoredWeights", "read_weights"]

_PARTS = ("denoiser", "unet", "transformer")
"""Folders of the network in a pipeline: ours, and those of diffusers."""
_OURS = "CurriculumRayNetwork"
_INSIDE = "network."
"""Leads the names of a network of diffusers in our wrapper, and of ours in the wrapper of an exported folder."""


@dataclass(frozen=True, kw_only=True)
class StoredWeights:
    """Tensors by the names that a network of this package has for them."""

    tensors: dict[str, Tensor]
    class_name: str | None = None
    """The class of diffusers that they belong to; None for a network of ours, or where it is not known."""
    vocabulary: tuple[str, ...] = ()
    """The words of the captions that they were trained on; empty where they are not known."""

    @property
    def sha256(self) -> str:
        """The hash (hex) of names, types, shapes and values: equal in a checkpoint and in what was exported from it."""
        digest = hashlib.sha256()
        for name, value in sorted(self.tensors.items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


def read_weights(path: Path, key: str, *, raw: bool = False) -> StoredWeights:
    """Read the weights in `path`: a checkpoint, a run's folder, an exported folder, or a folder of diffusers.

    key: the setting that names the path, for errors. raw: of a checkpoint the weights themselves, not their average.
    Raises ConfigError, one line, for anything else and for what is damaged.
    """
    where = f"{key} {path}"
    if not path.is_dir():
        raise ConfigError(f"{where} must be a folder with weights, but {_absent(path)}")
    found = checkpoints.checkpoint_in(path, where)
    if found is not None:
        return _of_checkpoint(found, raw)
    if raw:
        raise ConfigError(
            f"{where} must be a checkpoint where raw weights are wanted: other folders hold only one kind"
        )
    folder = next((path / part for part in _PARTS if (path / part / "config.json").is_file()), path)
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"{where} must be a checkpoint, a run's folder with one, an exported folder or one of diffusers, but holds "
            "neither state.json nor config.json"
        )
    class_name = str(_json(folder / "config.json", where).get("_class_name"))
    tensors = _safetensors(folder, where)
    if class_name != _OURS:
        return StoredWeights(
            tensors={f"{_INSIDE}{name}": value for name, value in tensors.items()}, class_name=class_name
        )
    return StoredWeights(tensors={name.removeprefix(_INSIDE): value for name, value in tensors.items()})


def _absent(path: Path) -> str:
    return "is a file" if path.exists() else "does not exist"


def _of_checkpoint(path: Path, raw: bool) -> StoredWeights:
    group = "model" if raw else "ema"
    content = checkpoints.read(path, groups=(group,))
    settings = content.state.get("config")
    if isinstance(settings, dict) and settings.get("lora") is not None:
        raise ConfigError(
            f"checkpoint {path} holds only the adapters of a run with lora: start from what `tune export` makes of it"
        )
    if group not in content.tensors:
        raise ConfigError(f"checkpoint {path} is incomplete: it holds no {group}.safetensors")
    words = content.state.get("vocabulary", ())
    return StoredWeights(
        tensors=dict(content.tensors[group]),
        vocabulary=tuple(map(str, words)) if isinstance(words, list) else (),
    )


def _safetensors(folder: Path, where: str) -> dict[str, Tensor]:
    """All tensors of a component, whole or in the parts that its index names."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    if index.is_file():
        parts = _json(index, where).get("weight_map")
        names = sorted({Path(str(name)).name for name in parts.values()}) if isinstance(parts, dict) else []
        files = [folder / name for name in names]
    elif (single := folder / "diffusion_pytorch_model.safetensors") in files:
        files = [single]
    elif len(files) != 1:
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        instead = (
            f"only {pickled[0]}, a pickle, which could run code" if pickled else f"{len(files)} such files"
        )
        raise ConfigError(f"{where} must hold diffusion_pytorch_model.safetensors, but has {instead}")
    tensors: dict[str, Tensor] = {}
    for path in files:
        try:
            tensors |= load_file(path)
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{where} is damaged: {path.name} cannot be read ({error})") from None
    return tensors


def _json(path: Path, where: str) -> dict[str, Any]:
    try:
        found = read_own_json(read_regular(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where} is damaged: {path.name} cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{where} is damaged: {path.name} must hold a mapping")
    return found
