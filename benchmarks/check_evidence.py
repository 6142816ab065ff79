"""How often a study names a winner that is none, and how often it finds one that is; some minutes on one core.

    python benchmarks/check_evidence.py

Simulated studies go through the product's own plan and verdicts: uniform sampling, two rivals and searched schedules on
one seed, the best's twins, then the best schedule, the best rival and uniform sampling on fresh seeds, one seed after
another until every answer stands. A study's FID is a level times the seed's luck times the run's own noise, whose
logarithms have the deviations measured on the digits: 0.2 over seeds, 0.09 for the ratio of two models of one seed,
hence 0.09/√2 for each (`make noise-floor`; real studies gave 0.08 to 0.16). Five kinds of study:

- null: all arms are equal. A claim is a sentence that names a schedule as better than uniform sampling or than the
  best rival, or a rival as better than uniform sampling, or uniform sampling as better than all schedules.
- peeking: null studies that go on to 20 seeds whatever they find, with the answer read after every seed from the third
  on. One claim at any of these looks counts.
- planted: every searched schedule and its twins are better than uniform sampling and the rivals by two paired
  deviations. Also without rivals, as in the default space, where there is less to pool.
- named: studies of two named arms, as those of the published claims. One is better than uniform sampling by two paired
  deviations, the other a control whose FID is five times that of uniform sampling.
- near: every schedule is better, or worse, by 1.5 margins, with so little noise that studies end with "equal" where
  there is no difference at all: the paired deviation is 1, 1/2 or 1/4 of the margin, up to 20 seeds.

The last line is JSON, all but seeds as shares of the studies: "false_claims" of null studies, "power" (against uniform
sampling) and "power_alone" (without rivals), "power_rival" (the planted schedule found better than the best rival too),
"power_named" (found beside a poor control), "false_equal" (the largest share of near studies that say equal),
"seeds_mean" and "seeds_mean_alone" (of planted studies with and without rivals), "seeds_mean_null" (of null studies,
most of which give up), "peeking" (null studies with a claim at any look), "peeking_student" (the same looks with
Student's t, as if each were the only one), and "equal" (studies of the near kind without a difference that say so, for
each deviation).
"""

from __future__ import annotations

import json
import math
import os

# Small arrays gain nothing by threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.special import stdtrit

from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.result import RunResult
from tuning.evidence.answer import rival_verdict, verdict
from tuning.evidence.arms import Ranking
from tuning.evidence.boundary import FIRST_SEEDS
from tuning.evidence.differences import against_rival, against_uniform
from tuning.evidence.in_turn import answers_of
from tuning.evidence.keys import TrialKey
from tuning.evidence.metrics import MARGIN
from tuning.evidence.records import TrialRecord
from tuning.study.config import FRESH_SEEDS, StudyConfig
from tuning.study.plan import StudyPlan
from tuning.study.trial_spec import TrialSpec

IMAGES = 44_800
LEVEL, SEED_SD, PAIRED_SD = 7.0, 0.2, 0.09
MOST = 20
RIVALS: dict[str, dict[str, Any]] = {
    "min_snr": {"weighting.kind": "min_snr"},
    "logit_normal": {"schedule.base.kind": "logit_normal"},
}


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


def play(
    rng: np.random.Generator,
    config: StudyConfig,
    effect: float,
    sd: float = PAIRED_SD,
    rivals: Mapping[str, Mapping[str, Any]] = RIVALS,
    named: Mapping[TrialKey, float] | None = None,
) -> list[TrialRecord]:
    """Run a study to its end on made-up numbers; `effect` is what a schedule takes off the logarithm of FID.

    named: what each named arm takes off, by the key of the arm.
    """
    plan = StudyPlan(config, rivals=rivals)
    luck: dict[int, float] = {}
    while (planned := plan.next()) is not None:
        # A level with little luck, where noise is little, so that the margin is known.
        log = luck.setdefault(planned.seed, SEED_SD * min(1.0, sd / PAIRED_SD) * rng.standard_normal())
        log += sd / math.sqrt(2) * rng.standard_normal()
        if planned.origin is not None and named:
            log -= named.get(planned.origin, 0.0)
        elif planned.control not in ("uniform", "rival"):
            log -= effect
        plan.ended(record(planned, LEVEL * math.exp(log)))
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
    """Whether a schedule is said to beat uniform sampling, to beat the best rival, or any other claim is made."""
    ranking = Ranking.of(records, "fid")
    first, second = against_uniform(ranking), against_rival(ranking)
    said = verdict(first, "fid", IMAGES)
    uniform = " beats uniform sampling by " in said
    rival = " beats the best rival, " in rival_verdict(first, second, "fid")
    other = said.startswith("uniform sampling beats ") or any(found.rival and found.beats for found in first)
    return uniform, rival, other


def says_equal(records: list[TrialRecord]) -> bool:
    """Whether the best schedule and uniform sampling are said to be equal."""
    said = verdict(against_uniform(Ranking.of(records, "fid")), "fid", IMAGES)
    return " and uniform sampling are equal within " in said


