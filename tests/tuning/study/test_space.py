"""A search space is a YAML file; what does not hold together is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from curriculum_ray.config import ConfigError
from curriculum_ray.runs.config import RunConfig
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace, SpaceFunction

CONDITIONAL = {
    "version": 1,
    "fixed": {"schedule": {"pacing": {"rule": "linear"}}},
    "search": {
        "schedule.pacing.rule": {"type": "categorical", "choices": ["plateau", "linear"]},
        "schedule.pacing.patience": {
            "type": "int",
            "low": 1,
            "high": 9,
            "when": {"schedule.pacing.rule": "plateau"},
        },
    },
}


def _write(path: Path, data: Any) -> str:
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return str(path)


def test_a_conditional_parameter_exists_only_where_its_condition_holds(tmp_path: Path) -> None:
    space = SearchSpace.load(_write(tmp_path / "s.yaml", CONDITIONAL))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(20):
        trial = study.ask()
        SpaceFunction(space)(trial)
        rule = trial.params["schedule.pacing.rule"]
        assert ("schedule.pacing.patience" in trial.params) == (rule == "plateau")
        seen.add(rule)
    assert seen == {"plateau", "linear"}


def test_searched_values_lie_over_fixed_ones_and_those_over_the_runs() -> None:
    space = SearchSpace.model_validate(
        {
            "version": 1,
            "fixed": {"schedule": {"clusters": {"count": 4}}, "seed": 5},
            "search": {"schedule.clusters.count": {"type": "int", "low": 1, "high": 9}},
        }
    )
    run = {"seed": 1, "images": 7, "schedule": {"clusters": {"by": "uniform", "count": 2}}}
    assert space.apply(run, {"schedule.clusters.count": 9}) == {
        "seed": 5,
        "images": 7,
        "schedule": {"clusters": {"by": "uniform", "count": 9}},
    }
    assert run["schedule"]["clusters"]["count"] == 2


def test_a_group_of_another_kind_is_replaced_whole() -> None:
    space = SearchSpace.model_validate(
        {
            "version": 1,
            "fixed": {"schedule": {"pacing": {"rule": "fixed", "stage_share": 0.1}}},
            "search": {"images": {"type": "int", "low": 1, "high": 2}},
        }
    )
    run = {"schedule": {"pacing": {"rule": "plateau", "patience": 3}}}
    assert space.apply(run, {})["schedule"]["pacing"] == {"rule": "fixed", "stage_share": 0.1}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "version"),
        ({"search": {}}, "search"),
        ({"search": {"a": {"type": "int", "low": 3, "high": 1}}}, "low must be at most high"),
        ({"search": {"a": {"type": "float", "low": 0, "high": 1, "log": True}}}, "low must be positive"),
        ({"search": {"a": {"type": "shape", "low": 0, "high": 1}}}, "type"),
        ({"search": {"a": {"type": "int", "low": 0, "high": 1, "step": 1}}}, "not a known key"),
        ({"start": [{"b": 1}]}, "not a searched key"),
        ({"start": [{"schedule.pacing.rule": "quad"}]}, "must lie in its range"),
        (
            {"search": {"a": {"type": "int", "low": 0, "high": 1, "when": {"b": 1}}}},
            "must be a searched key above it",
        ),
        ({"serach": {}}, "serach is not a known key"),
    ],
)
def test_a_faulty_space_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path = _write(tmp_path / "s.yaml", {**CONDITIONAL, **change})
    with pytest.raises(ConfigError) as caught:
        SearchSpace.load(path)
    assert says in str(caught.value)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_shipped_spaces() -> None:
    with pytest.raises(ConfigError, match="default"):
        SearchSpace.load("nonsense")


def test_the_default_space_opens_with_the_paper_and_its_controls() -> None:
    space = SearchSpace.load("default")
    orders = {point["schedule.order.direction"] for point in space.start}
    pacing = {(p["schedule.clusters.count"], p["schedule.pacing.patience_stage_share"]) for p in space.start}
    assert orders == {"easy_to_hard", "hard_to_easy", "random"}
    assert len(pacing) == 1


@pytest.mark.parametrize("name", ["default", "paper", "wide"])
def test_every_end_of_a_shipped_space_gives_a_schedule(name: str) -> None:
    space = SearchSpace.load(name)
    base = StudyConfig().run.model_dump(mode="json")
    probes = space.probes()
    for point in probes:
        RunConfig.model_validate(space.apply(base, point))
    assert {key for point in probes for key in point} == set(space.search)


def test_a_linear_pacing_has_no_patience_in_the_wide_space() -> None:
    space = SearchSpace.load("wide")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    base, rules = StudyConfig().run.model_dump(mode="json"), set()
    for _ in range(60):
        trial = study.ask()
        SpaceFunction(space)(trial)
        pacing = RunConfig.model_validate(space.apply(base, trial.params)).schedule.to_dict()["pacing"]
        assert ("patience_stage_share" in pacing) == (pacing["rule"] == "plateau")
        assert ("full_share" in pacing) == (pacing["rule"] in ("linear", "root", "exp"))
        rules.add(pacing["rule"])
    assert rules == {"plateau", "fixed", "linear", "root", "exp"}


def test_a_start_point_beside_its_condition_is_refused() -> None:
    point = {"schedule.pacing.rule": "linear", "schedule.pacing.patience": 3}
    with pytest.raises(ValueError, match="does not exist where its condition"):
        SearchSpace.model_validate({**CONDITIONAL, "start": [point]})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"search": {"schedule.cluster.count": {"type": "int", "low": 2, "high": 5}}},
            "search.schedule.cluster.count is not a key of a run; did you mean schedule.clusters.count?",
        ),
        (
            {"fixed": {"optimizer": {"lr": 1}}},
            "fixed.optimizer.lr is not a key of a run; did you mean optimizer.",
        ),
        (
            {"rivals": {"r": {"wieghting.kind": "p2"}}},
            "rivals.r.wieghting.kind is not a key of a run; did you mean w",
        ),
    ],
)
def test_a_key_that_no_run_has_is_refused_with_the_one_that_was_meant(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    path = tmp_path / "space.yaml"
    search = {"schedule.clusters.count": {"type": "int", "low": 2, "high": 5}}
    path.write_text(yaml.safe_dump({"version": 1, "search": search, **change}))
    with pytest.raises(ConfigError) as caught:
        SearchSpace.load(str(path))
    assert str(caught.value).startswith(f"{path}: {says}")
