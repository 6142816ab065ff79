"""A driver killed between any two of its writes: Optuna's journal and the records disagree, and the study goes on.

No Ray: what a driver does to its search algorithm, its journal and its records is done here by hand, and stopped.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tests.tuning.search.drivers import Driver
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace

# With this seed the best schedule has a twin that the space's start points are not.
FULL = StudyConfig.model_validate({"trials": 5, "confirm_seeds": 2, "seed": 1})
COMPRESSED = StudyConfig.model_validate(
    {"trials": 5, "confirm_seeds": 2, "halving": {"rule": "compressed", "reduction": 2, "rungs": 2}}
)
SPACE = SearchSpace.load("default")


class Killed(BaseException):
    """kill -9: nothing is tidied up."""


class Killable(Driver):
    """One start of a study's driver, two trials at a time; `kill(point, key)` may raise Killed at each write."""

    def __init__(
        self, folder: Path, config: StudyConfig, kill: Callable[[str, str], None] = lambda point, key: None
    ) -> None:
        self.folder, self.kill = folder, kill
        super().__init__(folder, config, self.records(), SPACE)

    def records(self) -> dict[TrialKey, TrialRecord]:
        found = [TrialRecord.read(path) for path in sorted(self.folder.glob("*.json"))]
        return {record.key: record for record in found if record is not None}

    def start(self) -> str | None:
        key = super().start()
        if key is not None:
            self.kill("asked", key)
        return key

    def end(self, key: str, fid: float | None, **changes: Any) -> None:
        self.kill("trained", key)
        path = self.folder / f"{key}.json"
        assert not path.exists(), f"{key} was run twice"
        record = self.record(key, fid, **changes)
        path.write_text(json.dumps(record.to_json()))
        self.kill("recorded", key)
        self.search.ended(record)
        self.kill("told", key)

    def play_two_at_a_time(self, crashes: str = "") -> None:
        """Run to the end; the trial `crashes` fails."""
        running: list[str] = []
        for _ in range(200):
            started = self.start() if len(running) < 2 else None
            if started is not None:
                running.append(started)
            elif running:
                key = running.pop(0)
                if key == crashes:
                    self.end(key, None, reason="out of memory")
                else:
                    self.end(key, self.score(key))
            else:
                assert self.search.complete
                return
        raise AssertionError("the study does not end")

    def score(self, key: str) -> float:
        """A schedule's FID by its clusters and budget, the same at each start."""
        return 2.0 + self.runs[key].schedule.clusters.count % 7 + 1e4 / self.runs[key].total_images

    @property
    def trials(self) -> dict[str, optuna.trial.FrozenTrial]:
        return {trial.user_attrs.get("curriculum_ray.key", ""): trial for trial in self.search.study.trials}


def once(point: str, prefix: str) -> Callable[[str, str], None]:
    """Kill at this point of the first trial whose key begins with `prefix`."""

    def kill(at: str, key: str) -> None:
        if at == point and key.startswith(prefix):
            raise Killed

    return kill


def check(driver: Killable) -> None:
    """Everything ran, and Optuna knows each schedule once, in the state and with the values of its records."""
    plan, trials = driver.plan, driver.trials
    assert plan.complete
    assert len(plan.records) == plan.total
    assert driver.records().keys() == plan.records.keys()
    assert set(trials) == {f"search-{index:03d}" for index in range(driver.config.trials)}
    # Nothing is left running or waiting, and no start point is lost.
    assert len(driver.search.study.trials) == driver.config.trials
    starts = [json.dumps(trial.system_attrs.get("fixed_params")) for trial in trials.values()]
    assert Counter(start for start in starts if start != "null") == Counter(map(json.dumps, SPACE.start))
    for key, trial in trials.items():
        number = TrialKey(key).number
        rungs = [r for r in plan.records.values() if r.role == "rung" and r.key.number == number]
        budgets = driver.config.halving.budgets(driver.config.run.total_images)
        scores = {budgets[r.key.rung or 0]: r.metrics["fid"] for r in rungs if r.status == "finished"}
        assert trial.intermediate_values == scores
        full = plan.records.get(TrialKey(key))
        if full is None:
            failed = any(record.status == "failed" for record in rungs)
            assert trial.state == (TrialState.FAIL if failed else TrialState.PRUNED)
        elif full.status == "failed":
            assert (trial.state, trial.user_attrs["reason"]) == (TrialState.FAIL, "out of memory")
        else:
            assert (trial.state, trial.value) == (TrialState.COMPLETE, full.metrics["fid"])


