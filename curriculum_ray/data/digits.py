"""The 1,797 handwritten 8×8 digits that scikit-learn ships: real images without a download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy
import torch
from torch import Tensor

from curriculum_ray.data.dataset import Dataset

__all__ = ["digits_split", "load_digits", "scikit_learn_file"]


def load_digits() -> Dataset:
    """Return all 1,797 digits, shape (1797, 1, 8, 8), ink counts 0 .. 16 mapped to [-1, 1], labels 0 .. 9.

    They are read directly from scikit-learn's file: importing scikit-learn takes two seconds in every process.
    Raises ModuleNotFoundError where it is not installed.
    """
    rows = torch.from_numpy(
        numpy.loadtxt(scikit_learn_file("data", "digits.csv.gz"), delimiter=",", dtype=numpy.uint8)
    )
    return Dataset(
        name="digits",
        stored=rows[:, :-1].to(torch.float32).reshape(-1, 1, 8, 8) / 8 - 1,
        condition=rows[:, -1].long(),
        class_names=tuple(str(digit) for digit in range(10)),
    )


def scikit_learn_file(*parts: str) -> Path:
    """The path of data that scikit-learn ships, below its `datasets`."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    return Path(package.origin).parent.joinpath("datasets", *parts)


def digits_split() -> tuple[Tensor, Tensor]:
    """Return the indices (long, ascending) of a fixed stratified split: about 80% train, 20% held out.

    Only the feature extractor uses it; the items held out from diffusion models are chosen by `hold_out`.
    """
    # The stream of RandomState is frozen by NumPy's compatibility policy (NEP 19): the split never changes.
    order = torch.from_numpy(numpy.random.RandomState(0).permutation(1797))
    labels = load_digits().condition
    assert labels is not None
    held_out = torch.cat(
        [mine[: round(len(mine) / 5)] for mine in (order[labels[order] == k] for k in range(10))]
    )
    is_held_out = torch.zeros(1797, dtype=torch.bool).index_fill(0, held_out, True)
    return (~is_held_out).nonzero().flatten(), is_held_out.nonzero().flatten()
