"""Features that need no training: fixed-seed random convolutions and cosines, and the items themselves.

`random-cnn`: an untrained network with weights from one frozen seed, on three scales. Random filters preserve
much of an image's texture statistics (Ustyuzhaninov et al. 2017, "What does it take to generate natural
textures?"). It detects colours, edges, their co-occurrence within about 10 pixels, noise and blur. It does
not recognise objects: a wrong object with the same texture costs little, and its numbers are not comparable
with Inception's.

`random-fourier`: cosines of random projections of points, on five scales (Rahimi & Recht 2007, "Random features
for large-scale kernel machines"). Their means differ wherever two distributions differ on one of these scales, so
that FID compares whole distributions: the distance of the means is a maximum mean discrepancy with Gaussian kernels.

`raw`: the flattened values, and for signals also the magnitudes of their spectrum. It detects means,
covariances and frequencies. FID compares only means and covariances, so that of points it sees next to nothing:
clusters that have run together into a ring are as good as the clusters. Precision and recall do see it.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu

from curriculum_ray.data import from_uint8

__all__ = ["FourierFeatures", "RandomCNN", "RawFeatures", "weights_hash"]

_WIDTHS = (12, 24)
_MIN_SIDE = 8
_SCALES = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""Standard deviations of the Gaussian kernels, in units of the data, which lie within about [-1, 1]."""
_COSINES = 32
"""Of each scale."""


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


class FourierFeatures(nn.Module):
    """Maps points (B, D) to 160 cosines (B, 160), and sets of points (B, D, n) to their means over each set."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        import numpy

        # The stream of RandomState is frozen by NumPy's compatibility policy (NEP 19): so are the projections.
        source = numpy.random.RandomState(2025)
        directions = source.standard_normal((len(_SCALES), _COSINES, dimension))
        offset = source.random_sample(len(_SCALES) * _COSINES) * 2 * math.pi
        frequencies = directions / numpy.array(_SCALES)[:, None, None]
        self.register_buffer("frequencies", torch.from_numpy(frequencies.reshape(-1, dimension)).float())
        self.register_buffer("offset", torch.from_numpy(offset).float())

    def forward(self, items: Tensor) -> Tensor:
        """Return the features, float32."""
        points = items.float().unsqueeze(-1) if items.dim() == 2 else items.float()
        projected = self.get_buffer("frequencies") @ points + self.get_buffer("offset")[:, None]
        return projected.cos().mean(-1)


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
