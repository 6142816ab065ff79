"""Orders: the sequence in which clusters join the training, from a difficulty or by choice."""

from __future__ import annotations

import itertools
import random
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from curriculum_ray.config import ConfigError, FilePath, Spec
from curriculum_ray.curriculum.base import BaseSpec
from curriculum_ray.curriculum.cells import applying, translate
from curriculum_ray.curriculum.curve import DifficultyCurve
from curriculum_ray.diffusion.levels import NoiseLevels

__all__ = [
    "LEAST_RANDOM",
    "ExplicitOrder",
    "NoOrder",
    "OrderSpec",
    "RandomOrder",
    "SortedOrder",
    "check_ranking",
    "join_order",
    "random_ranking",
]

LEAST_RANDOM = 3
"""The fewest clusters with an order other than the two sorted ones."""


class SortedOrder(Spec):
    """By difficulty: the paper's easy_to_hard starts with the noisiest cluster (Kim et al. 2025)."""

    direction: Literal["easy_to_hard", "hard_to_easy"]
    """Whether the easiest or the hardest cluster comes first."""
    by: FilePath = "noise_level"
    """noise_level (more noise is easier), or the path of a difficulty file (its mean over the cluster)."""


class RandomOrder(Spec):
    """A random permutation of the clusters: the control that separates the order from the growing set."""

    direction: Literal["random"] = "random"
    """A random permutation that is neither of the two sorted ones; needs 3 clusters or more."""
    seed: int = Field(default=0, ge=0)
    """Seed of the permutation."""


class ExplicitOrder(Spec):
    """A given order."""

    direction: Literal["explicit"] = "explicit"
    """A given order."""
    ranking: tuple[int, ...] = Field(min_length=1)
    """All clusters 0 (cleanest) .. N-1 (noisiest), the first to join first."""


class NoOrder(Spec):
    """No curriculum: all clusters are active from the start."""

    direction: Literal["none"] = "none"
    """No curriculum."""


OrderSpec = Annotated[SortedOrder | RandomOrder | ExplicitOrder | NoOrder, Field(discriminator="direction")]


def random_ranking(count: int, seed: int) -> tuple[int, ...]:
    """The random order for `seed`: a permutation of clusters 0 .. count-1 that is not sorted.

    It belongs to the first seed from `seed` on whose permutation is not sorted; with three clusters a third of all
    permutations are. ConfigError for fewer than three clusters, which have sorted orders only.
    """
    if count < LEAST_RANDOM:
        raise ConfigError(
            f"order.direction random needs {LEAST_RANDOM} clusters or more, since fewer have sorted orders only, "
            f"but got {count}"
        )
    ordered = tuple(range(count))
    permutations = (_permutation(count, each) for each in itertools.count(seed))
    return next(ranking for ranking in permutations if ranking not in (ordered, ordered[::-1]))


def _permutation(count: int, seed: int) -> tuple[int, ...]:
    # `random()` is the one method whose sequence Python keeps the same between versions.
    generator = random.Random(seed)
    return tuple(sorted(range(count), key=lambda _: generator.random()))


def check_ranking(spec: ExplicitOrder, count: int) -> None:
    """Refuse a given order that is no permutation of `count` clusters; ConfigError."""
    if sorted(spec.ranking) != list(range(count)):
        rule = f"order.ranking must hold each cluster 0..{count - 1} once"
        raise ConfigError(f"{rule}, but got {list(spec.ranking)}")


def join_order(spec: OrderSpec, edges: Tensor, base: BaseSpec, levels: NoiseLevels) -> tuple[int, ...]:
    """The clusters in the order in which they join; cluster 0 is the cleanest, N-1 the noisiest.

    edges: the clusters' edges in u, float64 (N + 1,). Raises `ConfigError` for a given order that is no
    permutation of the clusters, and for a difficulty file that is missing or malformed.
    """
    count = len(edges) - 1
    noisiest_first = tuple(range(count - 1, -1, -1))
    if isinstance(spec, RandomOrder):
        return random_ranking(count, spec.seed)
    if isinstance(spec, ExplicitOrder):
        check_ranking(spec, count)
        return spec.ranking
    if isinstance(spec, NoOrder):
        return noisiest_first
    easiest_first = noisiest_first
    if spec.by != "noise_level":
        curve = DifficultyCurve.from_file(spec.by)
        with applying(f"{spec.by}: its base {curve.base.kind}", levels):
            difficulty = _difficulty(curve, edges, base, levels)
        # The sort is stable: of equally difficult clusters, the noisier one counts as easier.
        easiest_first = tuple(sorted(noisiest_first, key=difficulty.__getitem__))
    return easiest_first if spec.direction == "easy_to_hard" else easiest_first[::-1]


def _difficulty(curve: DifficultyCurve, edges: Tensor, base: BaseSpec, levels: NoiseLevels) -> list[float]:
    """The mean difficulty of each cluster, over the u of the curve."""
    own: list[float] = translate(edges, base, curve.base, levels).tolist()
    # A cluster may have no width in the curve's u; then its difficulty is that at the point.
    spans = ((a, max(b, a + 1e-12)) for a, b in itertools.pairwise(own))
    return [curve.mean_over(min(a, 1 - 1e-12), min(b, 1.0)) for a, b in spans]
