"""Protects: a sampler that never hears of an update does not give one noise level for ever without a word."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler


def _sampler() -> TimestepSampler:
    return TimestepSampler(CurriculumSchedule.uniform(), num_timesteps=1000)


class _Noised(Dataset[int]):
    """Draws its own timestep, as a data set's transform would."""

    def __init__(self, sampler: TimestepSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        return int(self.sampler.sample(1)[0])


@pytest.mark.parametrize("drawn_before", [False, True])
def test_drawing_in_a_loaders_worker_is_refused(drawn_before: bool) -> None:
    sampler = _sampler()
    if drawn_before:
        sampler.sample(1)
        sampler.update(0.5)
    loader = DataLoader(_Noised(sampler), batch_size=4, num_workers=1)
    with pytest.raises(ValueError, match="inside a DataLoader worker"):
        list(loader)


def test_a_forgotten_update_is_said_once() -> None:
    sampler = _sampler()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(50):
            sampler.sample(4)
    assert len(said) == 1
    assert "without update(loss)" in str(said[0].message)
    assert said[0].filename == __file__


def test_a_loop_as_it_should_be_is_not_warned_of() -> None:
    sampler = _sampler()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(20):
            first = sampler.sample(4)
            assert torch.equal(sampler.sample(4), first)
            sampler.update(0.5)
