"""The networks whose features are compared: which one takes what, with which weights, and what KID can afford."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError
from curriculum_ray.data import is_image
from curriculum_ray.evaluation import inception
from curriculum_ray.evaluation.arithmetic import full_fp32
from curriculum_ray.evaluation.digits_cnn import DIGITS_CNN_WEIGHTS, load_digits_cnn
from curriculum_ray.evaluation.dinov2 import load_dinov2
from curriculum_ray.evaluation.simple_features import FourierFeatures, RandomCNN, RawFeatures, weights_hash
from curriculum_ray.evaluation.spec import EvaluationSpec

__all__ = ["Extractor", "load_extractor"]


@dataclass(frozen=True)
class Extractor:
    """A network with its weights, and what goes with it."""

    name: str
    network: nn.Module = field(repr=False)
    weights: str
    """SHA-256 (hex) of its weights."""
    resize: str
    """How images are resized before they are seen."""
    batch_size: int
    """Items that it sees at a time."""
    kid_subsets: int
    kid_subset_size: int

    @torch.no_grad()
    @full_fp32()
    def features(self, items: Tensor, device: torch.device) -> Tensor:
        """The features (n, D), on the CPU, of uint8 images or float32 items (n, *shape)."""
        network = self.network.to(device)
        return torch.cat([network(batch.to(device)).cpu() for batch in items.split(self.batch_size)])

    @torch.no_grad()
    @full_fp32()
    def features_and_logits(self, items: Tensor, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """The `features`, and of a classifier the logits (n, C) too, on the CPU."""
        if not self.classifies:
            return self.features(items, device), None
        network: Any = self.network.to(device)
        seen = [network.features_and_logits(batch.to(device)) for batch in items.split(self.batch_size)]
        features, logits = (torch.cat([part.cpu() for part in parts]) for parts in zip(*seen, strict=True))
        return features, logits

    @property
    def classifies(self) -> bool:
        """Whether it has logits, which the Inception Score needs."""
        return hasattr(self.network, "features_and_logits")

    def dimension(self, shape: tuple[int, ...]) -> int:
        """The number of features of an item of `shape`."""
        kind = torch.uint8 if is_image(shape) else torch.float32
        return self.features(torch.zeros(1, *shape, dtype=kind), torch.device("cpu")).shape[1]


# resize, batch size, subsets and subset size of KID.
_PARTICULARS = {
    # One subset with all digits: as precise as ten of 1,000 each, at half their cost.
    "digits-cnn": ("none", 500, 1, 1_797),
    # Bińkowski et al. 2018, §4, as in the defaults of torch-fidelity.
    "inception-v3": ("299x299 bilinear", 64, 100, 1_000),
    "dinov2": ("224x224 bicubic", 64, 100, 1_000),
    "random-cnn": ("none", 500, 10, 1_000),
    "random-fourier": ("none", 2_000, 10, 1_000),
    "raw": ("none", 2_000, 10, 1_000),
}
_PIXELS = 500 * 32 * 32
"""Pixels that a network sees at a time where images are not resized."""
_DIGITS_SHAPE = (1, 8, 8)


def load_extractor(
    spec: EvaluationSpec, shape: tuple[int, ...], name: str, embedded: bool = False
) -> Extractor:
    """The extractor of `spec`, whose `auto` goes by the shape of an item, and by whether the data are embedded ones.

    name: that of the data, for messages.
    ConfigError where it does not take such items, or its weights are missing. Inception-v3's weights are downloaded
    if needed, verified by hash, and loaded.
    """
    chosen: str = spec.extractor
    if chosen == "auto":
        chosen = _automatic(shape, embedded)
    network, weights = _network(chosen, spec, shape, name)
    extractor = Extractor(chosen, network, weights, *_PARTICULARS[chosen])
    if chosen == "random-cnn":
        # It sees images as large as they are; the others resize them, or are for small items.
        most = max(1, _PIXELS // math.prod(shape[1:]))
        extractor = replace(extractor, batch_size=min(extractor.batch_size, most))
    return extractor


def _automatic(shape: tuple[int, ...], embedded: bool) -> str:
    """The extractor that `auto` selects; embedded sets need no download."""
    if not is_image(shape):
        return "random-fourier" if _are_points(shape) else "raw"
    if shape == _DIGITS_SHAPE:
        return "digits-cnn"
    return "random-cnn" if embedded else "inception-v3"


def _are_points(shape: tuple[int, ...]) -> bool:
    """Whether an item is a point (D,), or a set of points (D, n); of one channel, it is a signal."""
    return len(shape) == 1 or (len(shape) == 2 and shape[0] > 1)


def _network(chosen: str, spec: EvaluationSpec, shape: tuple[int, ...], name: str) -> tuple[nn.Module, str]:
    size = "x".join(str(side) for side in shape)
    if chosen == "raw":
        raw = RawFeatures(spectrum=len(shape) == 2 and shape[0] == 1)
        return raw, weights_hash(raw)
    if chosen == "random-fourier":
        if not _are_points(shape):
            raise ConfigError(
                f"evaluation.extractor random-fourier takes points, but the items of {name} are {size}: use auto"
            )
        fourier = FourierFeatures(shape[0])
        return fourier, weights_hash(fourier)
    if not is_image(shape):
        raise ConfigError(
            f"evaluation.extractor {chosen} takes images, but the items of {name} are {size}: use raw"
        )
    if chosen == "random-cnn":
        if min(shape[1:]) < 8:
            raise ConfigError(f"evaluation.extractor random-cnn takes images of at least 8x8, but got {size}")
        network = RandomCNN(shape[0], min(shape[1:])).eval()
        return network, weights_hash(network)
    if chosen == "digits-cnn":
        if shape != _DIGITS_SHAPE:
            raise ConfigError(
                f"evaluation.extractor digits-cnn takes 1x8x8 images, but those of {name} are "
                f"{size}: use inception-v3"
            )
        return _digits_cnn()
    if chosen == "dinov2":
        assert spec.weights is not None
        return _dinov2(Path(spec.weights), spec.sha256)
    path = inception.find_weights(spec.weights)
    return _inception(path, spec.sha256 or inception.INCEPTION_SHA256)


@lru_cache(maxsize=1)
def _digits_cnn() -> tuple[nn.Module, str]:
    try:
        content = DIGITS_CNN_WEIGHTS.read_bytes()
    except OSError as error:
        raise ConfigError(f"{DIGITS_CNN_WEIGHTS} cannot be read: {error.strerror}") from None
    return load_digits_cnn(content, str(DIGITS_CNN_WEIGHTS))[0], hashlib.sha256(content).hexdigest()


@lru_cache(maxsize=1)
def _dinov2(folder: Path, sha256: str | None) -> tuple[nn.Module, str]:
    return load_dinov2(folder, sha256)


@lru_cache(maxsize=1)
def _inception(path: Path, sha256: str) -> tuple[nn.Module, str]:
    return inception.load_inception(inception.read_verified(path, sha256), str(path)), sha256
