"""Orders: the sequence in which clusters join the training, from a difficulty or by choice."""

from __future__ import annotations

import itertools
import random
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from curriculum_ray.config import ConfigError, FilePath, Spec
from curriculum_ray.curriculum.base import BaseSpec
from curriculum_ray.curriculum.cells import translate
from curriculum_ray.curriculum.curve import DifficultyCurve
from curriculum_ray.diffusion.levels import NoiseLevels

__all__ = [
    "LEAST_RANDOM",
    "ExplicitOrder",
    "NoOrder",
    "OrderSpec",
    "RandomOrder",
    "SortedOrder",
    "join_order",
    "random_ranking",
]

LEAST_RANDOM = 3
"""The fewest clusters that have an order which is neither of the two sorted ones."""


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
    """An order that is written out."""

    direction: Literal["explicit"] = "explicit"
    """A written order."""
    ranking: tuple[int, ...] = Field(min_length=1)
    """All clusters 0 (cleanest) .. N-1 (noisiest), the first to join first."""


class NoOrder(Spec):
    """No curriculum: all clusters are active from the start."""

    direction: Literal["none"] = "none"
    """No curriculum."""


OrderSpec = Annotated[SortedOrder | RandomOrder | ExplicitOrder | NoOrder, Field(discriminator="direction")]


def random_ranking(count: int, seed: int) -> tuple[int, ...]:
    """The order that a random one of `seed` is: a permutation of clusters 0 .. count-1 that is not sorted.

    It is that of the first seed from `seed` on that does not happen to be sorted, as a third of all seeds is with
    three clusters. ConfigError for fewer than three clusters, which have no other orders.
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


def join_order(spec: OrderSpec, edges: Tensor, base: BaseSpec, levels: NoiseLevels) -> tuple[int, ...]:
    """The clusters in the order in which they join; cluster 0 is the cleanest, N-1 the noisiest.

    edges: the clusters' edges in u, float64 (N + 1,). Raises `ConfigError` for a written order that is no
    permutation of the clusters, and for a difficulty file that is missing or malformed.
    """
    count = len(edges) - 1
    noisiest_first = tuple(range(count - 1, -1, -1))
    if isinstance(spec, RandomOrder):
        return random_ranking(count, spec.seed)
    if isinstance(spec, ExplicitOrder):
        if sorted(spec.ranking) != list(range(count)):
            rule = f"order.ranking must hold each cluster 0..{count - 1} once"
            raise ConfigError(f"{rule}, but got {list(spec.ranking)}")
        return spec.ranking
    if isinstance(spec, NoOrder):
        return noisiest_first
    easiest_first = noisiest_first
    if spec.by != "noise_level":
        difficulty = _difficulty(DifficultyCurve.from_file(spec.by), edges, base, levels)
        # The sort is stable: of equally difficult clusters the noisier one is taken as easier.
        easiest_first = tuple(sorted(noisiest_first, key=difficulty.__getitem__))
    return easiest_first if spec.direction == "easy_to_hard" else easiest_first[::-1]


def _difficulty(curve: DifficultyCurve, edges: Tensor, base: BaseSpec, levels: NoiseLevels) -> list[float]:
    """The mean difficulty of each cluster, over the u that the curve was measured in."""
    own: list[float] = translate(edges, base, curve.base, levels).tolist()
    # A cluster may cover no width of the curve's u; then its difficulty is read at that point.
    spans = ((a, max(b, a + 1e-12)) for a, b in itertools.pairwise(own))
    return [curve.mean_over(min(a, 1 - 1e-12), min(b, 1.0)) for a, b in spans]
