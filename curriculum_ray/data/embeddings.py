"""Pre-encoded captions of an image folder: `embeddings.safetensors`, which needs no text encoder.

The file holds one tensor per image, (tokens, width), under the image's path within the folder.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.config.regular import check_regular
from curriculum_ray.data.annotations import imageless_line

__all__ = ["EMBEDDINGS_FILE", "has_embeddings", "read_embeddings"]

EMBEDDINGS_FILE = "embeddings.safetensors"


def has_embeddings(folder: Path) -> bool:
    """Return whether `folder` contains the embeddings of its captions."""
    return (folder / EMBEDDINGS_FILE).exists()


def read_embeddings(folder: Path, every: Sequence[str], names: Sequence[str]) -> Tensor:
    """Read the embeddings of the images `names`, some of `every`: float32 (N, length, width), zeros where padded.

    length: that of the longest caption. All zeros is the null condition; a warning counts tensors of no image.
    An image without a tensor, differing widths and non-finite values raise `ConfigError`.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / EMBEDDINGS_FILE
    try:
        check_regular(path)
        with safe_open(path, "pt") as file:
            stored = file.keys()
            missing = sorted(set(names) - set(stored))
            if missing:
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                raise ConfigError(
                    f"{path} must hold a tensor for each image, but has none for {missing[0]}{more}"
                )
            shapes = [tuple(file.get_slice(name).get_shape()) for name in names]
            width = shapes[0][-1] if shapes[0] else 0
            for name, shape in zip(names, shapes, strict=True):
                if len(shape) != 2 or 0 in shape or shape[1] != width:
                    raise ConfigError(
                        f"{path} must hold tensors (tokens, width) of equal width, but {names[0]} is {shapes[0]} "
                        f"and {name} is {shape}"
                    )
            out = torch.zeros(len(names), max(tokens for tokens, _ in shapes), width)
            for row, name in enumerate(names):
                value = file.get_tensor(name)
                if not value.is_floating_point() or not value.isfinite().all():
                    raise ConfigError(f"{path} must hold finite floats, but {name} has other values")
                out[row, : len(value)] = value
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} cannot be read as embeddings of captions: {reason}") from None
    if line := imageless_line("tensors", stored, every):
        warnings.warn(f"embeddings of {folder}: {line}", stacklevel=5)
    return out
