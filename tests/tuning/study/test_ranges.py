"""Ranges of a search space: every schedule in them can be walked, and each half of a range makes a difference."""

from typing import Any

import pytest

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.runs.config import RunConfig
from tuning.study.config import StudyConfig
from tuning.study.ranges import check_ranges
from tuning.study.space import SearchSpace

PLATEAU = {"rule": "plateau", "patience_stage_share": 0.4, "finish_by": 0.5}
COUNT = {"type": "int", "low": 3, "high": 20}


def check(
    search: dict[str, Any], pacing: dict[str, Any] = PLATEAU, images: int = 44_800, **fixed: Any
) -> None:
    schedule = {
        "clusters": {"by": "uniform", "count": 3},
        "order": {"direction": "easy_to_hard"},
        "pacing": pacing,
        **fixed,
    }
    values = {"version": 1, "name": "s", "fixed": {"schedule": schedule}, "search": search}
    space = parse(SearchSpace, values, "s")
    run = parse(RunConfig, space.apply(RunConfig(images=images).model_dump(mode="json"), {}), "s")
    check_ranges(space, run, [images])


@pytest.mark.parametrize("name", ["default", "paper", "wide"])
def test_the_shipped_spaces_are_walked_at_the_default_budget_and_at_a_quarter_of_it(name: str) -> None:
    space = SearchSpace.load(name)
    run = parse(RunConfig, space.apply(StudyConfig().run.model_dump(mode="json"), {}), name)
    check_ranges(space, run, [run.images // 4, run.images])


def test_a_space_of_more_stages_than_steps_is_refused_with_what_would_fit() -> None:
    line = r"clusters\.count = 20.* 20 stages need 19 steps .* at most 7 stages fit, or give at least 4,800 images"
    with pytest.raises(ConfigError, match=line):
        check({"schedule.clusters.count": COUNT}, images=1664)


def test_a_smaller_budget_of_the_same_study_counts_too() -> None:
    space = SearchSpace.load("default")
    run = parse(RunConfig, space.apply(StudyConfig().run.model_dump(mode="json"), {}), "default")
    with pytest.raises(
        ConfigError, match=r"at the smaller budget of 3,200 images: .* 20 stages need 19 steps"
    ):
        check_ranges(space, run, [3200, run.images])


@pytest.mark.parametrize(
    ("key", "span"),
    [
        # Both are less than a step, or no stage is long enough for either.
        ("schedule.pacing.patience_stage_share", {"type": "float", "low": 0.001, "high": 0.1}),
        ("schedule.pacing.patience_stage_share", {"type": "float", "low": 0.93, "high": 0.99}),
    ],
)
def test_a_range_whose_halves_sample_alike_is_refused(key: str, span: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=rf"search\.{key}: .* sample alike with clusters.count = 20 in 350 steps"
    ):
        check({"schedule.clusters.count": COUNT, key: span})


def test_a_window_as_wide_as_all_clusters_makes_no_difference() -> None:
    width = {"type": "int", "low": 2, "high": 4}
    with pytest.raises(ConfigError, match=r"search\.schedule\.active\.width: 3 and 4 sample alike"):
        check({"schedule.active.width": width}, active={"set": "window", "width": 2})


def test_a_range_that_makes_a_difference_is_accepted() -> None:
    share = {"type": "float", "low": 0.12, "high": 0.8, "log": True}
    check({"schedule.clusters.count": COUNT, "schedule.pacing.patience_stage_share": share})
