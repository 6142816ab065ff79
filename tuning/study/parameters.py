"""Ranges of searched keys: whole numbers, numbers or choices, and the conditions under which a key exists."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from curriculum_ray.config import Spec
from curriculum_ray.config.shown import shown

__all__ = ["CategoricalRange", "FloatRange", "IntRange", "Range", "Value", "among", "listed"]


Value = str | int | float | bool

# Samplers work in floats, which cannot distinguish larger whole numbers.
_LARGEST = 2**53
Whole = Annotated[int, Field(ge=-_LARGEST, le=_LARGEST)]


class _Range(Spec, ABC):
    when: dict[str, Value | Annotated[list[Value], Field(min_length=1)]] = Field(default_factory=dict)
    """Searched keys above this one, and the value, or list of values, at which this one exists."""

    @abstractmethod
    def values(self) -> str:
        """The values in words."""

    @abstractmethod
    def suggest(self, trial: Any, key: str) -> Any:
        """Ask an Optuna trial for a value."""

    @abstractmethod
    def holds(self, value: Any) -> bool:
        """Whether `value` is one of them."""

    def in_words(self) -> str:
        """The values in words, and when the key exists."""
        words = [f"{key} is {_either(allowed)}" for key, allowed in self.when.items()]
        return self.values() + (f", where {' and '.join(words)}" if words else "")

    def exists(self, chosen: Mapping[str, Any]) -> bool:
        """Whether the key exists, given the values of the keys above it."""
        return all(
            other in chosen and among(chosen[other], listed(allowed)) for other, allowed in self.when.items()
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
        """The values in words."""
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
        """The values in words."""
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
        # 1, 1.0 and true are equal in Python, and so to the samplers.
        twice = next(
            (value for place, value in enumerate(self.choices) if value in self.choices[:place]), None
        )
        if twice is not None:
            raise ValueError(f"choices must all be different, but got {shown(self.choices)}")
        return self

    def values(self) -> str:
        """The values in words."""
        return _either(self.choices)

    def suggest(self, trial: Any, key: str) -> Any:
        """Ask an Optuna trial for a value."""
        return trial.suggest_categorical(key, self.choices)

    def holds(self, value: Any) -> bool:
        """Whether `value` is one of the choices."""
        return among(value, self.choices)


def _either(values: Value | list[Value]) -> str:
    return " or ".join(map(str, values)) if isinstance(values, list) else str(values)


def listed(allowed: Value | list[Value]) -> list[Value]:
    """The values that a condition allows, as a list."""
    return allowed if isinstance(allowed, list) else [allowed]


def among(value: Any, values: list[Value]) -> bool:
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
