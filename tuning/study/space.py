"""The search space of a study: a YAML file of dotted keys into a run's settings, as an Optuna function."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from curriculum_ray.config import YAML_SUFFIXES, ConfigError, Spec, flatten, load_yaml, parse
from curriculum_ray.config.keys import is_known, meant_by
from curriculum_ray.config.shown import shown
from curriculum_ray.runs.config import RunConfig
from tuning.study.overlay import dotted, lay_over, merge
from tuning.study.parameters import CategoricalRange, Range, Value, among, listed

__all__ = ["SearchSpace", "SpaceFunction"]


class SearchSpace(Spec):
    """The search space of a study, and the values that it fixes."""

    version: Literal[1]
    """The version of the file's format."""
    name: str = "space"
    """A short name for tables and run names."""
    fixed: dict[str, Any] = Field(default_factory=dict)
    """Settings laid over the run's own, e.g. {schedule: {...}}; searched keys are laid over these."""
    search: dict[str, Range] = Field(min_length=1)
    """Dotted keys into the run's settings, e.g. schedule.clusters.count, and their ranges."""
    start: list[dict[str, Any]] = Field(default_factory=list)
    """Points, by searched key, that are tried before the sampler chooses."""
    rivals: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Rivals of a curriculum, besides uniform sampling: a name and dotted keys, e.g. {weighting.kind: min_snr}."""

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Choices of kinds by the key of the kind: `weighting`, one of none and min_snr, is `weighting.kind`."""
        search = values.get("search")
        if not isinstance(search, Mapping):
            return values
        names = {key: _key_of_kind(key, span) for key, span in search.items()}
        for key, name in names.items():
            if name != key and name in search:
                raise ValueError(
                    f"search has both {key} and {name}, which are the same: leave one of them out"
                )
        groups: dict[str, Any] = {
            "search": {names[key]: _renamed(span, "when", names) for key, span in search.items()}
        }
        if isinstance(start := values.get("start"), list):
            groups["start"] = [_with_names(point, names) for point in start]
        return {**values, **groups}

    @model_validator(mode="after")
    def _consistent(self) -> SearchSpace:
        seen: set[str] = set()
        for key, span in self.search.items():
            for other in span.when:
                if other not in seen:
                    raise ValueError(
                        f"search.{key}.when names {other}, which must be a searched key above it"
                    )
                for value in listed(span.when[other]):
                    if not self.search[other].holds(value):
                        raise ValueError(f"search.{key}.when names {shown(value)}, which {other} never is")
            if key not in self._point(self._conditions(key)):
                raise ValueError(f"search.{key} never exists, for its conditions exclude each other")
            seen.add(key)
        for point in self.start:
            for key, value in point.items():
                if key not in self.search:
                    raise ValueError(f"start names {key}, which is not a searched key")
                if not self.search[key].holds(value):
                    raise ValueError(f"start.{key} must lie in its range, but got {value!r}")
                if not self.search[key].exists(point):
                    raise ValueError(f"start.{key} does not exist where its condition, when, does not hold")
        return self

    @classmethod
    def load(cls, name: str) -> SearchSpace:
        """Read a space: a shipped one by its name, or a YAML file by its path."""
        shipped = {
            path.name.removesuffix(".yaml"): path for path in _shipped() if path.name.endswith(".yaml")
        }
        if name in shipped:
            with resources.as_file(shipped[name]) as path:
                return cls._read(path, name, name)
        if Path(name).suffix not in YAML_SUFFIXES:
            raise ConfigError(
                f"--space must be one of {', '.join(sorted(shipped))} or a .yaml file, but got {name}"
            )
        return cls._read(Path(name), Path(name).stem, name)

    @classmethod
    def of_arms(cls) -> SearchSpace:
        """The space of a study of named arms: nothing is searched, which a file may not ask for."""
        empty: dict[str, Any] = {"fixed": {}, "search": {}, "start": [], "rivals": {}}
        return cls.model_construct(version=1, name="arms", **empty)

    @classmethod
    def _read(cls, path: Path, name: str, source: str) -> SearchSpace:
        """Read a file whose keys are those of a run; ConfigError naming `source` and the key that was meant."""
        space = parse(cls, {"name": name, **load_yaml(path)}, source)
        laid = {"search": space.search, "fixed": flatten(space.fixed)}
        laid |= {f"rivals.{rival}": keys for rival, keys in space.rivals.items()}
        for place, keys in laid.items():
            for key in keys:
                if not is_known(RunConfig, key):
                    meant = meant_by(RunConfig, key)
                    raise ConfigError(f"{source}: {place}.{key} is not a key of a run{meant}")
        return space

    def apply(self, config: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
        """A run's settings with the fixed part and the searched values of `point` laid over `config`."""
        return lay_over(merge(config, self.fixed), point, f"{self.name}: search")

    def probes(self) -> list[dict[str, Any]]:
        """Points that together hold every choice and both ends of every range, each where it exists."""
        points = []
        for key, span in self.search.items():
            ends = span.choices if isinstance(span, CategoricalRange) else [span.low, span.high]
            points += [self._point({**self._conditions(key), key: value}) for value in ends]
        return points

    def _conditions(self, key: str) -> dict[str, Any]:
        """Values of the keys that `key` depends on at which it exists; a key without a possible value is missing."""
        allowed: dict[str, list[Value]] = {}
        waiting = [key]
        while waiting:
            for other, values in self.search[waiting.pop()].when.items():
                known = allowed.get(other)
                both = [value for value in listed(values) if known is None or among(value, known)]
                allowed[other] = both
                waiting.append(other)
        return {other: values[0] for other, values in allowed.items() if values}

    def _point(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A point with the `given` values, and the first choice or lower end of every other key that exists."""
        point: dict[str, Any] = {}
        for key, span in self.search.items():
            if span.exists(point):
                first = span.choices[0] if isinstance(span, CategoricalRange) else span.low
                point[key] = given.get(key, first)
        return point


def _key_of_kind(key: Any, span: Any) -> Any:
    """The key of the kind that all choices of a searched key name, e.g. weighting.kind of weighting; else `key`."""
    choices = span.get("choices") if isinstance(span, Mapping) else None
    if (
        not isinstance(key, str)
        or not isinstance(choices, list)
        or not all(isinstance(each, str) for each in choices)
    ):
        return key
    found = {name for each in choices for name in dotted({key: each}, "search")}
    return found.pop() if len(found) == 1 else key


def _renamed(span: Any, key: str, names: Mapping[Any, Any]) -> Any:
    return {**span, key: _with_names(span[key], names)} if isinstance(span, Mapping) and key in span else span


def _with_names(values: Any, names: Mapping[Any, Any]) -> Any:
    """`values` with each key by its name in `names`."""
    if not isinstance(values, Mapping):
        return values
    return {names.get(key, key): value for key, value in values.items()}


def _shipped() -> list[Any]:
    return list(resources.files("tuning").joinpath("spaces").iterdir())


class SpaceFunction:
    """The space as Optuna's define-by-run function: conditional keys are suggested only where they exist."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def __call__(self, trial: Any) -> None:
        chosen: dict[str, Any] = {}
        for key, span in self.space.search.items():
            if span.exists(chosen):
                chosen[key] = span.suggest(trial, key)
