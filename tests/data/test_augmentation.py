"""Flips and crops depend on the seed and an image's place only, and touch nothing but what is trained on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import Dataset, DataSpec, InMemoryBatches, load_data
from curriculum_ray.data.augmentation import AugmentedBatches, augmented, flip_and_crop
from curriculum_ray.splitmix import mix, mix_each
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.trainer import Trainer

CPU = torch.device("cpu")
DATA = Dataset(
    "pictures", torch.randint(256, (24, 3, 6, 8), dtype=torch.uint8), torch.arange(24) % 2, ("a", "b")
)


def _batches(seed: int = 3, flip: bool = True, padding: int = 2) -> AugmentedBatches:
    return AugmentedBatches(InMemoryBatches(DATA, seed, CPU, True), flip, padding, seed)


def test_each_hash_is_that_of_its_number() -> None:
    assert mix_each((5, 7), range(3, 40, 9)).tolist() == [mix(5, 7, value) for value in range(3, 40, 9)]


def test_a_crop_is_a_window_of_the_padded_image_and_a_flip_mirrors_it() -> None:
    items = torch.randn(50, 2, 5, 7)
    flips = torch.rand(50) < 0.5
    shifts = torch.randint(-2, 3, (2, 50))
    padded = torch.nn.functional.pad(items, (2, 2, 2, 2), mode="reflect")
    for found, image, flip, (down, right) in zip(
        flip_and_crop(items, flips, shifts), padded, flips, shifts.t() + 2, strict=True
    ):
        window = image[:, down : down + 5, right : right + 7]
        assert torch.equal(found, window.flip(-1) if flip else window)


def test_all_ranks_together_see_what_one_sees_and_a_resume_goes_on_alike() -> None:
    whole, condition = _batches().next(48, 12, 0, 1, CPU)
    assert condition is not None
    for rank in range(3):
        part, told = _batches().next(48, 12, rank, 3, CPU)
        assert torch.equal(part, whole[rank::3])
        assert told is not None
        assert torch.equal(told, condition[rank::3])


def test_an_image_is_drawn_anew_when_it_is_seen_again_and_by_another_seed() -> None:
    once, again = (flat(_batches(), images) for images in (0, 24))
    assert once != again
    assert flat(_batches(), 0) == once
    assert flat(_batches(4), 0) != once


def flat(batches: AugmentedBatches, images: int) -> set[bytes]:
    """The images of an epoch, whatever their order."""
    return {item.numpy().tobytes() for item in batches.next(images, 24, 0, 1, CPU)[0]}


def test_half_are_mirrored_and_every_shift_occurs() -> None:
    ramp = Dataset("ramp", torch.arange(8.0).expand(4, 1, 8, 8).contiguous() / 8)
    items, _ = AugmentedBatches(InMemoryBatches(ramp, 0, CPU, False), True, 0, 0).next(0, 4096, 0, 1, CPU)
    mirrored = (items[:, 0, 0, 0] > 0.5).double().mean()
    assert abs(mirrored - 0.5) < 0.05
    items, _ = AugmentedBatches(InMemoryBatches(ramp, 0, CPU, False), False, 2, 0).next(0, 4096, 0, 1, CPU)
    # The middle column says by how much an image was shifted to the side.
    counts = (items[:, 0, 0, 4] * 8 - 2).long().bincount(minlength=5)
    assert len(counts) == 5
    assert counts.min() > 700


def test_without_flips_and_crops_batches_are_the_same_object() -> None:
    batches = InMemoryBatches(DATA, 0, CPU, True)
    assert augmented(batches, DataSpec(), 0) is batches


def test_held_out_items_and_the_data_are_those_without_flips_and_crops() -> None:
    plain, changed = load_data(DataSpec()), load_data(DataSpec(flip=True, crop=1))
    assert changed.fingerprint == plain.fingerprint
    assert changed.heldout is not None
    assert plain.heldout is not None
    assert changed.heldout.fingerprint == plain.heldout.fingerprint


def test_a_run_reads_what_the_settings_say() -> None:
    settings: dict[str, Any] = {"batch_size": 8, "images": 16, "model": {"base_channels": 4}, "heldout": None}
    plain = Trainer(TrainConfig.model_validate(settings), load_data(DataSpec()))
    changed = Trainer(TrainConfig.model_validate({**settings, "data": {"crop": 2}}), load_data(DataSpec()))
    assert not torch.equal(plain.draw()[0], changed.draw()[0])
    assert torch.equal(plain.draw()[1], changed.draw()[1])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"name": "mixture2d", "flip": True},
            "data.flip is for images, not for mixture2d: leave it out, but got True",
        ),
        ({"name": "tones", "crop": 2}, "data.crop is for images, not for tones: leave it out, but got 2"),
        ({"name": "x", "format": "latents", "flip": True}, "data.flip is for images, not for latents"),
        ({"crop": 5}, "data.crop must be at most 4, half the side, but got 5"),
        (
            {"name": "photos", "image_size": 32, "crop": 17},
            "data.crop must be at most 16, half the side, but got 17",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(DataSpec, values, "settings")
