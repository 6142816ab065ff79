"""Which sampler, budget rule and race find a good schedule soonest: searches replayed on a table; minutes on two cores.

    python benchmarks/bench_sampler_choice.py
    python benchmarks/bench_sampler_choice.py --table mine.json.gz
    python benchmarks/bench_sampler_choice.py --page docs/results/search.md --picture docs/assets/search_regret.png

Suggestions come from the product's own samplers and are answered by the nearest schedule of the table that the search
has not tried (Gower's distance). All searches of a column spend equal images: those of 8, 16 or 32 full runs. gp and
cmaes cannot take the conditional keys of the space, and the product refuses them; its nsgaii has a second objective,
for which the table has no scores. So these are compared, each with the samplers tpe and random:

  plain              every schedule gets a full run
  compressed         four schedules at a quarter of the budget, the best of them in full
  after_last_stage   looks during the run stop the worse half of those in their last stage
  race of 2, of 3    the best two or three get the second seed at the end, and the better mean of both seeds wins
  race on the go     whatever beats the incumbent gets the second seed at once (SMAC, with two seeds)

Regret is the answer's FID minus that of the best schedule there is, as a share of uniform sampling's. The answer is
chosen by the seeds 0 and, where it raced, 1, but judged by seed 2, which no search sees; else a race would be judged
by its own luck. The winner's curse is how much better the answer looks on seed 0 than on seed 1, beyond what the
schedules do on average, as a share of the same.

Each world of a replay is a random half of the table, so that the spread over worlds is the standard error that the
choice of the table's schedules leaves in a mean over all of it; within worlds, searches differ by their seeds. 95%
intervals are of the sum of both. All searches share worlds and seeds, so their differences are paired. The last line is
JSON: "schedules", "noise" (of the table), and by search and full runs "regret" and "against_default" (the difference of
regret from tpe, plain), each a mean with its interval, and "curse".
"""

from __future__ import annotations

import json
import math
import os

# Small arrays gain nothing by threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import optuna
from pages import put_into
from regret_page import MARKS, draw, in_words, tables
from replay import play, race, race_on_the_go
from scipy.special import stdtrit
from scipy.stats import spearmanr
from search_table import PACKED
from table_world import RACE_SEED, SEARCH_SEED, Schedule, World

from curriculum_ray.config import ConfigError, parse
from tuning.study.config import StudyConfig

DEFAULT = "tpe"
SAMPLERS = ("tpe", "random")
RULES: dict[str, dict[str, Any]] = {
    "": {"rule": "none"},
    ", compressed": {"rule": "compressed", "reduction": 4},
    ", after_last_stage": {"rule": "after_last_stage"},
}
RACES = (", race of 2", ", race of 3", ", race on the go")
SEARCHES = tuple(sampler + kind for sampler in SAMPLERS for kind in (*RULES, *RACES))
LENGTHS = (8, 16, 32)

Found = dict[tuple[str, int], tuple[float, float]]
"""Regret and winner's curse by search and full runs."""


