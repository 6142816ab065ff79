"""A study with a budget of time ends in it, and what answers its question is never left out for another schedule."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.runs.config import RunConfig
from tests.tuning.studies import result, started
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord
from tuning.study.calibration import Calibration, TrialSpeed
from tuning.study.config import StudyConfig
from tuning.study.controls import Controls
from tuning.study.cost import estimate
from tuning.study.plan import StudyPlan
from tuning.study.time_budget import TimeBudget, fit_into, seconds_to_end, speed_of, trials_that_fit, work_of
from tuning.study.trial_spec import TrialSpec

RUN = {"batch_size": 10, "images": 400, "log_every_images": 100}
# A trial of 400 images takes 10 s.
SPEED = TrialSpeed(seconds_per_image=0.02, seconds_per_evaluation=2.0)


def _config(**changes: Any) -> StudyConfig:
    return StudyConfig.model_validate({"run": RUN, "trials": 20, "confirm_seeds": 3, **changes})


class _Simulated:
    """A study whose trials take a given time, on slots that are never idle without need."""

    def __init__(
        self,
        config: StudyConfig,
        seconds: float,
        slots: int = 1,
        guess: TrialSpeed | None = None,
        earlier: Mapping[TrialKey, TrialRecord] | None = None,
        closed: set[str] | None = None,
        pace: float = 1.0,
        begun: Collection[TrialKey] = (),
    ) -> None:
        """pace: how many times as long trials take as they would by SPEED."""
        self.now, self.config, self.slots = 0.0, config, slots
        self.time = TimeBudget(lambda: seconds - self.now, slots, guess=guess, now=lambda: self.now)
        self.plan = StudyPlan(
            config, dict(earlier or {}), time=self.time, closed=set(closed or ()), begun=begun
        )
        self.pace, self.keys = pace, list[str]()

    def play(self, most: int = 1000, until: Collection[str] = ()) -> float:
        """Run it to its end, for so many trials, or until these have started; returns how long it took."""
        running: list[tuple[float, TrialSpec]] = []
        while not self.plan.complete and len(self.keys) < most:
            while len(running) < self.slots and (trial := self.plan.next()) is not None:
                work = work_of(self.config, trial.role, trial.control, trial.images)
                self.time.started(trial.key, work)
                running.append((self.now + self.pace * SPEED.seconds(work), trial))
                self.keys.append(trial.key)
            if until and set(until) <= set(self.keys):
                break
            if running:
                running.sort(key=lambda each: (each[0], each[1].key))
                self.now, trial = running.pop(0)
                measured = TrialSpeed(
                    self.pace * SPEED.seconds_per_image, self.pace * SPEED.seconds_per_evaluation
                )
                self.time.ended(trial.key, measured)
                self.plan.ended(_record(trial))
        return self.now

    @property
    def running(self) -> set[TrialKey]:
        """The trials that started and did not end."""
        return {TrialKey(key) for key in self.keys}.difference(self.plan.records)

    def of(self, kind: str) -> list[str]:
        """The trials of a kind that ran."""
        return [key for key in self.keys if key.startswith(kind)]


def _record(trial: TrialSpec) -> TrialRecord:
    number = trial.optuna.number if trial.optuna else 0
    schedule = trial.schedule or CurriculumSchedule.from_dict(
        {
            "version": 1,
            "clusters": {"by": "uniform", "count": 4 + number},
            "order": {"direction": "easy_to_hard"},
            "pacing": {"rule": "plateau", "patience": 3},
        },
        "test",
    )
    return started(trial, RunConfig(schedule=schedule)).finished(result(5.0 + number))


def test_trials_go_to_the_slot_that_is_free_first_and_phases_wait_for_each_other() -> None:
    assert seconds_to_end([], [[10.0] * 3], 2) == 20
    assert seconds_to_end([4.0], [[10.0]], 2) == 10
    assert seconds_to_end([4.0, 7.0], [[10.0]], 2) == 14
    assert seconds_to_end([], [[10.0] * 3, [1.0], [], [5.0, 5.0]], 2) == 20 + 1 + 5


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_a_study_ends_in_its_time_with_as_many_schedules_as_plan_says(slots: int) -> None:
    config = _config()
    study = _Simulated(config, 205.0, slots, guess=SPEED)
    assert study.play() <= 205.0
    expected = trials_that_fit(config, Controls(), SPEED, slots, 205.0)
    assert len(study.of("search-")) == expected > 0
    assert (len(study.of("twin-")), len(study.of("confirm-"))) == (2, 6)
    assert len(study.plan.left_out) == 20 - expected
    assert study.plan.total == len(study.keys)


def test_without_a_limit_nothing_is_left_out_and_without_a_speed_nothing_yet() -> None:
    plan = StudyPlan(_config(trials=2))
    assert [trial.key for trial in (plan.next(), plan.next(), plan.next()) if trial] == [
        "control-uniform",
        "search-000",
        "search-001",
    ]
    study = _Simulated(_config(), 130.0, slots=2)
    assert study.play() <= 130.0
    # The first schedule starts beside uniform sampling; then the speed is known.
    assert study.of("search-")


def test_a_guess_leaves_nothing_out() -> None:
    """A calibration on a busy machine may be far too slow: the first trial tells."""
    study = _Simulated(_config(), 205.0, slots=2, guess=TrialSpeed(0.2, 20.0))
    assert study.play() <= 205.0
    assert len(study.of("search-")) == 20


def test_seeds_are_confirmed_with_all_arms_or_not_at_all() -> None:
    """Trials turn out twice as slow when the search has ended."""
    study = _Simulated(_config(confirm_seeds=6), 230.0, guess=SPEED)
    while not study.of("confirm-"):
        study.play(most=len(study.keys) + 1)
    study.pace = 2.0
    assert study.play() <= 230.0
    seeds = [key.rpartition("-seed")[2] for key in study.of("confirm-")]
    assert 1 < len(set(seeds)) < 6
    assert all(seeds.count(seed) == 2 for seed in seeds)
    assert {key for key in study.plan.left_out if key.startswith("confirm-")} == {
        key
        for seed in range(1000 + len(set(seeds)), 1006)
        for key in (f"confirm-search-000-seed{seed}", f"confirm-control-uniform-seed{seed}")
    }


def test_the_share_of_the_confirmations_is_that_of_the_least_seeds() -> None:
    config = _config(confirm_seeds=(3, 10))
    assert (
        trials_that_fit(config, Controls(), SPEED, 1, 150.0)
        == trials_that_fit(_config(), Controls(), SPEED, 1, 150.0)
        == 6
    )
    study = _Simulated(config, 150.0, guess=SPEED)
    assert study.play() <= 150.0
    assert len(study.of("search-")) == 6
    assert len(study.of("confirm-")) >= 6


def test_schedules_that_compete_are_tried_together_or_not_at_all() -> None:
    config = _config(halving={"rule": "compressed", "reduction": 2, "rungs": 2})
    study = _Simulated(config, 220.0, slots=2, guess=SPEED)
    assert study.play() <= 220.0
    first = len(study.of("rung0-"))
    assert first > 0
    assert first % 4 == 0
    assert len(study.of("rung1-")) == first // 2
    assert len(study.of("search-")) == first // 4
    assert first == trials_that_fit(config, Controls(), SPEED, 2, 220.0)


def test_the_same_time_leaves_a_resumed_study_as_it_is_and_more_time_goes_on() -> None:
    config = _config()
    study = _Simulated(config, 150.0, guess=SPEED)
    used = study.play()
    same = _Simulated(config, 150.0 - used, earlier=study.plan.records, closed=study.plan.closed)
    assert same.plan.complete
    assert same.plan.left_out == study.plan.left_out
    more = _Simulated(config, 220.0 - used, guess=SPEED, earlier=study.plan.records)
    more.play()
    # Another schedule may become the best: its twins and its own fresh seeds still have their share of 50 s.
    assert len(more.of("search-")) == (220 - 150 - 50) // 10
    assert len(study.of("search-")) + len(more.of("search-")) + len(more.plan.left_out) == 20


def test_a_seed_that_was_begun_is_finished_after_an_interruption() -> None:
    config = _config(trials=1)
    study = _Simulated(config, 1000.0, guess=SPEED)
    while len(study.of("confirm-")) < 3:
        study.play(most=len(study.keys) + 1)
    records = {key: record for key, record in study.plan.records.items() if key in study.keys}
    late = _Simulated(config, 1.0, guess=SPEED, earlier=records)
    late.play()
    assert late.keys == ["confirm-control-uniform-seed1001"]


@pytest.mark.parametrize(
    "running",
    [
        {"confirm-search-000-seed1002", "confirm-control-uniform-seed1002"},
        {"twin-search-000-random", "twin-search-000-reversed"},
    ],
)
def test_trials_that_ran_when_a_study_was_interrupted_go_on_whatever_time_is_left(running: set[str]) -> None:
    config = _config(trials=1)
    study = _Simulated(config, 1000.0, slots=2, guess=SPEED)
    study.play(until=running)
    assert study.running == running
    late = _Simulated(config, 1.0, 2, SPEED, study.plan.records, begun=study.running)
    late.play()
    assert set(late.keys) == running
    assert not running & late.plan.left_out


def test_an_arm_runs_with_the_other_of_its_seed_that_was_running() -> None:
    study = _Simulated(_config(trials=1), 1000.0, guess=SPEED)
    study.play(until={"confirm-search-000-seed1002"})
    late = _Simulated(study.config, 1.0, 1, SPEED, study.plan.records, begun=study.running)
    late.play()
    assert late.keys == ["confirm-search-000-seed1002", "confirm-control-uniform-seed1002"]


def test_of_a_phase_that_was_closed_only_what_was_running_goes_on() -> None:
    study = _Simulated(_config(), 205.0, slots=2, guess=SPEED)
    study.play(until={"search-003"})
    assert study.running == {"search-002", "search-003"}
    late = _Simulated(
        study.config, 205.0, 2, SPEED, study.plan.records, closed={"opening"}, begun=study.running
    )
    late.play()
    assert late.of("search-") == ["search-002", "search-003"]
    assert late.plan.left_out == {f"search-{index:03d}" for index in range(4, 20)}
    assert (len(late.of("twin-")), len(late.of("confirm-"))) == (2, 6)


def test_a_speed_is_that_of_the_slower_trials() -> None:
    work = work_of(_config(), "searched")
    assert speed_of(400, 10.0, [50.0, 50.0], work) == SPEED
    assert speed_of(400, 10.0, [], work) is None
    budget = TimeBudget(lambda: 0.0, 1, [TrialSpeed(each, 1.0) for each in (4.0, 1.0, 2.0, 3.0)])
    assert budget.speed == TrialSpeed(3.0, 1.0)


def test_plan_says_what_fits() -> None:
    short = fit_into(_config(hours=0.01), Controls(), SPEED, 1)
    assert short is not None
    # Uniform, one schedule, two twins, six confirmations of 10 s, and 19 schedules more.
    assert (short.trials, short.least * 3600, short.whole * 3600) == (
        0,
        pytest.approx(100),
        pytest.approx(290),
    )
    assert short.in_words(20).startswith("0.01 hours are too short: controls, one schedule")
    fitting = fit_into(_config(hours=0.05), Controls(), SPEED, 1)
    assert fitting is not None
    assert fitting.in_words(20).startswith("in 0.05 hours: 9 of 20 schedules")
    assert fit_into(_config(), Controls(), SPEED, 1) is None


@pytest.mark.parametrize("pack", [1, 2, 8])
def test_packs_fit_into_the_time_that_they_are_expected_to_take(pack: int) -> None:
    """Trials whose shares of a pack's steps and evaluations take 10 s each."""
    found = Calibration("CPU", seconds_per_step=0.2, seconds_per_evaluation=2.0)
    # Uniform and 63 schedules, two twins, and two arms of seven fresh seeds: ten packs of 8 at a time on one slot.
    config = _config(trials=63, confirm_seeds=7, pack=pack, hours=1)
    cost = estimate(config, Controls(), found, 1)
    speed = found.speed(10, pack)
    assert (speed.seconds_per_image, speed.seconds_per_evaluation) == (
        pytest.approx(pack * 0.02),
        pack * 2.0,
    )
    fitting = fit_into(config, Controls(), speed, cost.concurrent)
    assert fitting is not None
    assert cost.wall_seconds == pytest.approx(800)
    # Ten seconds for each place of a pack: of 8, six are empty beside the twins and two beside the confirmations.
    empty = {1: 0, 2: 0, 8: 8}[pack]
    assert fitting.whole * 3600 == pytest.approx(800 + 10 * empty)
