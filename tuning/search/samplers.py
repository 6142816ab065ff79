"""How Optuna chooses and where it keeps its study; `optuna-dashboard` opens either kind of storage.

optuna-dashboard runs/STUDY/optuna.journal        # pip install optuna-dashboard; not needed otherwise
optuna-dashboard sqlite:///runs/STUDY/optuna.db
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from curriculum_ray.addresses import presentable, without_secrets
from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import shown
from tuning.folder.identity import Identity
from tuning.folder.layout import JOURNAL_FILE, OPTUNA_DATABASE_FILE
from tuning.search.repeatable import OrderedNSGAII, PlainCmaEs, Repeatable
from tuning.search.tpe import BoundedTPE
from tuning.study.config import StudyConfig
from tuning.study.space import CategoricalRange, FloatRange, IntRange, Range, SearchSpace

__all__ = ["check_earlier_trials", "make_sampler", "open_storage", "study_name"]

_MOST_POINTS = 100_000
"""Of a grid, which is made whole."""


def open_storage(storage: str | None, folder: Path) -> optuna.storages.BaseStorage:
    """A journal in `folder` (one writer, many readers), an SQLite file there for "sqlite", or the RDB of a URL."""
    if storage is None:
        return optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL_FILE)))
    url = f"sqlite:///{folder / OPTUNA_DATABASE_FILE}" if storage == "sqlite" else storage
    if "://" not in url:
        raise ConfigError(f"storage must be null, sqlite or a database URL, but got {presentable(storage)!r}")
    try:
        return optuna.storages.RDBStorage(url)
    except Exception as error:
        reason = without_secrets(next(iter(str(error).splitlines()), ""), url)
        raise ConfigError(
            f"storage {presentable(url)} cannot be opened: {type(error).__name__}: {reason}"
        ) from None


def study_name(storage: str | None, name: str, identity: Identity) -> str:
    """What Optuna calls a study: a database may be shared by several, some of one name; a folder holds one."""
    return "curriculum" if storage in (None, "sqlite") else f"{name}-{identity.short}"


class _Grid(optuna.samplers.GridSampler):
    """Optuna's grid for a study that asks and tells; the plan, and not the sampler, ends the study."""

    def after_trial(self, *_: Any) -> None:
        """Optuna's own stops the optimisation after the last point, which fails outside of `optimize`."""


def make_sampler(config: StudyConfig, space: SearchSpace) -> optuna.samplers.BaseSampler:
    """The sampler that the settings name; ConfigError of one line where it cannot work on the space."""
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    if config.sampler == "grid":
        # Its k-th trial is the k-th point of the shuffled grid: it has no memory to lose.
        return _grid_sampler(config, space)
    _check_space(config.sampler, space)
    few = max(4, config.trials // 4)

    def make(seed: int) -> optuna.samplers.BaseSampler:
        match config.sampler:
            case "tpe":
                # Grouped: conditional parameters are modelled among the trials in which they exist.
                return BoundedTPE(
                    seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=few
                )
            case "nsgaii":
                return OrderedNSGAII(seed=seed, population_size=few)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=few)
            case "cmaes":
                return PlainCmaEs(seed=seed, warn_independent_sampling=False)
            case _:
                return optuna.samplers.RandomSampler(seed=seed)

    return Repeatable(make, config.seed)


def _check_space(sampler: str, space: SearchSpace) -> None:
    """Refuse a space that the sampler cannot work on."""
    if sampler in ("gp", "cmaes"):
        _no_conditions(space, sampler)
    numbers = [span for span in space.search.values() if isinstance(span, IntRange | FloatRange)]
    if sampler == "cmaes" and len(numbers) < 2:
        raise ConfigError(
            f"sampler cmaes needs at least two searched numbers, but space {space.name} has {len(numbers)}"
        )


def _grid_sampler(config: StudyConfig, space: SearchSpace) -> _Grid:
    grid = _grid(space)
    points = math.prod(map(len, grid.values()))
    if points > _MOST_POINTS:
        raise ConfigError(
            f"sampler grid takes {_MOST_POINTS:,} points at most, but space {space.name} has {points:,}"
        )
    if config.trials > points:
        raise ConfigError(
            f"trials must be at most {points}, the points of space {space.name}, with sampler grid, "
            f"but got {config.trials}"
        )
    return _Grid(grid, seed=config.seed)


def check_earlier_trials(trials: Iterable[FrozenTrial], space: SearchSpace) -> None:
    """ConfigError where a study holds trials of a space in which a key had other choices, or was no number.

    Optuna keeps one set of choices for each key of a study.
    """
    for trial in trials:
        queued = trial.system_attrs.get("fixed_params", {}) if trial.state == TrialState.WAITING else {}
        for key, span in space.search.items():
            before = trial.distributions.get(key)
            if before is not None and not _compatible(before, span):
                was = f"{_in_words(before)}, and is {span.values()} now"
            elif key in queued and not span.holds(queued[key]):
                was = f"to be tried at {shown(queued[key])}, and is {span.values()} now"
            else:
                continue
            raise ConfigError(
                f"space {space.name} was edited: search.{key} was {was}: choose another --name or --output"
            )


def _compatible(before: BaseDistribution, span: Range) -> bool:
    """Whether Optuna takes the range of a key beside what the key was before."""
    match span:
        case CategoricalRange():
            return isinstance(before, CategoricalDistribution) and list(before.choices) == span.choices
        case IntRange():
            return isinstance(before, IntDistribution) and before.log == span.log
        case FloatRange():
            return isinstance(before, FloatDistribution) and before.log == span.log


def _in_words(before: BaseDistribution) -> str:
    if isinstance(before, CategoricalDistribution):
        return " or ".join(map(str, before.choices))
    kind = "whole" if isinstance(before, IntDistribution) else "real"
    scale = ", by ratios" if getattr(before, "log", False) else ""
    return f"a {kind} number{scale}"


def _no_conditions(space: SearchSpace, sampler: str) -> None:
    key = next((key for key, span in space.search.items() if span.when), None)
    if key is not None:
        raise ConfigError(
            f"sampler {sampler} cannot work with conditional parameters, but search.{key} of space {space.name} "
            "has when: choose tpe, random or nsgaii"
        )


def _grid(space: SearchSpace) -> dict[str, list[str | int | float | bool]]:
    _no_conditions(space, "grid")
    grid: dict[str, list[str | int | float | bool]] = {}
    for key, span in space.search.items():
        match span:
            case CategoricalRange():
                grid[key] = list(span.choices)
            case IntRange():
                if span.high - span.low >= _MOST_POINTS:
                    raise ConfigError(
                        f"sampler grid takes {_MOST_POINTS:,} points at most, but search.{key} of space "
                        f"{space.name} has {span.high - span.low + 1:,} values"
                    )
                grid[key] = list(range(span.low, span.high + 1))
            case _:
                raise ConfigError(
                    f"sampler grid needs choices or whole numbers, but search.{key} of space {space.name} is a float"
                )
    return grid
