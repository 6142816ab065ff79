"""Protects: a sampler that never hears of an update, or not of the other ranks, does not go on without a word."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from curriculum_ray.config import ConfigError
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


def _pretend(monkeypatch: pytest.MonkeyPatch, rank: int, ranks: int) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda group=None: rank)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: ranks)


def test_a_sampler_made_before_the_process_group_is_refused_at_its_first_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    early, resumed = _sampler(), _sampler()
    resumed.sample(4)
    resumed.update(0.5)
    state = resumed.state_dict()
    _pretend(monkeypatch, 3, 8)
    line = "made for rank 0 of world_size 1, but torch.distributed has rank 3 of 8: create it after"
    with pytest.raises(ConfigError, match=line):
        early.sample(4)
    resumed.sample(4)
    resumed.load_state_dict(state)
    with pytest.raises(ConfigError, match=line):
        resumed.sample(4)
    late = _sampler()
    assert (late.rank, late.world_size) == (3, 8)
    late.sample(4)


def test_a_rank_that_is_given_stands_whatever_the_process_group_is(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = TimestepSampler(CurriculumSchedule.uniform(), num_timesteps=1000, rank=0, world_size=1)
    _pretend(monkeypatch, 3, 8)
    sampler.load_state_dict(sampler.state_dict())
    assert len(sampler.sample(4)) == 4


PLATEAU = {
    "clusters": {"by": "uniform", "count": 4},
    "order": {"direction": "easy_to_hard"},
    "pacing": {"rule": "plateau", "patience": 3},
}


@pytest.mark.parametrize(
    ("groups", "reader"),
    [(PLATEAU, "pacing by losses"), ({"importance": {"rule": "gradient_norm"}}, "importance")],
)
def test_losses_are_averaged_over_the_ranks_of_the_process_group_or_not_at_all(
    groups: dict[str, Any], reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = CurriculumSchedule.from_dict(groups)
    _pretend(monkeypatch, 1, 8)
    line = (
        f"^{reader} averages .* process_group, so world_size must be .*, 8 in torch.distributed, but got 4$"
    )
    with pytest.raises(ConfigError, match=line):
        TimestepSampler(schedule, num_timesteps=1000, rank=1, world_size=4)
    for ranks in (1, 8):
        TimestepSampler(schedule, num_timesteps=1000, rank=0, world_size=ranks)
    # Draws alone need no process group.
    TimestepSampler(CurriculumSchedule.uniform(), num_timesteps=1000, rank=1, world_size=4).sample(4)
