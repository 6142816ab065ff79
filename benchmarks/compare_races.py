"""What a race could gain at most: a second seed for promising schedules before one is crowned; seconds on one core.

    python benchmarks/compare_races.py

Schedules are drawn at random. Their true scores are normal with deviation 1, and each run adds normal noise with a
deviation of `noise` times that; lower is better. Every search spends the same number of full runs:

- none: all runs are of different schedules, and the best-looking is the answer.
- race of 2, 3, 4: so many runs are kept back, and the best-looking so many schedules get a second run with them. The
  best mean of both is the answer.
- on the go: every schedule that looks better than the incumbent gets a second run at once, and is the next incumbent if
  its mean is better too (SMAC's intensification, Hutter et al. 2011, with two runs at most).

`regret_without` is how much worse than the best schedule of a search without a race its answer is in truth, on average:
what the winner's curse costs. `gain` is how much better the answer of a race is than that of none, negative if worse:
that of the best kind of race in hindsight. Both are in deviations of the noise; two runs of one schedule differ by 1.13
of them on average. The last line is JSON: by number of runs and noise "regret_without", "race" (the best kind) and
"gain".
"""

from __future__ import annotations

import json

import click
import numpy as np

RUNS = (8, 16, 32, 64)
NOISE = (0.1, 0.2, 0.35, 0.5, 1.0, 2.0)
SIZES = (2, 3, 4)


def races(runs: int, noise: float, searches: int, source: np.random.Generator) -> dict[str, float]:
    """The mean true score of the answer of each kind of race, and of the best schedule as "best"."""
    true = source.standard_normal((searches, runs))
    first, second = (true + noise * source.standard_normal(true.shape) for _ in range(2))

    def score(chosen: np.ndarray) -> float:
        return float(np.take_along_axis(true, chosen[:, None], 1).mean())

    found = {"none": score(first.argmin(1)), "best": float(true.min(1).mean())}
    for size in SIZES:
        top = np.argsort(first[:, : runs - size], 1)[:, :size]
        both = np.take_along_axis(first + second, top, 1)
        found[f"race of {size}"] = score(np.take_along_axis(top, both.argmin(1)[:, None], 1)[:, 0])
    found["on the go"] = score(_on_the_go(first, second))
    return found


def _on_the_go(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The incumbents (searches,) when the runs are spent."""
    searches, runs = first.shape
    spent, incumbent = np.zeros(searches, int), np.zeros(searches, int)
    beaten, mean = (np.full(searches, np.inf) for _ in range(2))
    for place in range(runs):
        spent += spent < runs
        raced = (first[:, place] < beaten) & (spent < runs)
        spent += raced
        both = (first[:, place] + second[:, place]) / 2
        better = raced & (both < mean)
        incumbent[better], mean[better], beaten[better] = place, both[better], first[better, place]
    return incumbent


@click.command()
@click.option("--searches", default=50_000, show_default=True, help="Of each kind.")
def main(searches: int) -> None:
    source = np.random.default_rng(0)
    result: dict[int, dict[float, dict[str, float | str]]] = {}
    print("gain of the best race in hindsight (and regret without one), in deviations of a run's noise")
    print(f"  {'noise / spread of the truth':28}" + "".join(f"{noise:>16g}" for noise in NOISE))
    for runs in RUNS:
        result[runs] = {}
        for noise in NOISE:
            found = races(runs, noise, searches, source)
            best = min((kind for kind in found if kind not in ("best", "none")), key=found.__getitem__)
            result[runs][noise] = {
                "regret_without": round((found["none"] - found["best"]) / noise, 3),
                "race": best,
                "gain": round((found["none"] - found[best]) / noise, 3),
            }
        cells = (f"{each['gain']:+.2f} ({each['regret_without']:.2f})" for each in result[runs].values())
        print(f"  {f'{runs} runs':28}" + "".join(f"{cell:>16}" for cell in cells))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
