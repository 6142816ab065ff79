"""Which rule decides a confirmation, by simulated power at 3 to 20 seeds; half a minute on one core.

    python benchmarks/compare_rules.py

Uniform sampling, one schedule and, in the second table, one rival are simulated with normal noise whose paired
deviation is 1, and the schedule is better than the others by 0, 1, 1.5 and 2. Each rule looks after every seed from the
third to the 20th and stops at its first claim. The rules:

- product: the critical values of `tuning.evidence.boundary`.
- other spending plans with exact critical values of the same kind: what is left of the level shrinks by 30% with each
  seed; O'Brien & Fleming's and Pocock's (Lan & DeMets 1983), which are for 20 seeds and no more.
- e-process: t-mixture (Lai 1976; Wang & Ramdas 2023, right Haar prior on the scale, effect in deviations ~ N(0, g)),
      (1 + n g)^(-1/2) ((1 + t^2 / f) / (1 + t^2 / (f (1 + n g))))^((f + 1) / 2) >= arms / level,
  with f degrees of freedom; valid at any number of seeds by Ville's inequality.
- Student: t for one look, used at all of them.

Five more tables: the scale on which arms are compared, ratios or differences, where the noise is in proportion to a
metric and where it is not, with and without a control whose metric is five times that of uniform sampling; the
product's rule where noise is not normal (Student's t with 3 degrees of freedom, exponential) or differs between the
arms (the rival, one of three or nine other arms, or uniform sampling is twice or three times as noisy); how often one
schedule that is as good as uniform sampling would "beat" it within ten seeds if runs that fail, a share of those with
the highest FIDs, left their seeds out and nothing else followed from them; and covariates (CUPED, Deng et al. 2013):
the paired difference of a preview, correlated by rho with that at the end, is regressed out of the latter. That narrows
intervals by 1 - sqrt(1 - rho^2), but asks that the covariate's own difference is 0, and a schedule acts on its previews
too: "early" is its effect on them in paired deviations, with none at the end.

The last line is JSON: "rules", by number of arms and rule: "false" (claims at any look without an effect), "seeds" and
"power" at effect 2 within 10 seeds, "power_1.5" and "power_1" within 20; "scale": by noise, control and scale "false"
(claims about an equal arm at any look) and "power" at effect 2 within 10 seeds; "noise": false claims; "failures": by
share of runs that fail, false wins; "covariate": by rho "narrower" and by early effect "false".
"""

from __future__ import annotations

import itertools
import json
import math
import os

# Small arrays gain nothing by threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from typing import Any

import click
import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from tuning.evidence import boundary
from tuning.evidence.boundary import FIRST_SEEDS
from tuning.evidence.intervals import half_widths

MOST, LEVEL = 20, 0.05
LOOKS = range(FIRST_SEEDS, MOST + 1)
N = np.array(LOOKS)


def exact(arms: int, left: Callable[[int], float]) -> np.ndarray:
    """The critical values of another spending plan, by the product's calculation."""
    kept = boundary.left
    setattr(boundary, "left", left)  # noqa: B010 - mypy takes a function of a module for a constant
    try:
        chain = boundary._Chain(arms, LEVEL / arms)
        for _ in LOOKS:
            chain.advance()
    finally:
        boundary.left = kept
    return np.array(chain.critical)


def planned(spent: Callable[[float], float]) -> Callable[[int], float]:
    """What is left of the level by a plan for `MOST` seeds."""
    return lambda n: 1.0 if n < FIRST_SEEDS else 1 - spent(n / MOST) / spent(1.0)


def e_process(arms: int, g: float) -> np.ndarray:
    """The critical values of the t-mixture."""
    t = np.linspace(0, 200, 400_001)
    result = []
    for n in LOOKS:
        f = arms * (n - 1)
        log = -0.5 * np.log1p(n * g) + (f + 1) / 2 * (np.log1p(t**2 / f) - np.log1p(t**2 / (f * (1 + n * g))))
        place = np.searchsorted(log, math.log(arms / LEVEL))
        result.append(t[place] if place < len(t) else math.inf)
    return np.array(result)


def rules(arms: int) -> dict[str, np.ndarray]:
    """Critical values by rule, (looks,)."""
    half = LEVEL / arms / 2
    return {
        "product": np.array(boundary.critical_values(arms, LEVEL / arms, MOST)),
        "30% of the rest": exact(arms, lambda n: 0.7 ** max(0, n - 2)),
        "Pocock to 20": exact(arms, planned(lambda x: math.log1p((math.e - 1) * x))),
        "O'Brien-Fleming to 20": exact(arms, planned(lambda x: 2 * ndtr(ndtri(half) / math.sqrt(x)))),
        "e-process, g = 1": e_process(arms, 1.0),
        "e-process, g = 4": e_process(arms, 4.0),
        "Student": stdtrit(arms * (N - 1), 1 - half),
    }


