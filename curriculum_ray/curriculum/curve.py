"""Difficulty curves: how hard each part of u-space is, in a small file that clusters and orders can name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from curriculum_ray.config import ConfigError, Spec, load_json, parse
from curriculum_ray.curriculum.base import BaseSpec, Uniform

__all__ = ["DifficultyCurve"]


class DifficultyCurve(Spec):
    """A piecewise constant difficulty over u: n bins between n + 1 edges, u -> 0 clean and u -> 1 noise."""

    version: Literal[1] = 1
    """Version of the file format."""
    kind: Literal["relative_entropy", "convergence", "loss", "gradient", "snr"]
    """The measured quantity."""
    data: str
    """Name of the data it was measured on."""
    process: str
    """Name of the diffusion process, e.g. ddpm-epsilon."""
    base: BaseSpec = Uniform()
    """The base distribution that u refers to; by default u = t/T, which does not exist for sigmas."""
    u: tuple[float, ...] = Field(min_length=2)
    """Edges of the bins, n + 1 values from 0 (clean) to 1 (noise), ascending."""
    difficulty: tuple[float, ...]
    """Difficulty per unit of u in each bin, n values; higher is harder."""
    stderr: tuple[float, ...] | None = None
    """Standard error of each difficulty, n values."""
    similarity: tuple[tuple[float, ...], ...] | None = None
    """Pairwise cosine of the bins' gradients, n by n values in [-1, 1]; for kind gradient."""
    meta: dict[str, Any] = Field(default_factory=dict)
    """How it was measured; any content."""

    @model_validator(mode="after")
    def _check(self) -> DifficultyCurve:
        pairs = zip(self.u, self.u[1:], strict=False)
        if self.u[0] != 0 or self.u[-1] != 1 or any(b <= a for a, b in pairs):
            raise ValueError(f"u must rise strictly from 0 to 1, but got {len(self.u)} values that do not")
        count = len(self.u) - 1
        for name in ("difficulty", "stderr", "similarity"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise ValueError(f"{name} must have {count} values, one per bin, but got {len(values)}")
        if self.stderr is not None and min(self.stderr) < 0:
            raise ValueError(f"stderr must not be negative, but got {min(self.stderr)}")
        if self.similarity is not None:
            self._check_similarity(self.similarity, count)
        return self

    @staticmethod
    def _check_similarity(rows: tuple[tuple[float, ...], ...], count: int) -> None:
        for i, row in enumerate(rows):
            if len(row) != count:
                raise ValueError(f"similarity must be {count} by {count}, but row {i} has {len(row)} values")
            if any(abs(value) > 1 + 1e-6 for value in row):
                raise ValueError(f"similarity must lie in [-1, 1], but row {i} leaves it")
            if any(abs(value - rows[j][i]) > 1e-6 for j, value in enumerate(row[:i])):
                raise ValueError(f"similarity must be symmetric, but row {i} is not")

    @classmethod
    def from_file(cls, path: str | Path) -> DifficultyCurve:
        """Read and check a curve; raises `ConfigError` of one line that names the file and the key."""
        return parse(cls, load_json(path), str(path))

    def to_file(self, path: str | Path) -> None:
        """Write the curve as JSON."""
        Path(path).write_text(json.dumps(self.to_plain()) + "\n", encoding="utf-8")

    def shares(self) -> tuple[float, ...]:
        """The integral of the difficulty over each bin as a share of the total, n values that sum to 1.

        Negative difficulties, the sampling error of a quantity that cannot be negative, count as 0.
        """
        bins = zip(self.difficulty, self.u, self.u[1:], strict=False)
        parts = [max(value, 0.0) * (b - a) for value, a, b in bins]
        total = sum(parts)
        if total <= 0:
            raise ConfigError(f"the {self.kind} difficulty of {self.data} is nowhere positive")
        return tuple(part / total for part in parts)

    def mean_over(self, a: float, b: float) -> float:
        """The mean difficulty over [a, b), 0 <= a < b <= 1."""
        total = 0.0
        for value, low, high in zip(self.difficulty, self.u, self.u[1:], strict=False):
            total += value * max(0.0, min(high, b) - max(low, a))
        return total / (b - a)
