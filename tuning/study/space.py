"""The space that a study searches: a YAML file of dotted keys into a run's settings, as an Optuna function."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from curriculum_ray.config import ConfigError, Spec, load_yaml, parse, with_key
from curriculum_ray.config.shown import shown

__all__ = ["CategoricalRange", "FloatRange", "IntRange", "Range", "SearchSpace", "SpaceFunction", "lay_over"]


Value = str | int | float | bool

# Whole numbers beyond it are not told apart by the samplers, which think in floats.
_LARGEST = 2**53
Whole = Annotated[int, Field(ge=-_LARGEST, le=_LARGEST)]


class _Range(Spec, ABC):
    when: dict[str, Value | Annotated[list[Value], Field(min_length=1)]] = Field(default_factory=dict)
    """Other searched keys and the value, or list of values, at which this one exists; they stand above it."""

    @abstractmethod
    def values(self) -> str:
        """What it may be, in words."""

    @abstractmethod
    def suggest(self, trial: Any, key: str) -> Any:
        """Ask an Optuna trial for a value."""

    @abstractmethod
    def holds(self, value: Any) -> bool:
        """Whether `value` is one of them."""

    def in_words(self) -> str:
        """What it may be and when it exists."""
        words = [f"{key} is {_either(allowed)}" for key, allowed in self.when.items()]
        return self.values() + (f", where {' and '.join(words)}" if words else "")

    def exists(self, chosen: Mapping[str, Any]) -> bool:
        """Whether the key exists beside the values of the keys above it."""
        return all(
            other in chosen and _among(chosen[other], _listed(allowed))
            for other, allowed in self.when.items()
        )


class IntRange(_Range):
    """A whole number in [low, high]."""

    type: Literal["int"]
    low: Whole
    """Smallest value."""
    high: Whole
    """Largest value."""
    log: bool = False
    """Whether to search by ratios rather than differences."""

    @model_validator(mode="after")
    def _ordered(self) -> IntRange:
        _check_order(self.low, self.high, self.log)
        return self

    def values(self) -> str:
        """What it may be, in words."""
        return f"{self.low:g} to {self.high:g}" + (", by ratios" if self.log else "")

    def suggest(self, trial: Any, key: str) -> int:
        """Ask an Optuna trial for a value."""
        return trial.suggest_int(key, self.low, self.high, log=self.log)

    def holds(self, value: Any) -> bool:
        """Whether `value` lies in the range."""
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high


class FloatRange(_Range):
    """A number in [low, high]."""

    type: Literal["float"]
    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    log: bool = False
    """Whether to search by ratios rather than differences."""

    @model_validator(mode="after")
    def _ordered(self) -> FloatRange:
        _check_order(self.low, self.high, self.log)
        return self

    def values(self) -> str:
        """What it may be, in words."""
        return f"{self.low:g} to {self.high:g}" + (", by ratios" if self.log else "")

    def suggest(self, trial: Any, key: str) -> float:
        """Ask an Optuna trial for a value."""
        return trial.suggest_float(key, self.low, self.high, log=self.log)

    def holds(self, value: Any) -> bool:
        """Whether `value` lies in the range."""
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high
        )


class CategoricalRange(_Range):
    """One of some values."""

    type: Literal["categorical"]
    choices: list[Value] = Field(min_length=1, max_length=1000)
    """The values, each once."""

    @model_validator(mode="after")
    def _each_once(self) -> CategoricalRange:
        # 1, 1.0 and true are one value to Python, and so to the samplers.
        twice = next(
            (value for place, value in enumerate(self.choices) if value in self.choices[:place]), None
        )
        if twice is not None:
            raise ValueError(f"choices must each be another value, but got {shown(self.choices)}")
        return self

    def values(self) -> str:
        """What it may be, in words."""
        return _either(self.choices)

    def suggest(self, trial: Any, key: str) -> Any:
        """Ask an Optuna trial for a value."""
        return trial.suggest_categorical(key, self.choices)

    def holds(self, value: Any) -> bool:
        """Whether `value` is one of the choices."""
        return _among(value, self.choices)


def _either(values: Value | list[Value]) -> str:
    return " or ".join(map(str, values)) if isinstance(values, list) else str(values)


def _listed(allowed: Value | list[Value]) -> list[Value]:
    return allowed if isinstance(allowed, list) else [allowed]


def _among(value: Any, values: list[Value]) -> bool:
    """Whether `value` is one of `values`; true is not 1."""
    return any(isinstance(value, bool) == isinstance(other, bool) and value == other for other in values)


def _check_order(low: float, high: float, log: bool) -> None:
    if low > high:
        raise ValueError(f"low must be at most high, but got {low} and {high}")
    if log and low <= 0:
        raise ValueError(f"low must be positive where log is true, but got {low}")
    if not math.isfinite(float(high) - float(low)):
        raise ValueError(f"low and high must not be as far apart as {low} and {high}")


Range = Annotated[IntRange | FloatRange | CategoricalRange, Field(discriminator="type")]


class SearchSpace(Spec):
    """What a study searches, and the values that it holds fixed."""

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
    """What a curriculum has to beat beside uniform sampling: a name and dotted keys, e.g. {weighting.kind: min_snr}."""

    @model_validator(mode="after")
    def _consistent(self) -> SearchSpace:
        seen: set[str] = set()
        for key, span in self.search.items():
            for other in span.when:
                if other not in seen:
                    raise ValueError(
                        f"search.{key}.when names {other}, which must be a searched key above it"
                    )
                for value in _listed(span.when[other]):
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
                return parse(cls, {"name": name, **load_yaml(path)}, name)
        if Path(name).suffix not in (".yaml", ".yml"):
            raise ConfigError(
                f"--space must be one of {', '.join(sorted(shipped))} or a .yaml file, but got {name}"
            )
        return parse(cls, {"name": Path(name).stem, **load_yaml(name)}, name)

    def apply(self, config: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
        """A run's settings with the fixed part and the searched values of `point` laid over `config`."""
        return lay_over(_merge(config, self.fixed), point, f"{self.name}: search")

    def probes(self) -> list[dict[str, Any]]:
        """Points that together hold every choice and both ends of every range, each where it exists."""
        points = []
        for key, span in self.search.items():
            ends = span.choices if isinstance(span, CategoricalRange) else [span.low, span.high]
            points += [self._point({**self._conditions(key), key: value}) for value in ends]
        return points

    def _conditions(self, key: str) -> dict[str, Any]:
        """Values at which `key` exists, of the keys that it depends on; without one that can have none."""
        allowed: dict[str, list[Value]] = {}
        waiting = [key]
        while waiting:
            for other, values in self.search[waiting.pop()].when.items():
                known = allowed.get(other)
                both = [value for value in _listed(values) if known is None or _among(value, known)]
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


