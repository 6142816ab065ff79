"""Crops of the two photographs that scikit-learn ships: real natural-image statistics without a download."""

from __future__ import annotations

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image

from curriculum_ray.data.dataset import Dataset
from curriculum_ray.data.digits import scikit_learn_file

__all__ = ["PHOTO_COUNT", "load_photos"]

PHOTO_COUNT = 8_192
# Each pixel of a crop averages `zoom` x `zoom` pixels of the photograph: textures, objects, and parts of
# scenes.
_ZOOMS = (1, 2, 4, 8)


def load_photos(size: int = 16) -> Dataset:
    """Return a fixed set of 8,192 colour crops, shape (8192, 3, size, size), half of them mirrored.

    size: side in pixels, 16 or 32. Crops are downsampled by 1, 2, 4 or 8 in turn, so that all scales are
    equally frequent.
    """
    photographs = _photographs()
    # What lies above and left of each point, summed: the sum of any block is four of these numbers.
    sums = [
        numpy.pad(photograph.astype(numpy.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0), (0, 0)))
        for photograph in photographs
    ]
    # The stream of RandomState is frozen by NumPy's compatibility policy (NEP 19): the crops never change.
    source = numpy.random.RandomState(0)
    crops = numpy.empty((PHOTO_COUNT, size, size, 3), dtype=numpy.uint8)
    for index in range(PHOTO_COUNT):
        chosen = source.randint(len(photographs))
        zoom = _ZOOMS[index % len(_ZOOMS)]
        side = size * zoom
        top = source.randint(photographs[chosen].shape[0] - side + 1)
        left = source.randint(photographs[chosen].shape[1] - side + 1)
        mirrored = source.randint(2)
        corners = sums[chosen][top : top + side + 1 : zoom, left : left + side + 1 : zoom]
        blocks = corners[1:, 1:] - corners[:-1, 1:] - corners[1:, :-1] + corners[:-1, :-1]
        crop = (blocks / zoom**2).round()
        crops[index] = crop[:, ::-1] if mirrored else crop
    return Dataset(name="photos", stored=torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous())


def _photographs() -> list[NDArray[numpy.uint8]]:
    """Shape (427, 640, 3) each; importing scikit-learn for its two files would take two seconds."""
    paths = sorted(scikit_learn_file("images").glob("*.jpg"))
    return [numpy.asarray(Image.open(path)) for path in paths]