def play(noise: np.ndarray, effect: float) -> tuple[np.ndarray, np.ndarray]:
    """Gains over uniform sampling and their standard error at each look, (studies, arms, looks).

    noise: (studies, arms + 1, MOST); the first arm is better than uniform sampling by `effect`.
    """
    table = noise.copy()
    table[:, 1] -= effect
    gains = (table[:, :1] - table[:, 1:]).cumsum(-1)[..., FIRST_SEEDS - 1 :] / N
    arms = table.shape[1] - 1
    half = half_widths(table, LEVEL / arms)[:, 1:]
    return gains, half / np.array(boundary.critical_values(arms, LEVEL / arms, MOST))


def normal(rng: np.random.Generator, studies: int, arms: int) -> np.ndarray:
    """Noise of uniform sampling and `arms` arms whose paired deviation is 1."""
    return rng.standard_normal((studies, arms + 1, MOST)) / math.sqrt(2)


def judged(noise: np.ndarray, critical: np.ndarray) -> dict[str, float]:
    """What a rule does without an effect and with several."""
    gains, error = play(noise, 0.0)
    result = {"false": float((abs(gains) > critical * error).any((1, 2)).mean())}
    for effect, name, most in ((2.0, "power", 10), (1.5, "power_1.5", 20), (1.0, "power_1", 20)):
        gains, error = play(noise, effect)
        hit = (gains[:, 0] > critical * error[:, 0])[:, : most - FIRST_SEEDS + 1]
        result[name] = float(hit.any(-1).mean())
        if effect == 2.0:
            result["seeds"] = float(np.where(hit.any(-1), N[hit.argmax(-1)], most).mean())
    return {name: round(value, 3) for name, value in result.items()}


def by_scale(rng: np.random.Generator, studies: int) -> dict[str, dict[str, dict[str, float]]]:
    """False claims about an equal schedule, and power for a better one, on either scale, beside another arm.

    The metric of uniform sampling is 1, and the paired deviation 0.09 of it; the seed's luck deviates by 0.2.
    """

    def claims(kind: str, control: float, scale: str, effect: float, most: int) -> float:
        levels = np.array([1.0, 1 - 0.09 * effect, control])[:, None]
        noise = 0.09 * normal(rng, studies, 2) + 0.2 * rng.standard_normal((studies, 1, MOST))
        table = levels * np.exp(noise) if kind == "in proportion" else np.maximum(levels + noise, 0.01)
        gains, error = play(np.log(table) if scale == "ratios" else table, 0.0)
        hit = (abs(gains) > np.array(boundary.critical_values(2, LEVEL / 2, MOST)) * error)[:, 0]
        return round(float(hit[:, : most - FIRST_SEEDS + 1].any(-1).mean()), 3)

    return {
        f"{kind}, control {control:g}": {
            scale: {
                "false": claims(kind, control, scale, 0.0, MOST),
                "power": claims(kind, control, scale, 2.0, 10),
            }
            for scale in ("ratios", "differences")
        }
        for kind, control in itertools.product(("in proportion", "equal"), (1.0, 5.0))
    }


def other_noise(rng: np.random.Generator, studies: int) -> dict[str, float]:
    """False claims at any look where the noise is not what the rule assumes."""
    shape = (studies, 3, MOST)
    kinds = {
        "normal": normal(rng, studies, 2),
        "t, 3 degrees of freedom": rng.standard_t(3, shape),
        "exponential": rng.exponential(size=shape),
        "rival twice as noisy": normal(rng, studies, 2) * np.array([[1], [1], [2]]),
        "rival three times as noisy": normal(rng, studies, 2) * np.array([[1], [1], [3]]),
        "one of three arms twice as noisy": normal(rng, studies, 3) * np.array([[1], [1], [1], [2]]),
        "one of three arms three times as noisy": normal(rng, studies, 3) * np.array([[1], [1], [1], [3]]),
        "one of nine arms three times as noisy": normal(rng, studies, 9) * np.array([[1]] * 9 + [[3]]),
        "nine arms, uniform sampling twice as noisy": normal(rng, studies, 9) * np.array([[2]] + [[1]] * 9),
    }
    result = {}
    for name, noise in kinds.items():
        gains, error = play(noise, 0.0)
        arms = noise.shape[1] - 1
        critical = np.array(boundary.critical_values(arms, LEVEL / arms, MOST))
        result[name] = round(float((abs(gains) > critical * error).any((1, 2)).mean()), 3)
    return result