def replay(world: World, seed: int, lengths: Sequence[int]) -> Found:
    """Every search on one world with one seed; those for which the world is too small are missing."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    answers: dict[tuple[str, int], Schedule | None] = {}
    full = world.schedules[0].full[SEARCH_SEED].images
    for sampler in SAMPLERS:
        for length in lengths:
            for name, rule in RULES.items():
                if len(world.schedules) < length * (2 if rule["rule"] == "compressed" else 1):
                    continue
                asked = {
                    "sampler": sampler,
                    "trials": length,
                    "seed": seed,
                    "halving": rule,
                    "run": {"images": full},
                }
                tried = play(parse(StudyConfig, asked, "replay"), world, length * full)
                answers[sampler + name, length] = min(
                    (each.schedule for each in tried), key=Schedule.fid, default=None
                )
                if not name:
                    raced = [race(tried, length * full, size, full) for size in (2, 3)]
                    raced.append(race_on_the_go(tried, length * full, full))
                    answers |= {
                        (sampler + kind, length): answer for kind, answer in zip(RACES, raced, strict=True)
                    }
    luck = luck_of_seeds(world)
    return {
        key: (world.regret(answer), answer.fid(RACE_SEED) - answer.fid(SEARCH_SEED) - luck)
        for key, answer in answers.items()
        if answer is not None
    }


def luck_of_seeds(world: World) -> float:
    """How much more the schedules score on seed 1 than on seed 0: the median over those in the better half."""
    good = sorted(world.schedules, key=Schedule.mean)[: max(1, len(world.schedules) // 2)]
    return float(np.median([each.fid(RACE_SEED) - each.fid(SEARCH_SEED) for each in good]))


def noise(world: World, uniform: float) -> dict[str, float]:
    """What the table says about noise and about early scores, over the schedules that beat uniform sampling.

    seed_sd: of one run, from the differences of two seeds. spread_sd: of the schedules' true scores. Both are shares
    of uniform sampling's. The others are Spearman's rank correlations with the score of another seed.
    """
    good = [each for each in world.schedules if each.mean((SEARCH_SEED, RACE_SEED)) < uniform]
    both = np.array([[each.fid(seed) for seed in (SEARCH_SEED, RACE_SEED)] for each in good])
    covariance = np.cov(both.T)
    of_one_run = np.var(both[:, 1] - both[:, 0], ddof=1) / 2

    def rank(early: Sequence[float | None]) -> float:
        pairs = [(a, b) for a, b in zip(early, both[:, 1], strict=True) if a is not None]
        return round(float(spearmanr(*zip(*pairs, strict=True)).statistic), 3) if len(pairs) > 2 else math.nan

    return {
        "better_than_uniform": round(len(good) / len(world.schedules), 3),
        "best": round(world.best.mean() / uniform, 3),
        "seed_sd": round(float(np.sqrt(of_one_run)) / uniform, 4),
        "spread_sd": round(float(np.sqrt(max(0.0, covariance[0, 1]))) / uniform, 4),
        "rank_other_seed": rank(list(both[:, 0])),
        "rank_quarter": rank([None if each.low is None else each.low.metrics.get("fid") for each in good]),
    }


def summary(values: np.ndarray) -> dict[str, float]:
    """Mean and 95% interval of values (worlds, replays), whose worlds are random halves of a table."""
    worlds, replays = values.shape
    within = values.var(axis=1, ddof=1).mean() if replays > 1 else 0.0
    between = max(0.0, values.mean(axis=1).var(ddof=1) - within / replays)
    half = stdtrit(worlds - 1, 0.975) * math.sqrt(between + within / values.size)
    mean = values.mean()
    return {
        name: round(float(value), 4)
        for name, value in (("mean", mean), ("low", mean - half), ("high", mean + half))
    }


def summarise(found: Sequence[Sequence[Found]], uniform: float) -> dict[str, dict[str, Any]]:
    """Regret, difference from the default and winner's curse, by search and full runs; `found` is by world."""
    everywhere = set.intersection(*(set(one) for world in found for one in world))
    result: dict[str, dict[str, Any]] = {"regret": {}, "against_default": {}, "curse": {}}
    for name in SEARCHES:
        for length in sorted({length for _, length in everywhere}):
            if (name, length) not in everywhere:
                continue

            def of(search: str, place: int, length: int = length) -> np.ndarray:
                return np.array([[one[search, length][place] / uniform for one in world] for world in found])

            own = of(name, 0)
            result["regret"].setdefault(name, {})[length] = summary(own)
            if name != DEFAULT:
                result["against_default"].setdefault(name, {})[length] = summary(own - of(DEFAULT, 0))
            result["curse"].setdefault(name, {})[length] = summary(of(name, 1))
    return result


@click.command()
@click.option("--table", type=click.Path(path_type=Path), default=PACKED, show_default=True)
@click.option("--worlds", default=16, show_default=True, help="Random halves of the table.")
@click.option("--replays", default=4, show_default=True, help="Searches of each kind in each of them.")
@click.option("--processes", default=os.cpu_count(), show_default="all cores")
@click.option(
    "--picture", type=click.Path(path_type=Path), default=Path("runs/search-regret.png"), show_default=True
)
@click.option("--page", type=click.Path(path_type=Path, exists=True), help="Put the tables into this page.")
def main(table: Path, worlds: int, replays: int, processes: int, picture: Path, page: Path | None) -> None:
    try:
        measure(table, worlds, replays, processes, picture, page)
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def measure(table: Path, worlds: int, replays: int, processes: int, picture: Path, page: Path | None) -> None:
    """Replay all searches, print the tables, and draw the picture."""
    whole, uniform = World.read(table)
    if len(whole.schedules) < 2 * LENGTHS[0]:
        raise ConfigError(
            f"{table} must hold at least {2 * LENGTHS[0]} schedules, but holds {len(whole.schedules)}"
        )
    facts = noise(whole, uniform)
    source = np.random.default_rng(0)
    size = len(whole.schedules) // 2
    parts = [whole.part(source.permutation(len(whole.schedules))[:size]) for _ in range(worlds)]
    each = [(part, place * replays + one) for place, part in enumerate(parts) for one in range(replays)]
    with ProcessPoolExecutor(processes) as pool:
        done = list(pool.map(partial(_replay, LENGTHS), each))
    found = [done[start : start + replays] for start in range(0, len(done), replays)]
    result = summarise(found, uniform)
    text = f"{in_words(facts, len(whole.schedules), uniform)}\n\n{tables(result, DEFAULT)}"
    print(text)
    draw(result["regret"], SAMPLERS, (*RULES, *RACES), picture)
    print(f"the regret is drawn in {picture}")
    if page is not None:
        put_into(page, MARKS, text)
    print(json.dumps({"schedules": len(whole.schedules), "noise": facts, **result}))


def _replay(lengths: Sequence[int], one: tuple[World, int]) -> Found:
    return replay(*one, lengths)


if __name__ == "__main__":
    main()
