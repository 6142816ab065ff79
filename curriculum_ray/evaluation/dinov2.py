"""DINOv2's features for FD-DINOv2, from local weights.

The Fréchet distance between DINOv2's features agrees with people's judgement where that between Inception's does not,
for diffusion models above all (Stein et al. 2023, "Exposing flaws of generative model evaluation metrics and their
unfair treatment of diffusion models", §4 and §6; published numbers use ViT-L/14). torch-fidelity's extractor of that
name fetches code and a pickle from the network; this one reads a folder of transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError
from curriculum_ray.data.text_encoder import encoder_hash
from curriculum_ray.extras import install_command

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
    if not folder.is_dir():
        raise ConfigError(f"evaluation.weights {folder} must be a folder with a DINOv2, but is not a folder")
    found = encoder_hash(folder)
    if sha256 not in (None, found):
        raise ConfigError(f"evaluation.weights {folder} must have the SHA-256 {sha256}, but has {found}")
    try:
        import transformers
    except ImportError:
        raise ConfigError(
            f"evaluation.extractor dinov2 needs the package transformers: {install_command('transformers')}"
        ) from None
    transformers.utils.logging.disable_progress_bar()
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        kind = transformers.AutoConfig.from_pretrained(folder, **local).model_type
        if kind != "dinov2":
            raise ValueError(f"its model_type is {kind}")
        with torch.random.fork_rng(devices=[]):
            network, notes = transformers.Dinov2Model.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
        lacking = sorted(notes["missing_keys"])
        if lacking:
            raise ValueError(f"its weights lack {lacking[0]} and {len(lacking) - 1} more")
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"evaluation.weights {folder} does not hold a DINOv2: {reason}") from None
    return DINOv2(network.eval().requires_grad_(False)), found
