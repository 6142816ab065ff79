"""Images are stored as bytes, and everything that is computed from them is as it is from float32."""

from __future__ import annotations

import torch

from curriculum_ray.data import Dataset, DataSpec, InMemoryBatches, load_data
from curriculum_ray.data.dataset import from_uint8, to_uint8
from curriculum_ray.data.holdout import hold_out

BYTES = torch.randint(256, (2000, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_set_of_bytes_is_the_set_of_its_floats_to_the_bit() -> None:
    stored, floats = Dataset("set", BYTES), Dataset("set", from_uint8(BYTES))
    assert stored.fingerprint == floats.fingerprint
    assert torch.equal(stored.items, floats.items)
    for one, other in zip(_sides(stored), _sides(floats), strict=True):
        assert one.fingerprint == other.fingerprint
    cpu = torch.device("cpu")
    batches = [InMemoryBatches(data, 0, cpu, False).next(64, 32, 0, 1, cpu)[0] for data in (stored, floats)]
    assert torch.equal(*batches)


def _sides(data: Dataset) -> list[Dataset]:
    kept = hold_out(data, 0.2)
    assert kept.heldout is not None
    return [kept, kept.heldout]


def test_every_byte_is_the_quotient_in_single_precision_and_comes_back() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(from_uint8(every), every.float() / 127.5 - 1)
    assert torch.equal(to_uint8(from_uint8(every)), every)
    assert to_uint8(every) is every


def test_sets_of_8_bit_images_are_stored_as_bytes() -> None:
    for name in ("photos", "shapes"):
        data = load_data(DataSpec(name=name))
        assert data.stored.dtype == torch.uint8
        assert data.heldout is not None
        assert data.heldout.stored.dtype == torch.uint8
    assert load_data(DataSpec()).stored.dtype == torch.float32
