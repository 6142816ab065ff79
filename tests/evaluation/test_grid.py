"""A grid of samples that a person can look at."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from curriculum_ray.evaluation import save_grid
from curriculum_ray.evaluation.grid import make_grid


def test_each_pixel_becomes_a_square_of_its_own_value() -> None:
    samples = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 2, 2) * 60
    grid = make_grid(samples, cell=6)  # factor 3, gap 2
    assert grid.shape == (1, 10, 10)
    assert grid[0, 2:5, 2:5].unique().tolist() == [0]
    assert grid[0, 5:8, 5:8].unique().tolist() == [180]


def test_samples_stand_in_reading_order_and_the_last_row_may_be_short() -> None:
    samples = torch.tensor([10, 20, 30], dtype=torch.uint8).reshape(3, 1, 1, 1)
    grid = make_grid(samples, columns=2, cell=1)
    assert grid[0, 2::3, 2::3].tolist() == [[10, 20], [30, 64]]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_file_is_a_png_of_the_first_samples(tmp_path: Path, channels: int) -> None:
    samples = torch.randint(0, 256, (70, channels, 8, 8), dtype=torch.uint8)
    path = tmp_path / "folder" / "samples.png"
    save_grid(samples, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.mode == ("L" if channels == 1 else "RGB")
        pixels = torch.from_numpy(numpy.array(image)).reshape(*reversed(image.size), channels)
    assert torch.equal(pixels.permute(2, 0, 1), make_grid(samples[:64]))


def test_large_images_keep_their_size() -> None:
    grid = make_grid(torch.zeros(1, 3, 100, 100, dtype=torch.uint8))
    assert grid.shape == (3, 104, 104)