def _shipped() -> list[Any]:
    return list(resources.files("tuning").joinpath("spaces").iterdir())


# Keys that say which other keys a group may have.
_KINDS = {"kind", "rule", "by", "set", "direction"}
# Kinds with the same keys, so that a change from one to another keeps them.
_ALIKE = (
    {"easy_to_hard", "hard_to_easy"},
    {"root", "linear", "quad", "exp", "log", "step"},
    {"uniform", "log_snr"},
    {"loss_second_moment", "gradient_norm"},
)


def _form(kind: Any) -> Any:
    """What stands for all kinds that have the same keys as `kind`."""
    alike = (number for number, kinds in enumerate(_ALIKE) if isinstance(kind, str) and kind in kinds)
    return next(alike, kind)


def lay_over(config: Mapping[str, Any], point: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Nested settings with dotted keys laid over them; keys of a kind that no longer holds are dropped."""
    nested: dict[str, Any] = {}
    for key, value in point.items():
        nested = with_key(nested, key, value, f"{source}.{key}")
    return _merge(config, nested)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `above` over `below`; a group whose kind changes is replaced whole, since its other keys do not apply."""
    result: dict[str, Any] = _merge({}, below) if below else {}
    for key, value in above.items():
        old = result.get(key)
        if isinstance(value, Mapping):
            alike = isinstance(old, Mapping) and all(
                _form(old.get(tag)) == _form(value[tag]) for tag in _KINDS & value.keys()
            )
            result[key] = _merge(old if alike and old is not None else {}, value)
        else:
            result[key] = value
    return result


class SpaceFunction:
    """The space as Optuna's define-by-run function: conditional keys are asked for only where they exist."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def __call__(self, trial: Any) -> None:
        chosen: dict[str, Any] = {}
        for key, span in self.space.search.items():
            if span.exists(chosen):
                chosen[key] = span.suggest(trial, key)