PHASES = {
    "the control": (FULL, "control-"),
    "the first schedule": (FULL, "search-000"),
    "a start point": (FULL, "search-002"),
    "a chosen schedule": (FULL, "search-004"),
    "twins": (FULL, "twin-"),
    "confirmations": (FULL, "confirm-"),
    "the last confirmation": (FULL, "confirm-control-uniform-seed1001"),
    "the lowest rung": (COMPRESSED, "rung0-001"),
    "the lowest rung's last": (COMPRESSED, "rung0-003"),
    "a middle rung": (COMPRESSED, "rung1-"),
    "the top rung": (COMPRESSED, "search-"),
    "a second bracket": (COMPRESSED, "rung0-004"),
    "a compressed study's confirmations": (COMPRESSED, "confirm-"),
}


@pytest.mark.parametrize("point", ["asked", "trained", "recorded", "told"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_kill_at_any_write_of_any_phase_loses_nothing_and_runs_nothing_twice(
    tmp_path: Path, phase: str, point: str
) -> None:
    config, prefix = PHASES[phase]
    first = Killable(tmp_path, config, once(point, prefix))
    with pytest.raises(Killed):
        first.play_two_at_a_time()
    kept = first.records()
    running = {key: run for key, run in first.runs.items() if key not in kept}
    second = Killable(tmp_path, config)
    second.play_two_at_a_time()
    check(second)
    assert not set(kept) & set(second.runs)
    # Trials that were running go on as they were: the same schedule, seed and budget.
    assert {key: second.runs[key] for key in running} == running


@pytest.mark.parametrize("config", [FULL, COMPRESSED])
def test_a_kill_at_every_single_write_still_ends(tmp_path: Path, config: StudyConfig) -> None:
    seen: set[tuple[str, str]] = set()

    def kill(point: str, key: str) -> None:
        if (point, key) not in seen:
            seen.add((point, key))
            raise Killed

    for _ in range(200):
        try:
            last = Killable(tmp_path, config, kill)
            last.play_two_at_a_time()
            break
        except Killed:
            continue
    check(last)
    assert len(seen) >= 3 * len(last.plan.records)


@pytest.mark.parametrize(("config", "crashes"), [(FULL, "search-001"), (COMPRESSED, "rung0-001")])
def test_a_crash_recorded_before_the_kill_stays_a_fail(
    tmp_path: Path, config: StudyConfig, crashes: str
) -> None:
    first = Killable(tmp_path, config, once("recorded", crashes))
    with pytest.raises(Killed):
        first.play_two_at_a_time(crashes)
    second = Killable(tmp_path, config)
    second.play_two_at_a_time()
    check(second)
    assert second.trials[first.planned[crashes].optuna or ""].state == TrialState.FAIL


@pytest.mark.parametrize("writes", range(11))
def test_a_kill_between_optunas_own_writes_keeps_start_points_and_leaves_no_stray_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """From the making of the study to the end of its last trial."""
    backend = optuna.storages.journal.JournalFileBackend
    append, done = backend.append_logs, 0

    def limited(self: Any, logs: list[dict[str, Any]]) -> None:
        nonlocal done
        if done == writes:
            raise Killed
        done += 1
        append(self, logs)

    monkeypatch.setattr(backend, "append_logs", limited)
    with pytest.raises(Killed):
        Killable(tmp_path, FULL).play_two_at_a_time()
    monkeypatch.setattr(backend, "append_logs", append)
    second = Killable(tmp_path, FULL)
    second.play_two_at_a_time()
    check(second)
