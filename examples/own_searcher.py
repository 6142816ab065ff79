"""Tests a searcher of your own on real trials, without training: seconds instead of days.

    python examples/own_searcher.py            # on the table that ships with the code
    python examples/own_searcher.py TABLE.json.gz

It needs a checkout, for `benchmarks/`, with `pip install '.[search]'`.

The table holds schedules of the `wide` space for the digits, each trained at full length on two or three seeds
(`benchmarks/search_table.py` says what is in it). A point that a searcher asks for is answered by the nearest schedule
not yet tried. Replace `next_point` by your own function.
"""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path
from statistics import fmean, stdev

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from table_world import World

from tuning.study.parameters import CategoricalRange, IntRange, Range
from tuning.study.space import SearchSpace

RUNS, SEARCHES = 16, 100


def draw(span: Range, source: random.Random):
    """A random value of a range."""
    if isinstance(span, CategoricalRange):
        return source.choice(span.choices)
    if span.log:
        value = math.exp(source.uniform(math.log(span.low), math.log(span.high)))
    else:
        value = source.uniform(span.low, span.high)
    return round(value) if isinstance(span, IntRange) else value


def next_point(space: SearchSpace, history: list[tuple[dict, float]], source: random.Random) -> dict:
    """The point to try after a history of (point, FID): the best one so far with about a third of it drawn anew."""
    best = min(history, key=lambda tried: tried[1])[0] if len(history) >= 4 else {}
    point: dict = {}
    for key, span in space.search.items():
        if span.exists(point):  # a conditional key exists only beside some values of those above it
            keep = key in best and source.random() < 2 / 3
            point[key] = best[key] if keep else draw(span, source)
    return point


def random_point(space: SearchSpace, history: list[tuple[dict, float]], source: random.Random) -> dict:
    """The same without learning."""
    return next_point(space, [], source)


def regret(world: World, searcher, seed: int) -> float:
    """How much worse the answer of one search is than the best schedule of the table, in FID."""
    source, taken, history = random.Random(seed), [], []
    for _ in range(min(RUNS, len(world.schedules))):
        taken.append(world.nearest(searcher(world.space, history, source), taken))
        schedule = world.schedules[taken[-1]]
        history.append((dict(schedule.params), schedule.fid()))
    answer = min(range(len(taken)), key=lambda place: history[place][1])
    return world.regret(world.schedules[taken[answer]])


def main() -> None:
    world, uniform = World.read(*map(Path, sys.argv[1:2]))
    runs = min(RUNS, len(world.schedules))
    print(f"{len(world.schedules)} schedules, {SEARCHES} searches of {runs} runs each")
    for searcher in (random_point, next_point):
        shares = [regret(world, searcher, seed) / uniform for seed in range(SEARCHES)]
        error = stdev(shares) / math.sqrt(SEARCHES)
        print(f"  {searcher.__name__:12} regret {fmean(shares):.1%} ± {error:.1%} of uniform sampling's FID")


if __name__ == "__main__":
    main()
