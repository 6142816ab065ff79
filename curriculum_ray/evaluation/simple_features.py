"""Features that need no training: fixed-seed random convolutions, and the items themselves.

`random-cnn`: an untrained network with weights from one frozen seed, on three scales. Random filters preserve
much of an image's texture statistics (Ustyuzhaninov et al. 2017, "What does it take to generate natural
textures?"). It detects colours, edges, their co-occurrence within about 10 pixels, noise and blur. It does
not recognise objects: a wrong object with the same texture costs little, and its numbers are not comparable
with Inception's.

`raw`: the flattened values, and for signals also the magnitudes of their spectrum. It detects means,
covariances and frequencies. FID compares only means and covariances, so that it misses a cluster that splits
symmetrically; precision and recall do not.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu

from curriculum_ray.data import from_uint8

__all__ = ["RandomCNN", "RawFeatures", "weights_hash"]

_WIDTHS = (12, 24)
_MIN_SIDE = 8


class RandomCNN(nn.Module):
    """Maps uint8 images (B, 1 or 3, H, W) to the features (B, D) of two random layers on up to three scales.

    The features are the mean and standard deviation of each channel. Each scale halves the side, down to 8
    pixels.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        import numpy

        # The stream of RandomState is frozen by NumPy's compatibility policy (NEP 19): so are the filters.
        source = numpy.random.RandomState(2025)
        self.scales = max(1, min(3, int(math.log2(max(side, _MIN_SIDE) / _MIN_SIDE)) + 1))
        last = channels
        for number, width in enumerate(_WIDTHS):
            # He et al. 2015, Eq. 10: the variance of activations is kept.
            weights = source.standard_normal((width, last, 3, 3)) * math.sqrt(2 / (9 * last))
            offset = source.standard_normal(width) * 0.1
            self.register_buffer(f"weight_{number}", torch.from_numpy(weights).float())
            self.register_buffer(f"bias_{number}", torch.from_numpy(offset).float())
            last = width

    def forward(self, images: Tensor) -> Tensor:
        """Return the features, float32."""
        x = from_uint8(images)
        found = [x.mean((2, 3)), x.std((2, 3))]
        for scale in range(self.scales):
            hidden = x
            for number in range(len(_WIDTHS)):
                weight, bias = self.get_buffer(f"weight_{number}"), self.get_buffer(f"bias_{number}")
                hidden = relu(nn.functional.conv2d(hidden, weight, bias))
                found += [hidden.mean((2, 3)), hidden.std((2, 3))]
            if scale + 1 < self.scales:
                x = avg_pool2d(x, 2)
        return torch.cat(found, dim=1)


class RawFeatures(nn.Module):
    """Maps float items (B, *shape) to their values and, with `spectrum`, the magnitudes of their spectrum."""

    def __init__(self, spectrum: bool = False) -> None:
        super().__init__()
        self.spectrum = spectrum

    def forward(self, items: Tensor) -> Tensor:
        """Return the features, float32, shape (B, D)."""
        values = items.float()
        if not self.spectrum:
            return values.flatten(1)
        magnitudes = torch.fft.rfft(values, norm="ortho").abs()
        return torch.cat([values.flatten(1), magnitudes.flatten(1)], dim=1)


def weights_hash(network: nn.Module) -> str:
    """SHA-256 (hex) of a network's class, settings and weights."""
    digest = hashlib.sha256(f"{type(network).__name__} {getattr(network, 'spectrum', '')}".encode())
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
