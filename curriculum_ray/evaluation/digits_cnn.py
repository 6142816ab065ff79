"""The digits' feature extractor: the penultimate layer of a small classifier."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError
from curriculum_ray.data import from_uint8

__all__ = ["DIGITS_CNN_WEIGHTS", "DigitsCNN", "load_digits_cnn", "save_digits_cnn"]

DIGITS_CNN_WEIGHTS = Path(__file__).parent / "weights" / "digits-cnn.safetensors"
"""The weights that ship with the package; `benchmarks/train_digits_extractor.py` makes them."""

_HEADER = "digits-cnn"

# Shape suffixes: B batch, D features.


class DigitsCNN(nn.Module):
    """Maps grey 8x8 images to features, learnt by classifying the ten digits.

    The features are the penultimate layer before its activation (closer to the Gaussian that FID assumes than
    after it), times `feature_scale`, a constant stored with the weights: the unit of the metrics.
    """

    feature_scale: Tensor

    def __init__(self, width: int = 16, features: int = 64) -> None:
        super().__init__()
        self.width, self.num_features = width, features
        self.trunk = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 4 * 4, features),
        )
        self.classify = nn.Sequential(nn.SiLU(), nn.Dropout(0.2), nn.Linear(features, 10))
        self.register_buffer("feature_scale", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        """Return the scaled features (B, D) of `images`, uint8 in [0, 255], shape (B, 1, 8, 8)."""
        features_BD: Tensor = self.trunk(from_uint8(images))
        return features_BD * self.feature_scale

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and the logits (B, 10) of `images`, as `forward` takes them."""
        features_BD: Tensor = self.trunk(from_uint8(images))
        return features_BD * self.feature_scale, self.classify(features_BD)

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits (B, 10) of `images`, floats in [-1, 1], shape (B, 1, 8, 8)."""
        logits: Tensor = self.classify(self.trunk(images))
        return logits


def save_digits_cnn(network: DigitsCNN, path: Path, **metadata: str | int | float) -> None:
    """Write the weights as safetensors, with the shape of the network and `metadata` in the header."""
    from safetensors.torch import save

    header = {"width": network.width, "features": network.num_features, **metadata}
    path.parent.mkdir(parents=True, exist_ok=True)
    # A single entry: the order of several would be random, and equal weights would have different hashes.
    path.write_bytes(save(network.state_dict(), {_HEADER: json.dumps(header)}))


def load_digits_cnn(content: bytes, source: str) -> tuple[DigitsCNN, dict[str, str | int | float]]:
    """Read the bytes of a weights file; return the network, ready to evaluate, and the file's metadata.

    `source` names the file in the `ConfigError` that damaged content raises. Draws no random numbers.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_HEADER])
        with torch.device("meta"):
            network = DigitsCNN(metadata["width"], metadata["features"])
        network.load_state_dict(tensors, assign=True)
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{source} does not hold the weights of the digits extractor: {reason}") from None
    return network.eval().requires_grad_(False), metadata
