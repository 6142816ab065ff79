"""An error while an event of a trial is recorded ends the search: Tune neither runs the trial again nor hides it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.search import ConcurrencyLimiter

from curriculum_ray.config import ConfigError
from tuning.search.ray_tune.errors import unwrapped
from tuning.search.ray_tune.run import Events, SearchFailed, _said_in_one_line
from tuning.search.ray_tune.searcher import TuneSearcher

DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Controller:
    """As much of a `TuneController` as its own code needs to end a trial, and to hand on what an actor reports."""

    stop_trial: Any = TuneController.stop_trial
    schedule: Any = TuneController._schedule_trial_task
    RAISE, _fail_fast, _iteration, _trials = TuneController.RAISE, False, 0, ()

    def __init__(self, searcher: TuneSearcher, trial: Any) -> None:
        self._search_alg = ConcurrencyLimiter(searcher, 1)
        self._scheduler_alg = SimpleNamespace(on_trial_complete=lambda *_: None)
        self._trial_to_actor, self._actor_to_trial = {trial: "actor"}, {"actor": trial}
        self._actor_manager = SimpleNamespace(schedule_actor_task=self._report)
        self.blamed: list[str] = []

    def _report(self, on_result: Any, **_: Any) -> None:
        on_result("actor", {"attempt": 1})

    def _process_trial_failure(self, trial: Any, exception: Exception) -> None:
        self.blamed.append(str(exception))


class _Trial:
    def __init__(self) -> None:
        self.trial_id, self.status = "t1", Trial.RUNNING
        self.config = {"job": SimpleNamespace(key="search-000")}
        self.last_result = {"outcome": "stopped", "done": True}


def _ending(error: Exception) -> tuple[_Controller, _Trial, list[str]]:
    """A controller of a trial whose end cannot be recorded, the trial, and the keys of those that ended."""
    ended = []

    def record(planned: Any, result: Any) -> None:
        ended.append(planned.key)
        raise error

    search: Any = SimpleNamespace(suggest=lambda: (SimpleNamespace(key="search-000"), None), complete=False)
    trial = _Trial()
    controller = _Controller(TuneSearcher(search, lambda *_: {"job": 1}, record), trial)
    controller._search_alg.suggest(trial.trial_id)
    return controller, trial, ended


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DISK_FULL, "OSError: [Errno 28] No space left on device"),
        (RuntimeError("the database is gone\nand more"), "RuntimeError: the database is gone and more"),
    ],
)
def test_an_error_while_the_end_of_a_trial_is_recorded_ends_the_search_in_one_line(
    error: Exception, said: str, tmp_path: Path
) -> None:
    controller, trial, ended = _ending(error)
    with pytest.raises(SearchFailed) as failed, _said_in_one_line(tmp_path, None), unwrapped():
        controller.stop_trial(trial)
    path = tmp_path / "error.txt"
    assert str(failed.value) == f"the search cannot go on: {said} (the traceback is in {path})"
    assert (ended, controller.blamed) == (["search-000"], [])
    assert "in record" in path.read_text()


@pytest.mark.parametrize(
    "error",
    [ConfigError("metric must be known"), OSError(errno.ENOSPC, "No space left on device", "record.json")],
)
def test_an_error_that_names_its_place_leaves_as_it_is(error: Exception, tmp_path: Path) -> None:
    controller, trial, _ = _ending(error)
    with pytest.raises(type(error)) as raised, _said_in_one_line(tmp_path, None), unwrapped():
        controller.stop_trial(trial)
    assert raised.value is error
    assert not list(tmp_path.iterdir())


def test_a_disk_too_full_for_the_traceback_is_said_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise DISK_FULL

    monkeypatch.setattr(Path, "write_text", full)
    controller, trial, _ = _ending(DISK_FULL)
    with pytest.raises(SearchFailed) as failed, _said_in_one_line(tmp_path, None), unwrapped():
        controller.stop_trial(trial)
    assert str(failed.value) == "the search cannot go on: OSError: [Errno 28] No space left on device"


def test_an_error_while_a_report_is_recorded_is_said_without_tunes_own_traceback(tmp_path: Path) -> None:
    def started(key: str) -> None:
        raise RuntimeError(f"no display for {key}")

    study: Any = SimpleNamespace(started=started)
    pace: Any = SimpleNamespace(clock=SimpleNamespace(tick=lambda: None))
    events = Events(study, pace)
    controller, trial, _ = _ending(DISK_FULL)

    def reported(trial: Any, result: Any) -> None:
        events.on_trial_result(0, [], trial, result)

    with pytest.raises(SearchFailed) as failed, _said_in_one_line(tmp_path, None), unwrapped():
        controller.schedule(trial, "train", on_result=reported)
    said = "the search cannot go on: RuntimeError: no display for search-000"
    assert str(failed.value) == f"{said} (the traceback is in {tmp_path / 'error.txt'})"
