"""Inception-v3 for FID (Heusel et al. 2017), from weights whose hash is verified before they are read."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError

__all__ = ["INCEPTION_SHA256", "Inception", "find_weights", "load_inception", "read_verified"]

INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""SHA-256 of the published weights file, which torch-fidelity downloads."""


class Inception(nn.Module):
    """torch-fidelity's Inception-v3 with the 2048 features of FID, KID, precision and recall."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (B, 2048) of `images`, uint8 (B, 1 or 3, H, W); grey becomes RGB."""
        return self.features_and_logits(images)[0]

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features, and the logits (B, 1008) without their bias, of which torch-fidelity makes its score."""
        features, logits = self.network(images.expand(-1, 3, -1, -1))
        return features, logits


def find_weights(path: str | None) -> Path:
    """Return the weights file: `path`, or torch-fidelity's, which is downloaded if missing.

    Raises `ConfigError` if there is no file and the download fails.
    """
    if path is not None:
        return Path(path)
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    cached = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rsplit("/", 1)[-1]
    if not cached.exists():
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(cached), INCEPTION_SHA256, progress=False)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"inception-v3's weights cannot be downloaded ({reason}): give a local copy of "
                f"{cached.name} as evaluation.weights"
            ) from None
    return cached


def read_verified(path: str | Path, sha256: str) -> bytes:
    """Return the uninterpreted content of the file at `path`, whose SHA-256 must be `sha256`."""
    try:
        content = Path(os.path.expanduser(path)).read_bytes()
    except OSError as error:
        raise ConfigError(f"evaluation.weights {path} cannot be read: {error.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ConfigError(f"evaluation.weights {path} must have the SHA-256 {sha256}, but has {found}")
    return content


def load_inception(content: bytes, source: str) -> Inception:
    """Build the network from the verified bytes of its weights file, without drawing global random numbers.

    torch-fidelity unpickles its file. It gets a copy in memory that contains only the tensors which
    `torch.load(weights_only=True)` found.
    """
    from torch_fidelity import FeatureExtractorInceptionV3

    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError("it is not a mapping of names to tensors")
        tensors = io.BytesIO()
        torch.save(dict(state), tensors)
        tensors.seek(0)
        with torch.random.fork_rng(devices=[]):
            network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], tensors)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{source} does not hold the weights of inception-v3: {reason}") from None
    return Inception(network).eval()