def survivors(rng: np.random.Generator, studies: int, share: float, most: int = 10) -> float:
    """False claims of "beats" where the worst `share` of a schedule's runs fail, and the others are all that counts."""
    uniform, schedule = rng.standard_normal((2, studies, most)) / math.sqrt(2)
    failed = schedule > ndtri(1 - share) / math.sqrt(2)
    # The seeds that are left, in their order, come first.
    gains = np.take_along_axis(uniform - schedule, np.argsort(failed, -1, kind="stable"), -1)
    n = np.arange(FIRST_SEEDS, most + 1)
    mean = gains.cumsum(-1)[:, FIRST_SEEDS - 1 :] / n
    squares = (gains**2).cumsum(-1)[:, FIRST_SEEDS - 1 :] - n * mean**2
    critical = np.array(boundary.critical_values(1, LEVEL, most))
    beats = mean > critical * np.sqrt(squares / (n - 1) / n)
    return round(float((beats & (n <= most - failed.sum(-1, keepdims=True))).any(-1).mean()), 3)


def covariate(rng: np.random.Generator, studies: int, seeds: int, rho: float) -> dict[str, object]:
    """Intervals of the regression-adjusted difference after `seeds` seeds, as if the preview had no difference."""
    preview = rng.standard_normal((studies, seeds))
    end = rho * preview + math.sqrt(1 - rho**2) * rng.standard_normal((studies, seeds))
    plain = stdtrit(seeds - 1, 0.975) * end.std(-1, ddof=1) / math.sqrt(seeds)
    false = {}
    half = plain
    for early in (0.0, 0.5, 1.0, 2.0):
        x = preview + early
        centred, gaps = x - x.mean(-1, keepdims=True), end - end.mean(-1, keepdims=True)
        slope = (centred * gaps).sum(-1) / (centred**2).sum(-1)
        rest = gaps - slope[:, None] * centred
        spread = (rest**2).sum(-1) / (seeds - 2)
        error = np.sqrt(spread * (1 / seeds + x.mean(-1) ** 2 / (centred**2).sum(-1)))
        adjusted = end.mean(-1) - slope * x.mean(-1)
        width = stdtrit(seeds - 2, 0.975) * error
        half = width if early == 0 else half
        false[str(early)] = round(float((abs(adjusted) > width).mean()), 3)
    return {"narrower": round(1 - float(np.median(half / plain)), 3), "false": false}


@click.command()
@click.option("--studies", default=10_000, show_default=True, help="Studies of each kind.")
@click.option("--seed", default=0, show_default=True, help="Seed of the simulation.")
def main(studies: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    result: dict[str, dict[str, Any]] = {
        "rules": {},
        "scale": {},
        "noise": {},
        "failures": {},
        "covariate": {},
    }
    for arms in (1, 2):
        noise = normal(rng, studies, arms)
        print(f"{arms} arm{'s' if arms > 1 else ''} beside uniform sampling")
        print(f"  {'':24}{'false':>8}{'seeds':>8}{'power':>8}{'1.5':>8}{'1':>8}")
        for name, critical in rules(arms).items():
            found = judged(noise, critical)
            result["rules"].setdefault(str(arms), {})[name] = found
            cells = (found[key] for key in ("false", "seeds", "power", "power_1.5", "power_1"))
            print(f"  {name:24}" + "".join(f"{value:8.3f}" for value in cells))
    result["scale"] = dict(by_scale(rng, studies))
    print(
        "one arm and uniform sampling beside a control, by noise and the control's metric: false claims, power"
    )
    for name, scales in result["scale"].items():
        each = (f"{scale} {one['false']:.3f} {one['power']:.3f}" for scale, one in scales.items())
        print(f"  {name:28}" + "   ".join(each))
    result["noise"] = dict(other_noise(rng, studies))
    print("false claims at any look, by the kind of noise")
    for name, share in result["noise"].items():
        print(f"  {name:44}{share:8.3f}")
    print("false wins if the worst runs of a schedule failed, and only the others counted, by their share")
    for lost in (0.0, 0.2, 0.3, 0.5):
        result["failures"][str(lost)] = survivors(rng, studies, lost)
        print(f"  {lost:4.0%}{result['failures'][str(lost)]:8.3f}")
    print("a preview as covariate, 10 seeds: narrower, and false claims by its own difference")
    for rho in (0.3, 0.5, 0.8):
        found_here = covariate(rng, studies, 10, rho)
        result["covariate"][str(rho)] = found_here
        print(f"  rho {rho}: {found_here}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
