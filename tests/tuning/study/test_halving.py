"""Smaller budgets do not kill a slow curriculum that wins at the full one; cutting runs short does."""

from __future__ import annotations

import asyncio
import copy
import json
import math
from pathlib import Path

import pytest

from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.board import Board
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.jobs import JobStatus, Progress, Stopped
from tests.distributed.jobs import as_job, progress
from tests.tuning.study.test_plan import _record, _schedule
from tuning.cli import main
from tuning.evidence.keys import TrialKey
from tuning.search.preflight import check_study
from tuning.study.config import StudyConfig
from tuning.study.halving import AfterLastStage, Compressed, FullBudget, promoted
from tuning.study.plan import StudyPlan
from tuning.study.pruning import Judge, rung_scores
from tuning.study.space import SearchSpace
from tuning.study.trial_spec import TrialSpec

BUDGET = 44_800
SLOW = 5


def score(index: int, images: int, total: int) -> float:
    """The FID of schedule `index` after `images` of a budget of `total`, lower is better.

    Schedule `SLOW` reaches low noise at 80% of the budget, whatever that is: catastrophic before, the best after.
    """
    learnt = 5 * (BUDGET / images) ** 0.5
    if index == SLOW:
        return 0.8 * learnt if images >= 0.8 * total else 700.0
    return learnt * (1 + 0.02 * index)


