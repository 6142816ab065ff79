"""The weights that a run starts from, where it does not draw its own: their settings, and how they are checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn

from curriculum_ray.config import ConfigError, LocalPath, Spec
from curriculum_ray.config.parsing import SHA256
from curriculum_ray.models import DiffusersModel
from curriculum_ray.training.parallel import load_into
from curriculum_ray.training.stored_weights import StoredWeights, read_weights

__all__ = ["InitSpec", "load_initial", "pinned", "without_path"]

_CONDITION = frozenset({"label_embedding", "reading", "captions", "class_embedding", "class_embedder"})
"""Names of the modules that embed a class or caption, or read it, in our networks and in those of diffusers."""


class InitSpec(Spec):
    """Weights to start from. The path alone may stand for them: `init_from: runs/first`."""

    path: LocalPath
    """A checkpoint or a run's folder, a folder of `tune export`, or one of diffusers (safetensors only)."""
    raw: bool = False
    """Whether to start from a checkpoint's weights themselves, not from their average."""
    new_condition: bool = False
    """Whether layers that embed or read a class or caption are drawn anew where they do not fit, or where the words of
    the captions differ; all other layers must fit in any case."""
    sha256: str | None = Field(default=None, pattern=SHA256)
    """The hash of the weights, which every worker checks; if not given, it is filled in when a run or study starts."""


def pinned(spec: InitSpec) -> InitSpec:
    """`spec` with the hash of its weights, so that all runs that are given it start from the same ones."""
    return spec.model_copy(update={"sha256": _read(spec).sha256})


def without_path(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings as JSON, in which its initial weights are named by their hash only."""
    spec = settings.get("init_from")
    if not isinstance(spec, Mapping):
        return dict(settings)
    return {**settings, "init_from": {key: value for key, value in spec.items() if key != "path"}}


def load_initial(model: nn.Module, spec: InitSpec, vocabulary: tuple[str, ...] = ()) -> frozenset[str]:
    """Load the weights of `spec` into `model`, whole and not yet sharded; returns the names of those drawn anew.

    vocabulary: the words of the data's captions. Raises ConfigError, one line, where names, shapes, words or the hash
    differ, or a value is not finite.
    """
    stored = _read(spec)
    where = f"init_from.path {spec.path}"
    _check_class(model, stored, where)
    targets = model.state_dict()
    other_words = bool(stored.vocabulary and vocabulary) and stored.vocabulary != vocabulary
    fits = {
        name
        for name, value in stored.tensors.items()
        if name in targets
        and value.shape == targets[name].shape
        and not (other_words and _is_condition(name))
    }
    anew = (targets.keys() | stored.tensors.keys()) - fits
    refused = sorted(name for name in anew if not (spec.new_condition and _is_condition(name)))
    if refused:
        if other_words and all(_is_condition(name) for name in refused):
            what = "the words of its captions are not those of the data"
        else:
            what = _differences(refused, targets, stored)
        mend = (
            ": init_from.new_condition=true draws the layers of classes and captions anew"
            if all(_is_condition(name) for name in refused)
            else ""
        )
        raise ConfigError(f"{where} does not fit the network: {what}{mend}")
    if not fits:
        raise ConfigError(f"{where} holds no weight of the network")
    broken = sorted(name for name in fits if not torch.isfinite(stored.tensors[name]).all())
    if broken:
        raise ConfigError(f"{where} must hold finite weights, but {broken[0]} is not")
    load_into({name: targets[name] for name in fits}, stored.tensors)
    return frozenset(targets.keys() - fits)


def _read(spec: InitSpec) -> StoredWeights:
    """The weights of `spec`; ConfigError where they are not those of its hash."""
    stored = read_weights(Path(spec.path), "init_from.path", raw=spec.raw)
    if spec.sha256 is not None and (found := stored.sha256) != spec.sha256:
        raise ConfigError(
            f"init_from.path {spec.path} must hold the weights of init_from.sha256 {spec.sha256[:16]}…, but holds "
            f"{found[:16]}…"
        )
    return stored


def _check_class(model: nn.Module, stored: StoredWeights, where: str) -> None:
    """Say of a network of diffusers which one is needed, rather than that all of its names differ."""
    if stored.class_name is None:
        return
    own = type(model.network).__name__ if isinstance(model, DiffusersModel) else None
    if own != stored.class_name:
        raise ConfigError(
            f"{where} holds a {stored.class_name} of diffusers: set model=diffusers:{stored.class_name}, and "
            "model.config to what its config.json says"
        )


def _is_condition(name: str) -> bool:
    return not _CONDITION.isdisjoint(name.split("."))


def _differences(refused: Iterable[str], targets: Mapping[str, torch.Tensor], stored: StoredWeights) -> str:
    """What is missing, unexpected and of another shape, the first two of each by name."""
    missing, unexpected, shaped = [], [], []
    for name in refused:
        if name not in stored.tensors:
            missing.append(name)
        elif name not in targets:
            unexpected.append(name)
        else:
            shaped.append(f"{name} {tuple(stored.tensors[name].shape)}, not {tuple(targets[name].shape)}")
    words = {"missing": missing, "unexpected": unexpected, "of another shape": shaped}
    return "; ".join(f"{len(names)} {word} ({_first(names)})" for word, names in words.items() if names)


def _first(names: list[str]) -> str:
    return ", ".join(names[:2]) + (", …" if len(names) > 2 else "")
