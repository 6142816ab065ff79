"""Small folders of images for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Dataset, DataSpec, load_data


def draw(root: Path, *names: str) -> None:
    """An image at each of `names`, no two alike."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        number = len(list(root.rglob("*")))
        Image.new("RGB", (8, 8), (number % 256, number // 256, 9)).save(path, format="PNG")


def load(root: Path, **settings: Any) -> Dataset:
    return load_data(DataSpec(name=str(root), image_size=8, **settings))


def captions_of(data: Dataset) -> list[str]:
    """The caption of each image, as the network reads it."""
    assert data.condition is not None
    return [" ".join(data.vocabulary[token] for token in row if token) for row in data.condition.tolist()]


def refused(root: Path, words: str, **settings: Any) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        load(root, **settings)
    assert "\n" not in str(error.value)
