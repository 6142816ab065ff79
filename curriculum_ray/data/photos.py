"""Crops of the two photographs that scikit-learn ships: real natural-image statistics without a download."""

from __future__ import annotations

import torch

from curriculum_ray.data.dataset import Dataset, from_uint8

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
    import numpy
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    # The stream of RandomState is frozen by NumPy's compatibility policy (NEP 19): the crops never change.
    source = numpy.random.RandomState(0)
    crops = numpy.empty((PHOTO_COUNT, size, size, 3), dtype=numpy.uint8)
    for index in range(PHOTO_COUNT):
        photograph = photographs[source.randint(len(photographs))]
        zoom = _ZOOMS[index % len(_ZOOMS)]
        side = size * zoom
        top = source.randint(photograph.shape[0] - side + 1)
        left = source.randint(photograph.shape[1] - side + 1)
        mirrored = source.randint(2)
        crop = photograph[top : top + side, left : left + side]
        crop = crop.reshape(size, zoom, size, zoom, 3).mean(axis=(1, 3)).round()
        crops[index] = crop[:, ::-1] if mirrored else crop
    return Dataset(name="photos", items=from_uint8(torch.from_numpy(crops).permute(0, 3, 1, 2)))
