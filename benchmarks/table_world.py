"""The schedules of a table as a world in which searches are played: distances, scores and regret."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.trial import FixedTrial
from search_table import PACKED, Row, read_header, read_packed

from curriculum_ray.config import ConfigError, parse
from tuning.evidence.keys import TrialKey
from tuning.study.parameters import CategoricalRange
from tuning.study.space import SearchSpace, SpaceFunction

__all__ = ["JUDGE_SEED", "RACE_SEED", "SEARCH_SEED", "Schedule", "World", "gower"]

SEARCH_SEED, RACE_SEED, JUDGE_SEED = 0, 1, 2


@dataclass(frozen=True)
class Schedule:
    """A schedule of a table, and the runs of it."""

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    full: Mapping[int, Row]
    """Runs at the full budget, by seed: 0 and 1, and 2 where it was run."""
    low: Row | None
    """The run at the smaller budget."""

    def fid(self, seed: int = SEARCH_SEED) -> float:
        """The score of a seed; infinite where the run failed."""
        return self.full[seed].metrics.get("fid", np.inf)

    def mean(self, seeds: Iterable[int] | None = None) -> float:
        """The mean over seeds, all that were run if none are given."""
        return fmean(self.fid(seed) for seed in (self.full if seeds is None else seeds))

    @property
    def judged(self) -> bool:
        """Whether the seed was run that no search looks at."""
        return JUDGE_SEED in self.full


class World:
    """The schedules among which searches choose, and the distance between them."""

    def __init__(self, space: SearchSpace, schedules: Sequence[Schedule]) -> None:
        self.space, self.schedules = space, schedules
        self._places = {key: place for place, key in enumerate(space.search)}
        self._coordinates = np.array([self._of(each.params) for each in schedules])

    @classmethod
    def read(cls, path: Path = PACKED) -> tuple[World, float]:
        """The world of a packed table, and the mean FID of uniform sampling; ConfigError where one is missing."""
        header, rows = read_header(path), read_packed(path)
        full = header["settings"]["images"]
        world = cls.of(parse(SearchSpace, header["space"], str(path)), rows, full)
        plain = [row.metrics["fid"] for row in rows if row.arm == TrialKey.uniform() and row.images == full]
        if not world.schedules or not plain:
            raise ConfigError(
                f"{path} has no schedules with two seeds, or no uniform sampling: run more of it"
            )
        return world, fmean(plain)

    @classmethod
    def of(cls, space: SearchSpace, rows: Iterable[Row], images: int) -> World:
        """All schedules of a table that have both seeds at the full budget, `images`."""
        arms: dict[str, list[Row]] = {}
        for row in rows:
            if TrialKey.searches(row.arm):
                arms.setdefault(row.arm, []).append(row)
        schedules = []
        for own in arms.values():
            full = {row.seed: row for row in own if row.images == images}
            low = next((row for row in own if row.images != images), None)
            if SEARCH_SEED in full and RACE_SEED in full:
                params = own[0].params
                schedules.append(Schedule(params, distributions(space, params), full, low))
        return cls(space, schedules)

    def part(self, places: Iterable[int]) -> World:
        """A world with some of the schedules."""
        return World(self.space, [self.schedules[place] for place in places])

    @cached_property
    def best(self) -> Schedule:
        """The schedule with the best mean over all seeds."""
        return min(self.schedules, key=Schedule.mean)

    def regret(self, chosen: Schedule) -> float:
        """How much worse a schedule is than the best: by the seed that no search looks at if both have it."""
        seeds = (JUDGE_SEED,) if chosen.judged and self.best.judged else (SEARCH_SEED, RACE_SEED)
        return chosen.mean(seeds) - self.best.mean(seeds)

    def nearest(self, point: Mapping[str, Any], taken: Collection[int]) -> int:
        """The place of the schedule nearest to a point of the space among those not yet tried, by `gower`."""
        distance = gower(self._of(point), self._coordinates)
        distance[list(taken)] = np.inf
        return int(distance.argmin())

    def _of(self, point: Mapping[str, Any]) -> np.ndarray:
        """One column a key: a number in [0, 1], 2 + the index of a choice, or NaN where the key does not exist."""
        found = np.full(len(self._places), np.nan)
        for key, value in point.items():
            match self.space.search[key]:
                case CategoricalRange(choices=choices):
                    found[self._places[key]] = 2 + choices.index(value)
                case span:
                    ends = np.array([value, span.low, span.high], dtype=float)
                    at, low, high = np.log(ends) if span.log else ends
                    found[self._places[key]] = (at - low) / (high - low)
        return found


def gower(point: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Gower's distance (1971) from a point to each row: the mean over the keys that exist in either of them.

    Numbers differ by a share of their range. Different choices, and a key that only one has, count 1.
    """
    difference = np.abs(point - others)
    category = (point >= 2) | (others >= 2)
    difference = np.where(category, (difference > 0).astype(float), difference)
    here, there = ~np.isnan(point), ~np.isnan(others)
    difference = np.where(here ^ there, 1.0, np.where(here & there, difference, 0.0))
    return difference.sum(axis=1) / (here | there).sum(axis=1)


def distributions(space: SearchSpace, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """Optuna's distributions of a point of a space."""
    trial = FixedTrial(dict(params))
    SpaceFunction(space)(trial)
    return trial.distributions
