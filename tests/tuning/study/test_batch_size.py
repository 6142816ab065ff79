"""The batch size that a study or run of few images chooses for itself, and the one that is given, which stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.runs.config import RunConfig
from tuning.cli import main
from tuning.study.config import StudyConfig
from tuning.study.ranges import check_ranges, with_batch_size
from tuning.study.space import SearchSpace

LADDER = {
    "clusters": {"by": "uniform", "count": 20},
    "order": {"direction": "easy_to_hard"},
    "pacing": {"rule": "plateau", "patience_stage_share": 0.3, "finish_by": 0.5},
}


def settled(space: str | SearchSpace, run: dict[str, Any], **study: Any) -> tuple[StudyConfig, str | None]:
    config = parse(StudyConfig, {"run": run, **study}, "settings")
    return with_batch_size(config, SearchSpace.load(space) if isinstance(space, str) else space)


def space_of(search: dict[str, Any]) -> SearchSpace:
    return parse(
        SearchSpace, {"version": 1, "name": "s", "fixed": {"schedule": LADDER}, "search": search}, "s"
    )


@pytest.mark.parametrize(
    ("name", "images"),
    [
        *(("default", 256), ("paper", 1664), ("wide", 512)),
        pytest.param("wide", 12_800, marks=pytest.mark.slow),
        *(
            pytest.param(name, images, marks=pytest.mark.slow)
            for name in ("default", "paper", "wide")
            for images in (300, 800, 2500, 5000, 9000)
        ),
    ],
)
def test_a_shipped_space_is_searched_with_few_images(name: str, images: int) -> None:
    config, line = settled(name, {"images": images})
    size, space = config.run.batch_size, SearchSpace.load(name)
    assert line is not None
    assert line.startswith(f"batch size {size}: with 128, {images:,} images are {-(-images // 128)} step")
    check_ranges(space, config.run, [config.run.total_images])
    twice = config.run.model_copy(update={"batch_size": 2 * size})
    with pytest.raises(ConfigError):
        check_ranges(space, twice, [twice.total_images])


def test_the_default_study_keeps_the_default_batch_size() -> None:
    for name in ("default", "paper", "wide"):
        assert settled(name, {}) == (StudyConfig(), None)


def test_the_smallest_budget_of_the_study_counts() -> None:
    rungs = {"rule": "compressed", "rungs": 3, "reduction": 4}
    config, line = settled("default", {}, halving=rungs)
    assert config.run.batch_size == 16
    assert line == (
        "batch size 16: with 128, 700 images are 6 steps, too few for the 20 stages in space default "
        "(run.batch_size sets another)"
    )


@pytest.mark.parametrize("size", [128, 100, 3])
def test_a_batch_size_that_is_given_stays(size: int) -> None:
    config, line = settled("default", {"images": 256, "batch_size": size})
    assert (config.run.batch_size, line) == (size, None)


def test_too_few_images_for_any_batch_size_are_refused() -> None:
    line = "20 stages need 19 steps .* 20 images has 10 of 1 image each: .* or give at least 200 images"
    with pytest.raises(ConfigError, match=line):
        settled("default", {"images": 20})


@pytest.mark.parametrize(
    ("resources", "accumulate"), [({"num_workers": 2}, 1), ({}, 2), ({"num_workers": 2}, 2)]
)
def test_workers_and_accumulated_parts_divide_what_is_chosen(
    resources: dict[str, int], accumulate: int
) -> None:
    parts = resources.get("num_workers", 1) * accumulate
    config, _ = settled("default", {"images": 1024, "accumulate": accumulate}, resources=resources)
    assert config.run.batch_size == 4
    line = rf"sample alike .* in {256 // parts} steps: .* or give at least \d+ images"
    with pytest.raises(ConfigError, match=line):
        settled("default", {"images": 256, "accumulate": accumulate}, resources=resources)


def test_workers_that_divide_no_power_of_two_are_refused_by_the_default_size() -> None:
    config, line = settled("default", {"images": 44_800}, resources={"num_workers": 3})
    assert (config.run.batch_size, line) == (128, None)


def test_a_range_that_changes_nothing_is_not_mended_by_thirty_times_as_many_steps() -> None:
    share = {"type": "float", "low": 0.001, "high": 0.1}
    config, line = settled(space_of({"schedule.pacing.patience_stage_share": share}), {"images": 44_800})
    assert (config.run.batch_size, line) == (128, None)


def test_a_run_chooses_as_a_study_does() -> None:
    run = parse(RunConfig, {"images": 256, "schedule": {"version": 1, **LADDER}}, "settings")
    assert (run.batch_size, run.total_images) == (4, 256)
    assert run.batch_size_line() == (
        "batch size 4: with 128, 256 images are 2 steps, too few for the schedule's 20 stages "
        "(batch_size sets another)"
    )
    assert run.model_dump(mode="json")["batch_size"] == 4
    again = parse(RunConfig, run.model_dump(mode="json"), "settings")
    assert again == run
    assert again.batch_size_line() is None


def test_a_run_that_128_suits_or_that_none_does_is_as_before() -> None:
    assert parse(RunConfig, {"images": 256}, "settings").batch_size == 128
    whole = parse(RunConfig, {"schedule": {"version": 1, **LADDER}}, "settings")
    assert (whole.batch_size, whole.batch_size_line()) == (128, None)
    few: dict[str, Any] = {"images": 256, "schedule": {"version": 1, **LADDER}}
    with pytest.raises(ConfigError, match=r"0\.5 of 256 images has 1 of 128 images each"):
        parse(RunConfig, {**few, "batch_size": 128}, "settings")
    with pytest.raises(ConfigError, match=r"20 stages need 19 steps .* of 1 image each"):
        parse(RunConfig, {**few, "images": 30}, "settings")


def test_a_search_of_few_images_says_and_records_what_it_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Nobody listens there: the search ends after its checks, before Ray starts.
    storage = "storage=postgresql://127.0.0.1:1/optuna"
    with pytest.raises(SystemExit) as caught:
        main(
            ["search", "--images", "256", "--num-samples", "16", "--output", str(tmp_path), "--set", storage]
        )
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert out.splitlines()[0].startswith("batch size 1: with 128, 256 images are 2 steps")
    assert err.startswith("error: storage")
    assert err.count("\n") == 1
    (settings,) = tmp_path.glob("*/study.json")
    assert json.loads(settings.read_text())["run"]["batch_size"] == 1
