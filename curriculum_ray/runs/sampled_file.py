"""The noise levels that a run sampled, read from its sampled_timesteps.json. Imports no torch, as displays read it."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import Field, FiniteFloat, NonNegativeInt

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.config.plain_yaml import read_own_json
from curriculum_ray.config.regular import read_regular

__all__ = ["SampledLevels", "read_sampled"]

_LOG = logging.getLogger(__name__)

Edges = Annotated[tuple[FiniteFloat, ...], Field(min_length=2)]


class SampledLevels(pydantic.BaseModel):
    """A histogram of the noise levels over the images seen, and the stages of the schedule."""

    model_config = pydantic.ConfigDict(frozen=True, use_attribute_docstrings=True)

    images: Edges
    """The R + 1 edges of the rows, in images seen."""
    u: Edges
    """The K + 1 edges of the columns, from 0 (clean) to 1 (noise)."""
    counts: tuple[tuple[NonNegativeInt, ...], ...]
    """R rows of K: how often a level was drawn."""
    stage_starts: tuple[tuple[int, int], ...] = ()
    """(images seen, stage) at the start of each stage that was sampled."""
    stages_asked: int | None = None
    """How many stages the schedule asks for."""
    stages_walked: int | None = None
    """How many of those were trained in."""
    images_in_stage: tuple[int, ...] = ()
    """For each stage that the schedule asks for; 0 where it was skipped."""

    @pydantic.model_validator(mode="after")
    def _is_a_table(self) -> SampledLevels:
        for name, edges in (("images", self.images), ("u", self.u)):
            if any(left >= right for left, right in itertools.pairwise(edges)):
                raise ValueError(f"{name} must ascend")
        shape = [len(self.u) - 1] * (len(self.images) - 1)
        if [len(row) for row in self.counts] != shape:
            raise ValueError(f"counts must be {len(shape)} rows of {shape[0]} numbers")
        return self

    @property
    def densities(self) -> list[list[float]]:
        """The density of u in each of the R rows, K values each: 1 is uniform, 0 where nothing was drawn."""
        totals = [max(sum(row), 1) for row in self.counts]
        return [
            [count * len(row) / total for count in row]
            for row, total in zip(self.counts, totals, strict=True)
        ]


def read_sampled(path: Path) -> SampledLevels | None:
    """The content of a sampled_timesteps.json; None where there is none or, as is logged, a damaged one."""
    try:
        return parse(SampledLevels, read_own_json(read_regular(path)), str(path))
    except FileNotFoundError:
        return None
    except (ConfigError, OSError, ValueError) as error:
        _LOG.warning("what was sampled is left out: %s", error)
        return None
