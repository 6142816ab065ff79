"""A search never runs more trials than `plan` says at most: twins and rivals follow from its space."""

from __future__ import annotations

from typing import Any

import pytest

from curriculum_ray.config import parse
from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.runs.config import RunConfig
from tests.tuning.studies import result, schedule, started
from tuning.study.config import StudyConfig
from tuning.study.controls import Controls
from tuning.study.plan import StudyPlan
from tuning.study.space import SearchSpace
from tuning.study.trial_spec import TrialSpec

COUNT = {"schedule.clusters.count": {"type": "int", "low": 3, "high": 9}}
RATE = {"optimizer.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2}}


def _space(**changes: Any) -> SearchSpace:
    return parse(SearchSpace, {"version": 1, "search": COUNT, **changes}, "space")


@pytest.mark.parametrize(
    ("space", "process", "has"),
    [
        (SearchSpace.load("default"), "ddpm", False),
        (SearchSpace.load("default"), "edm", False),
        (SearchSpace.load("paper"), "ddpm", False),
        (SearchSpace.load("wide"), "ddpm", True),
        (SearchSpace.of_arms(), "ddpm", False),
        (_space(search={**COUNT, **RATE}), "ddpm", True),
        (_space(fixed={"schedule": {"base": {"kind": "logit_normal"}}}), "ddpm", True),
        (_space(fixed={"schedule": {"base": {"kind": "uniform"}}}), "edm", True),
        (_space(fixed={"schedule": {"importance": {"rule": "gradient_norm"}}}), "ddpm", True),
    ],
)
def test_a_third_twin_is_for_what_else_differs_from_uniform_sampling(
    space: SearchSpace, process: str, has: bool
) -> None:
    run = RunConfig.model_validate({"process": {"kind": process}})
    assert Controls.of(0, space, run).plain_twin is has


def _fid(planned: TrialSpec) -> float:
    return {"search-000": 3.0, "search-001": 2.0}.get(planned.key, 5.0)


@pytest.mark.parametrize("rivals", [{}, {"p2": {"weighting.kind": "p2"}}])
@pytest.mark.parametrize("settings", [{}, {"optimizer.learning_rate": 0.01}])
def test_a_study_is_at_most_as_long_as_planned(
    rivals: dict[str, dict[str, Any]], settings: dict[str, float]
) -> None:
    config = StudyConfig(trials=2, confirm_seeds=2)
    space = _space(search={**COUNT, **(RATE if settings else {})})
    controls = Controls.of(len(rivals), space, config.run)
    plan = StudyPlan(config, rivals=rivals, plain_twin=controls.plain_twin)
    first, done = plan.total, 0
    while (planned := plan.next()) is not None:
        drawn = planned.schedule or CurriculumSchedule.from_dict(schedule(3 + int(planned.key[-1])))
        record = started(planned, RunConfig(schedule=drawn, seed=planned.seed))
        own = settings if planned.role == "searched" else planned.settings
        plan.ended(record.finished(result(_fid(planned))).model_copy(update={"settings": dict(own)}))
        done += 1
    assert plan.complete
    assert done == first == config.maximum_trials(controls)
    assert config.phases(controls)["twins of the best"] == 2 + bool(settings)
