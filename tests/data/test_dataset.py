"""Pixels survive the way between float and uint8, and a fingerprint stands for the pixels."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum_ray.data import NO_CONDITIONING, Dataset, from_uint8, to_uint8


def test_every_byte_survives_the_way_through_float() -> None:
    bytes_ = torch.arange(256, dtype=torch.uint8)
    floats = from_uint8(bytes_)
    assert floats.dtype == torch.float32
    assert floats.min() == -1
    assert floats.max() == 1
    assert torch.equal(to_uint8(floats), bytes_)


@settings(deadline=None)
@given(value=st.floats(-2, 2, width=32))
def test_a_byte_is_the_nearest_to_the_value_within_the_range(value: float) -> None:
    back = from_uint8(to_uint8(torch.tensor(value))).item()
    assert abs(back - max(-1, min(1, value))) <= 1 / 255 + 1e-6


def test_values_outside_the_range_are_clamped() -> None:
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_the_fingerprint_follows_pixels_and_order_but_not_the_name() -> None:
    images = torch.linspace(-1, 1, 32).reshape(2, 1, 4, 4)
    one = Dataset("a", images).fingerprint
    assert Dataset("b", images.clone()).fingerprint == one
    assert Dataset("a", images.flip(0)).fingerprint != one
    assert len(one) == 64


def test_without_labels_there_are_no_classes() -> None:
    data = Dataset("a", torch.zeros(2, 3, 4, 5))
    assert data.conditioning == NO_CONDITIONING
    assert data.shape == (3, 4, 5)
    assert len(data) == 2
