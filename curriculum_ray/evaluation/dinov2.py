"""DINOv2's features for FD-DINOv2, from local weights.

The Fréchet distance between DINOv2's features agrees with people's judgement where that between Inception's does not,
for diffusion models above all (Stein et al. 2023, "Exposing flaws of generative model evaluation metrics and their
unfair treatment of diffusion models", §4 and §6; published numbers use ViT-L/14). torch-fidelity's extractor of that
name fetches code and a pickle from the network; this one reads a folder of transformers.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from curriculum_ray.evaluation.local_weights import check_weights, load_network, refused

__all__ = ["DINOv2", "load_dinov2"]

_SIDE = 224
# Of ImageNet, with which DINOv2 was trained.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DINOv2(nn.Module):
    """Maps images to the class token after the last normalisation, of 1,024 numbers for ViT-L/14."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (B, D), float32, of `images`, uint8 (B, 1 or 3, H, W); grey becomes RGB.

        Images are resized to 224x224 by the bicubic filter with antialiasing, to whole numbers of 0 to 255, as Pillow
        does for the published numbers.
        """
        side = (_SIDE, _SIDE)
        resized = nn.functional.interpolate(images.float(), side, mode="bicubic", antialias=True)
        pixels = resized.clamp(0, 255).round() / 255
        normal = (pixels.expand(-1, 3, -1, -1) - self.get_buffer("mean")) / self.get_buffer("std")
        found: Tensor = self.network(pixel_values=normal).pooler_output
        return found


def load_dinov2(folder: Path, sha256: str | None) -> tuple[DINOv2, str]:
    """Load the network in `folder`, as transformers' `save_pretrained` writes it; returns it with its weights' SHA-256.

    sha256: what that must be, if given. Only local safetensors are read, and no code. Raises `ConfigError` without the
    package transformers, and for a folder that holds no DINOv2.
    """
    key, what = "evaluation.weights", "DINOv2"
    found = check_weights(folder, sha256, key, what, "evaluation.extractor dinov2")
    with refused(folder, key, what):
        return DINOv2(load_network(folder, "dinov2", "Dinov2Model")), found