def seeds_of(records: list[TrialRecord]) -> int:
    """The number of fresh seeds that a study ran."""
    return len({each.seed for each in records if each.role == "confirmation"})


def peeks(records: list[TrialRecord]) -> tuple[bool, bool]:
    """Whether any look makes a claim, after each seed from the first that may; and whether one by Student's t would."""
    student, claim = False, False
    for seeds in range(FIRST_SEEDS, MOST + 1):
        seen = [each for each in records if each.role != "confirmation" or each.seed < FRESH_SEEDS + seeds]
        claim = claim or any(claims(seen))
        student = student or by_student(Ranking.of(seen, "fid"), seeds)
    return claim, student


def by_student(ranking: Ranking, seeds: int) -> bool:
    """Whether any arm differs from uniform sampling by the interval for a fixed number of seeds."""
    arms = ranking.confirmed
    table = np.log([list(arm.by_seed("fid").values()) for arm in arms])
    (uniform,) = (values for arm, values in zip(arms, table, strict=True) if arm.is_uniform)
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    k = len(table) - 1
    freedom = k * (seeds - 1)
    half = stdtrit(freedom, 1 - 0.025 / k) * math.sqrt(2 * (rest**2).sum() / freedom / seeds)
    return bool((abs((table - uniform).mean(1)) > half).any())


@click.command()
@click.option("--studies", default=1000, show_default=True, help="Studies of each kind.")
@click.option("--trials", default=8, show_default=True, help="Searched schedules of a study.")
@click.option("--seed", default=0, show_default=True, help="Seed of the simulation.")
def main(studies: int, trials: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    config = StudyConfig(trials=trials)
    least, most = config.least_and_most_seeds
    equal = [play(rng, config, 0.0) for _ in range(studies)]
    null = [claims(records) for records in equal]
    found = [play(rng, config, 2 * PAIRED_SD) for _ in range(studies)]
    alone = [play(rng, config, 2 * PAIRED_SD, rivals={}) for _ in range(studies)]
    planted = [claims(records) for records in found]
    arms = {"claim": {"weighting.kind": "min_snr"}, "control": {"schedule.base.kind": "logit_normal"}}
    other = StudyConfig(arms=arms, confirm_seeds=(least, most))
    effects = {TrialKey.arm("claim"): 2 * PAIRED_SD, TrialKey.arm("control"): -math.log(5)}
    named = [play(rng, other, 0.0, rivals={}, named=effects) for _ in range(studies)]
    # What the search does is of no matter here.
    short = StudyConfig(trials=1, confirm_seeds=MOST)
    looks = [peeks(play(rng, short, 0.0)) for _ in range(studies)]
    margin, near = MARGIN, StudyConfig(trials=1, confirm_seeds=(least, MOST))
    wrong, right = [], []
    for part in (1, 2, 4):
        for effect in (-1.5 * margin, 1.5 * margin):
            ends = [says_equal(play(rng, near, effect, margin / part)) for _ in range(studies // 2)]
            wrong.append(sum(ends) / len(ends))
        ends = [says_equal(play(rng, near, 0.0, margin / part)) for _ in range(studies // 4)]
        right.append(sum(ends) / len(ends))
    result = {
        "false_claims": sum(any(study) for study in null) / studies,
        "power": sum(study[0] for study in planted) / studies,
        "power_rival": sum(study[1] for study in planted) / studies,
        "false_equal": max(wrong),
        "seeds_mean": round(sum(map(seeds_of, found)) / studies, 2),
        "seeds_mean_alone": round(sum(map(seeds_of, alone)) / studies, 2),
        "seeds_mean_null": round(sum(map(seeds_of, equal)) / studies, 2),
        "power_named": sum(
            answers_of(Ranking.of(records, "fid"), list(arms)).against_uniform["claim"].beats
            for records in named
        )
        / studies,
        "power_alone": sum(claims(records)[0] for records in alone) / studies,
        "peeking": sum(ours for ours, _ in looks) / studies,
        "peeking_student": sum(theirs for _, theirs in looks) / studies,
        "equal": right,
    }
    print(f"{studies} studies of each kind, {least} to {most} seeds where not said otherwise:")
    seeds = f"they end after {result['seeds_mean_null']} seeds on average"
    print(f"  null: {result['false_claims']:.1%} make a claim (at most 5% wanted); {seeds}")
    student = f"Student's t {result['peeking_student']:.1%}"
    print(f"  null, read after every seed to {MOST}: {result['peeking']:.1%} (5%); {student}")
    print(
        f"  planted: {result['power']:.1%} find it (90%) with {result['seeds_mean']} seeds on average (5), and"
    )
    print(f"    {result['power_rival']:.1%} find that it beats the best rival too")
    print(f"  planted, no rivals: {result['power_alone']:.1%} with {result['seeds_mean_alone']} seeds")
    print(f"  named arms, one of them five times worse: {result['power_named']:.1%} find the other")
    print(f"  1.5 margins: at most {result['false_equal']:.1%} say equal (5%)")
    shown = ", ".join(f"{share:.0%}" for share in right)
    print(
        f"  no difference, paired deviation of 1, 1/2 and 1/4 of the margin: {shown} say equal within {MOST} seeds"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
