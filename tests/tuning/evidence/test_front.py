"""Two objectives: the metric against images to match uniform sampling, for Optuna, for the eye, and across a kill."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from curriculum_ray.config import ConfigError, parse
from tests.tuning.search.drivers import Driver
from tests.tuning.studies import record
from tuning.cli.status import _lines
from tuning.evidence.arms import Ranking
from tuning.evidence.front import MISSED, Objectives, front, objectives
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord
from tuning.folder.process import ProcessIdentity
from tuning.folder.status import StudyStatus
from tuning.study.best_curricula import best_curricula
from tuning.study.config import StudyConfig
from tuning.terminal.display import Display

CONFIG = StudyConfig.model_validate({"trials": 6, "confirm_seeds": 2, "sampler": "nsgaii", "previews": 4})
UNIFORM = record(
    8.0,
    key="control-uniform",
    role="control",
    control="uniform",
    images=1000,
    history=[[500, 12.0], [1000, 10.0]],
)


_NUMBERS = itertools.count()


def trial(name: str, fid: float, half: float, end: float, **changes: Any) -> TrialRecord:
    history = [[500, half], [1000, end]]
    key = TrialKey.search(next(_NUMBERS))
    return record(fid, key=key, name=name, arm_id=name, images=1000, history=history, **changes)


def _front(records: Iterable[TrialRecord]) -> list[Objectives]:
    return front(Ranking.of(records, "fid"))


def test_images_are_read_off_between_two_previews_and_a_miss_costs_the_same_to_all() -> None:
    found = objectives(trial("a", 7.0, 11.0, 9.0), UNIFORM, "fid")
    assert (found.value, found.images, found.missed) == (7.0, 750.0, False)
    for each in (trial("b", 9.0, 14.0, 10.5), trial("c", 9.0, 90.0, 80.0)):
        assert objectives(each, UNIFORM, "fid").images == MISSED * 1000
    assert objectives(trial("d", 7.0, 1.0, 1.0), None, "fid").missed


def test_with_two_objectives_the_front_is_confirmed_before_what_it_dominates() -> None:
    trials = [
        trial("best", 5.0, 15.0, 8.0),
        trial("dominated", 5.5, 16.0, 8.5),
        trial("fast", 7.0, 9.0, 9.0),
    ]
    records = [UNIFORM, *trials]
    two = CONFIG.model_copy(update={"confirm_top": 2})
    ranking = Ranking.of(records, "fid")
    assert [each.name for each in best_curricula(two, ranking)] == ["best", "fast"]
    one = two.model_copy(update={"sampler": "tpe"})
    assert [each.name for each in best_curricula(one, ranking)] == ["best", "dominated"]


def test_the_front_begins_with_the_best_by_the_metric_and_ends_with_the_fastest() -> None:
    trials = [
        trial("slow and best", 5.0, 15.0, 8.0),
        trial("fast", 7.0, 9.0, 9.0),
        trial("dominated", 7.5, 11.0, 9.0),
        trial("never there", 4.0, 30.0, 20.0),
        trial("a rung", 1.0, 1.0, 1.0, role="rung"),
        record(None, key="search-999"),
    ]
    assert [each.name for each in _front([UNIFORM, *trials])] == ["never there", "slow and best", "fast"]
    words = [each.in_words("fid") for each in _front([UNIFORM, *trials])]
    assert "not as good as uniform" in words[0]
    assert "after 500 images: fast" in words[2]
    assert _front([UNIFORM, record(3.0)]) == []


def test_a_running_study_shows_its_front() -> None:
    progress = Display(4, 1000)
    progress.earlier([UNIFORM, trial("fast", 7.0, 9.0, 9.0), trial("best", 5.0, 15.0, 8.0)])
    shown = StudyStatus(
        study="s",
        state="running",
        driver=ProcessIdentity(host="here", pid=1),
        beat=1,
        since=0.0,
        time=0.0,
        progress=progress.snapshot(),
    )
    lines = [line for line in _lines(shown) if "as good as uniform sampling" in line]
    assert [line.split()[-1] for line in lines] == ["best", "fast"]
    assert lines[0].startswith("front ")


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"previews": 0}, "needs previews"), ({"halving": {"rule": "compressed"}}, "halving must be none")],
)
def test_what_two_objectives_cannot_do_is_refused_in_one_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse(StudyConfig, {"sampler": "nsgaii", "previews": 4, **changes}, "study")
    assert "\n" not in str(caught.value)


def _history(fid: float) -> dict[str, Any]:
    half, end = CONFIG.run.total_images // 2, CONFIG.run.total_images
    return {"history": [[half, fid + 2], [end, fid]], "rungs": [[half, fid + 2]]}


def test_optuna_hears_both_aims_once_uniform_sampling_has_ended_also_after_a_kill(tmp_path: Path) -> None:
    first = Driver(tmp_path, CONFIG)
    assert [first.start() for _ in range(3)] == ["control-uniform", "search-000", "search-001"]
    first.end("search-000", 5.0, **_history(5.0))
    assert first.search.study.trials[0].state == TrialState.RUNNING
    second = Driver(tmp_path, CONFIG, first.plan.records)
    number = 0
    while (key := second.start()) is not None:
        assert key != "search-000"
        fid = 6.0 if key == "control-uniform" else 4.5 + number
        second.end(key, fid, **_history(fid))
        number += 1
    trials = second.search.study.trials
    assert [each.state for each in trials] == [TrialState.COMPLETE] * CONFIG.trials
    budget = CONFIG.run.total_images
    assert trials[0].values == [5.0, 0.75 * budget]
    assert trials[-1].values[1] == MISSED * budget
    previewed = {key.split("-")[0]: run.preview is not None for key, run in second.runs.items()}
    assert previewed == {"control": True, "search": True, "confirm": True}
    best = _front(second.plan.records.values())[0]
    assert best.key.confirmation(1000) in second.plan.records
