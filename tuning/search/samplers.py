"""Optuna's samplers, and the storage of its study; `optuna-dashboard` opens either kind of storage.

optuna-dashboard runs/STUDY/optuna.journal        # pip install optuna-dashboard; not needed otherwise
optuna-dashboard sqlite:///runs/STUDY/optuna.db
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend

from curriculum_ray.addresses import presentable, without_secrets
from curriculum_ray.config import ConfigError
from tuning.folder.identity import Identity
from tuning.folder.layout import JOURNAL_FILE, OPTUNA_DATABASE_FILE
from tuning.study.config import StudyConfig
from tuning.study.parameters import CategoricalRange, FloatRange, IntRange
from tuning.study.space import SearchSpace

__all__ = ["TPE_LATEST", "check_sampler", "make_sampler", "open_storage", "study_name"]

TPE_LATEST = 250
"""Trials that ended of which TPE is shown the latest, besides the best: it must not wait for more at random."""
_MOST_POINTS = 100_000
"""Of a grid, which is built completely."""


def open_storage(storage: str | None, folder: Path) -> optuna.storages.BaseStorage:
    """A journal in `folder` (one writer, many readers), an SQLite file there for "sqlite", or the RDB of a URL."""
    if storage is None:
        return optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL_FILE)))
    url = f"sqlite:///{folder / OPTUNA_DATABASE_FILE}" if storage == "sqlite" else storage
    if "://" not in url:
        raise ConfigError(f"storage must be null, sqlite or a database URL, but got {presentable(storage)!r}")
    if _in_memory(url):
        raise ConfigError(
            f"storage {presentable(url)} is in memory and gone when the search ends: sqlite keeps a file in the "
            "study's folder"
        )
    try:
        return optuna.storages.RDBStorage(url)
    except Exception as error:
        reason = without_secrets(next(iter(str(error).splitlines()), ""), url)
        raise ConfigError(
            f"storage {presentable(url)} cannot be opened: {type(error).__name__}: {reason}"
        ) from None


def _in_memory(url: str) -> bool:
    scheme, _, rest = url.partition("://")
    path = rest.removeprefix("/")
    return scheme.partition("+")[0] == "sqlite" and (path in ("", ":memory:") or "mode=memory" in path)


def study_name(storage: str | None, name: str, identity: Identity) -> str:
    """The name of a study in Optuna: a database may hold several of the same name, a folder holds one."""
    return "curriculum" if storage in (None, "sqlite") else f"{name}-{identity.short}"


def check_sampler(config: StudyConfig, space: SearchSpace) -> None:
    """Raise a one-line ConfigError where the sampler in the settings cannot work with the space."""
    if config.sampler == "grid":
        points = math.prod(map(len, _grid(space).values()))
        if points > _MOST_POINTS:
            raise ConfigError(
                f"sampler grid takes {_MOST_POINTS:,} points at most, but space {space.name} has {points:,}"
            )
        if config.trials > points:
            raise ConfigError(
                f"trials must be at most {points}, the points of space {space.name}, with sampler grid, "
                f"but got {config.trials}"
            )
        if space.start:
            raise ConfigError(
                f"sampler grid tries every point in its own order: leave start out of space {space.name}"
            )
    if config.sampler in ("gp", "cmaes"):
        _no_conditions(space, config.sampler)
    numbers = [span for span in space.search.values() if isinstance(span, IntRange | FloatRange)]
    if config.sampler == "cmaes" and len(numbers) < 2:
        raise ConfigError(
            f"sampler cmaes needs at least two searched numbers, but space {space.name} has {len(numbers)}"
        )


def make_sampler(config: StudyConfig, space: SearchSpace, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler in the settings, for one suggestion; `seed` is that of the suggestion, in [0, 2**32).

    A grid is shuffled by the study's seed: its k-th trial is the k-th point.
    """
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    few = max(4, config.trials // 4)
    match config.sampler:
        case "tpe":
            # Grouped: conditional parameters are modelled over the trials that have them.
            return optuna.samplers.TPESampler(
                seed=seed,
                multivariate=True,
                group=True,
                constant_liar=True,
                n_startup_trials=min(few, TPE_LATEST),
            )
        case "nsgaii":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=few)
        case "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=few)
        case "cmaes":
            return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        case "grid":
            return optuna.samplers.GridSampler(_grid(space), seed=config.seed)
        case "random":
            return optuna.samplers.RandomSampler(seed=seed)


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
