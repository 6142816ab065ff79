"""How often a study's procedure names a winner that is none, and how often it finds one that is; a minute on one core.

    python benchmarks/check_evidence.py

Simulated studies go through the product's own plan and verdicts: uniform sampling, two rivals and searched schedules on
one seed, the best's twins, then the best schedule, the best rival and uniform sampling on five fresh seeds. A study's
FID is level + the seed's luck + the run's own noise, with the deviations measured on the digits: 1.4 over seeds, 0.6
for the difference of two models of one seed, hence 0.6/√2 for each (`make noise-floor`; three real studies gave 0.4,
0.5 and 0.7). Two kinds of study:

- null: all arms are equal. A claim is a sentence that names a schedule as better than uniform sampling or than the
  best rival, or a rival as better than uniform sampling.
- planted: every searched schedule and its twins are better than uniform sampling and the rivals by two paired
  deviations.

Then, on the same kind of null differences, how often three intervals of the mean of five paired differences lie above 0
or below: Student's t, the percentile bootstrap and the BCa bootstrap (Efron 1987). A bootstrap of five values cannot
see beyond their range, which is why the product uses t.

The last line is JSON: "false_claims" and "power" (against uniform sampling) as shares of the studies, "power_rival"
(the planted schedule found better than the best rival too), and "intervals": the share of false claims of "t",
"percentile" and "bca".
"""

from __future__ import annotations

import json
import math
import os

# Small arrays gain nothing by threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.result import RunResult
from tuning.evidence.answer import rival_verdict, verdict
from tuning.evidence.arms import Ranking
from tuning.evidence.differences import against_rival, against_uniform
from tuning.evidence.records import TrialRecord
from tuning.study.config import StudyConfig
from tuning.study.plan import StudyPlan
from tuning.study.trial_spec import TrialSpec

IMAGES = 44_800
LEVEL, SEED_SD, PAIRED_SD = 5.5, 1.4, 0.6
RIVALS = {"min_snr": {"weighting.kind": "min_snr"}, "logit_normal": {"schedule.base.kind": "logit_normal"}}


def searched(index: int) -> CurriculumSchedule:
    """Some schedule of the paper's kind, another for each index."""
    return CurriculumSchedule.from_dict(
        {
            "version": 1,
            "clusters": {"by": "uniform", "count": 2 + index},
            "order": {"direction": "easy_to_hard"},
            "pacing": {"rule": "plateau", "patience_share": 0.02},
        }
    )


def play(rng: np.random.Generator, config: StudyConfig, effect: float) -> list[TrialRecord]:
    """Run a study to its end on made-up numbers; `effect` is what a curriculum takes off the FID."""
    plan = StudyPlan(config, rivals=RIVALS)
    luck: dict[int, float] = {}
    while (planned := plan.next()) is not None:
        fid = LEVEL + luck.setdefault(planned.seed, SEED_SD * rng.standard_normal())
        fid += PAIRED_SD / math.sqrt(2) * rng.standard_normal()
        if planned.control not in ("uniform", "rival"):
            fid -= effect
        plan.ended(record(planned, fid))
    return list(plan.records.values())


def record(planned: TrialSpec, fid: float) -> TrialRecord:
    """What a study keeps of a finished trial."""
    schedule = planned.schedule or searched(planned.key.number)
    run = RunConfig(schedule=schedule, seed=planned.seed, images=IMAGES)
    result = RunResult(
        images=IMAGES, metrics={"fid": fid}, seconds=0.0, checkpoint="", resumed_at=0, loss=None
    )
    return planned.begun(0, run, Path("nowhere")).finished(result)


def claims(records: list[TrialRecord]) -> tuple[bool, bool, bool]:
    """Whether a schedule is said to beat uniform sampling, to beat the best rival, and the rival to beat uniform."""
    ranking = Ranking.of(records, "fid")
    first, second = against_uniform(ranking), against_rival(ranking)
    uniform = " beats uniform sampling by " in verdict(first, "fid", IMAGES)
    rival = " beats the best rival, " in rival_verdict(first, second, "fid")
    return uniform, rival, any(found.rival and found.beats for found in first)


def percentile(values: np.ndarray, means: np.ndarray) -> tuple[float, float]:
    """The percentile bootstrap's 95% interval."""
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def bca(values: np.ndarray, means: np.ndarray) -> tuple[float, float]:
    """The bias-corrected and accelerated bootstrap's 95% interval (Efron 1987)."""
    from scipy.special import ndtr, ndtri

    share = np.clip(np.mean(means < values.mean()), 1 / len(means), 1 - 1 / len(means))
    bias = ndtri(share)
    left_out = (values.sum() - values) / (len(values) - 1)
    centred = left_out.mean() - left_out
    acceleration = (centred**3).sum() / (6 * ((centred**2).sum() ** 1.5) or 1.0)
    z = bias + ndtri(np.array([0.025, 0.975]))
    low, high = np.quantile(means, ndtr(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def student(values: np.ndarray, means: np.ndarray) -> tuple[float, float]:
    """Student's t 95% interval."""
    from scipy.special import stdtrit

    half = stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def interval_errors(rng: np.random.Generator, studies: int, seeds: int) -> dict[str, float]:
    """How often each interval of null differences excludes 0."""
    kinds: dict[str, Callable[[np.ndarray, np.ndarray], tuple[float, float]]] = {
        "t": student,
        "percentile": percentile,
        "bca": bca,
    }
    wrong = dict.fromkeys(kinds, 0)
    for _ in range(studies):
        values = PAIRED_SD * rng.standard_normal(seeds)
        means = values[rng.integers(seeds, size=(2000, seeds))].mean(axis=1)
        for name, interval in kinds.items():
            low, high = interval(values, means)
            wrong[name] += low > 0 or high < 0
    return {name: count / studies for name, count in wrong.items()}


@click.command()
@click.option("--studies", default=1000, show_default=True, help="Null studies; as many planted ones.")
@click.option("--trials", default=8, show_default=True, help="Searched schedules of a study.")
@click.option("--seed", default=0, show_default=True, help="Seed of the simulation.")
def main(studies: int, trials: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    config = StudyConfig(trials=trials)
    null = [claims(play(rng, config, 0.0)) for _ in range(studies)]
    planted = [claims(play(rng, config, 2 * PAIRED_SD)) for _ in range(studies)]
    errors = interval_errors(rng, studies, config.confirm_seeds)
    result = {
        "false_claims": sum(any(study) for study in null) / studies,
        "power": sum(study[0] for study in planted) / studies,
        "power_rival": sum(study[1] for study in planted) / studies,
        "intervals": errors,
    }
    print(f"{studies} null studies: {100 * result['false_claims']:.1f}% name a winner (at most 5% wanted)")
    print(f"{studies} planted studies: {100 * result['power']:.1f}% find it (at least 90% wanted), and")
    print(f"  {100 * result['power_rival']:.1f}% find that it beats the best rival too")
    shown = ", ".join(f"{name} {100 * error:.1f}%" for name, error in errors.items())
    print(f"intervals of {config.confirm_seeds} null differences that exclude 0 (5% wanted): {shown}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