def naive(trials: int, reduction: int, rungs: int) -> int:
    """Stop all but the best 1/reduction at each rung of runs at the full budget, as ASHA does; returns the winner."""
    alive = list(range(trials))
    for left in range(rungs, 0, -1):
        images = BUDGET // reduction**left
        alive = sorted(alive, key=lambda index: score(index, images, BUDGET))[
            : max(1, len(alive) // reduction)
        ]
    return min(alive, key=lambda index: score(index, BUDGET, BUDGET))


def play(config: StudyConfig) -> tuple[StudyPlan, list[TrialSpec]]:
    """Run a plan one trial at a time; searched trial i has 2 + i clusters."""
    plan, done = StudyPlan(config), []
    while (planned := plan.next()) is not None:
        total = planned.images or config.run.total_images
        index = int((planned.optuna or planned.origin or "0")[-3:]) if planned.control is None else 0
        fid = score(index, total, total) if planned.control is None else 6.0
        plan.ended(_record(planned, planned.schedule or _schedule(count=2 + index), fid))
        done.append(planned)
    assert plan.complete
    return plan, done


CONFIG = StudyConfig.model_validate(
    {"trials": 8, "confirm_seeds": 2, "halving": {"rule": "compressed", "reduction": 2, "rungs": 3}}
)


def test_stopping_runs_early_kills_the_slow_curriculum_that_wins_at_the_full_budget() -> None:
    best = min(range(8), key=lambda index: score(index, BUDGET, BUDGET))
    assert best == SLOW
    assert naive(8, reduction=2, rungs=3) != SLOW


def test_compressed_budgets_keep_it() -> None:
    plan, done = play(CONFIG)
    assert plan.ranking.curricula[0].key == f"search-{SLOW:03d}"
    rungs = [trial.images for trial in done if trial.role == "rung"]
    assert rungs == [5600] * 8 + [11_200] * 4 + [22_400] * 2


def test_a_higher_rung_repeats_the_schedule_of_the_one_below() -> None:
    plan, done = play(CONFIG)
    top = next(trial for trial in done if trial.role == "searched")
    assert top.schedule is not None
    assert top.images is None
    assert top.schedule == plan.records[TrialKey.search(SLOW).at_rung(0)].drawn_by


def test_a_small_budget_is_never_ranked_and_the_others_are_known_as_eliminated() -> None:
    plan, _ = play(CONFIG)
    assert {record.role for record in plan.ranking.curricula} <= {"searched", "control"}
    assert plan.eliminated == {f"search-{index:03d}" for index in range(8) if index != SLOW}


@pytest.mark.parametrize("trials", [1, 3, 8, 11])
def test_the_number_of_trials_is_known_beforehand(trials: int) -> None:
    rule = Compressed(rule="compressed", reduction=2, rungs=2)
    config = CONFIG.model_copy(update={"trials": trials, "halving": rule})
    _, done = play(config)
    assert sum(trial.role == "rung" for trial in done) == rule.low_trials(trials)
    assert sum(trial.role == "searched" for trial in done) == rule.full_trials(trials)


def test_budgets_end_at_the_full_one() -> None:
    assert Compressed(rule="compressed", reduction=3, rungs=2).budgets(9000) == [1000, 3000, 9000]
    assert FullBudget().budgets(9000) == [9000]


def test_compressed_halves_the_images_if_nothing_else_is_asked_for() -> None:
    rule = Compressed(rule="compressed")
    low, full = rule.budgets(40_000)
    assert 2 * (rule.low_trials(8) * low + rule.full_trials(8) * full) == 8 * full


def test_the_best_are_promoted_in_either_direction() -> None:
    scores = {"a": 3.0, "b": 1.0, "c": 2.0}
    assert promoted(scores, 2) == ["b", "c"]
    assert promoted(scores, 1, lower_is_better=False) == ["a"]


LOG = BUDGET // 8
LOOKS = AfterLastStage(rule="after_last_stage", reduction=2, rungs=7, settle=0.1)


def look(report: Progress, fid: float) -> Progress:
    """The report of a preview at the moment of another report."""
    return report.with_preview(report.images, {"fid": fid})


def judged(judge: Judge, index: int) -> str | None:
    """Run schedule `index` at the full budget, looked at on the way; returns why it was stopped, None if it was not."""
    for images in range(LOG, BUDGET + 1, LOG):
        last = images >= (0.75 if index == SLOW else 0.2) * BUDGET
        report = progress(images, 2 if last else 1, 3)
        assert judge(f"search-{index:03d}", report) is None
        reason = judge(f"search-{index:03d}", look(report, score(index, images, BUDGET)))
        if reason is not None:
            return reason
    return None


def test_looks_after_the_last_stage_stop_the_worse_but_keep_the_slow_curriculum() -> None:
    judge = Judge(LOOKS, "fid", BUDGET, lower_is_better=True)
    ended = {index: judged(judge, index) for index in [3, 6, SLOW, 1, 7, 0, 2, 4]}
    alive = [index for index, reason in ended.items() if reason is None]
    assert min(alive, key=lambda index: score(index, BUDGET, BUDGET)) == SLOW
    assert ended[6] is not None
    assert ended[7] is not None
    assert "in its last stage after 17k images" in ended[6]
    assert all(images >= 0.2 * BUDGET for images in judge.scores)
    assert {images for images, rung in judge.scores.items() if f"search-{SLOW:03d}" in rung} == {7 * LOG}


def test_controls_twins_and_confirmations_are_never_stopped() -> None:
    judge = Judge(LOOKS, "fid", BUDGET, lower_is_better=True)
    judged(judge, 0)
    bad = {images: look(progress(images), 900.0) for images in (LOG, 4 * LOG, 7 * LOG)}
    for key in ("control-uniform", "rival-min_snr", "twin-search-000-random", "confirm-search-000-seed1000"):
        assert [judge(key, report) for report in bad.values()] == [None] * 3
    assert judge("search-001", bad[LOG]) is None
    assert judge("search-001", bad[4 * LOG]) is not None


def test_a_study_that_goes_on_reads_the_looks_from_the_logs(tmp_path: Path) -> None:
    folder = tmp_path / "search-000"
    folder.mkdir()
    lines = [{"images": images, "stage": 1, "num_stages": 2} for images in (LOG, 2 * LOG, 3 * LOG)]
    lines.append({**lines[-1], "preview": {"fid": 5.0}})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"images": 4')
    judge = Judge(LOOKS, "fid", BUDGET, lower_is_better=True)
    judge.remember([folder, tmp_path / "search-001"])
    assert judge.scores == {3 * LOG: {"search-000": 5.0}}
    assert rung_scores(folder, "fid", BUDGET) == [(3 * LOG, 5.0)]
    again = copy.deepcopy(judge)
    again("search-001", progress(LOG, 1, 2))
    assert "number 2 of 2" in str(again("search-001", look(progress(3 * LOG, 1, 2), math.nan)))


def test_the_earlier_name_of_the_key_is_refused_in_one_line_that_has_the_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("fidelity: {rule: compressed}\n")
    for given in (["--config", str(file)], ["--set", "fidelity.rule=compressed"]):
        with pytest.raises(SystemExit) as end:
            main(["plan", *given])
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith("the key fidelity is now called halving")


def test_looks_that_come_too_late_are_refused_in_one_line() -> None:
    late = {"run": {"images": 25_600, "log_every_images": 25_600}, "halving": {"rule": "after_last_stage"}}
    with pytest.raises(ConfigError, match="early enough") as caught:
        check_study(StudyConfig.model_validate(late), SearchSpace.load("default"))
    assert "\n" not in str(caught.value)


def test_the_board_passes_the_judges_reason_on_to_the_run_and_to_the_driver() -> None:
    async def play() -> JobStatus:
        board = Board(judge=lambda key, report: "too bad" if report.images > 5 else None)
        await board.submit(as_job(Path("nowhere"), "a", RunConfig()))
        await board.take(0, 0, 0)
        assert not await board.report("a", progress(5))
        assert await board.report("a", progress(6))
        await board.end("a", Stopped())
        return (await board.status())["a"]

    found = asyncio.run(play())
    assert (found.state, found.reason) == ("stopped", "too bad")
