"""What may stand for a group of settings: its kind alone, everywhere, and what is declared as a shorthand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curriculum_ray.config import ConfigError, Spec, parse
from curriculum_ray.config.keys import keys_of
from curriculum_ray.config.spec import holds_mapping, in_full, union_at, written_out
from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.runs.config import RunConfig
from tests.tuning.studies import schedule
from tuning.cli.options import read_settings
from tuning.difficulty import DifficultyConfig
from tuning.study.config import StudyConfig
from tuning.study.named_arms import named_arm
from tuning.study.overlay import dotted, lay_over
from tuning.study.space import SearchSpace

SPACE = {"search": {"one": "type", "type": {"type": "int", "low": 1, "high": 2}}}


def _groups() -> Iterator[tuple[type[Spec], str]]:
    for spec in (StudyConfig, RunConfig, DifficultyConfig):
        for key in keys_of(spec):
            name = key.name.rpartition(".")[2]
            if union_at(key.model, name) is not None:
                yield key.model, name


@pytest.mark.parametrize(("spec", "name"), sorted(set(_groups()), key=str))
def test_a_kind_stands_for_its_group(spec: type[Spec], name: str) -> None:
    union = union_at(spec, name)
    assert union is not None
    for kind in union.members:
        assert written_out(spec, {name: kind, "other": kind}) == {name: {union.tag: kind}, "other": kind}
    for other in (None, 3, True, [kind], {union.tag: kind}):
        assert written_out(spec, {name: other}) == {name: other}


def test_names_of_the_users_own_are_no_kinds() -> None:
    assert holds_mapping(SearchSpace.model_fields["search"].annotation)
    assert in_full(SearchSpace, SPACE) == SPACE


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ({"weighting": "min_snr"}, {"weighting": {"kind": "min_snr"}}),
        ({"process": "edm"}, {"process": {"kind": "edm"}}),
        ({"process": "ddpm", "data": {"name": "tones"}}, {"process": {}, "data": {"name": "tones"}}),
        ({"model": "dit-S/2"}, {"model": {"kind": "dit", "size": "S/2"}}),
        ({"model": "unet"}, {"model": {"kind": "unet"}}),
        (
            {"model": "diffusers:UNet2DModel"},
            {"model": {"kind": "diffusers", "class_name": "UNet2DModel"}},
        ),
        ({"model": "python:a.B"}, {"model": {"kind": "python", "path": "a.B"}}),
        ({"init_from": "runs/first", "lora": 8}, {"init_from": {"path": "runs/first"}, "lora": {"rank": 8}}),
        (
            {"schedule": {"version": 1, "order": "none", "base": "laplace_logsnr"}},
            {"schedule": {"version": 1, "order": {"direction": "none"}, "base": {"kind": "laplace_logsnr"}}},
        ),
    ],
)
def test_settings_in_short_are_those_in_full(short: dict[str, Any], full: dict[str, Any]) -> None:
    assert parse(RunConfig, short, "a file") == parse(RunConfig, full, "a file")
    assert parse(RunConfig, in_full(RunConfig, short), "a file") == parse(RunConfig, full, "a file")


def test_a_schedules_file_may_name_kinds_alone(tmp_path: Path) -> None:
    path = tmp_path / "schedule.yaml"
    path.write_text(
        "version: 1\nbase: {kind: changing, at_share: 0.5, first: uniform, then: laplace_logsnr}\n"
        "clusters: {by: uniform, count: 4}\norder: hard_to_easy\npacing: {rule: plateau, patience: 20}\n"
        "active: cumulative\nimportance: none\n"
    )
    found = CurriculumSchedule.from_file(path)
    assert (found.order.direction, found.active.set, found.importance.rule) == (
        "hard_to_easy",
        "cumulative",
        "none",
    )
    assert found.base.model_dump()["then"]["kind"] == "laplace_logsnr"
    found.to_file(path)
    assert CurriculumSchedule.from_file(path) == found


@pytest.mark.parametrize(
    ("overrides", "full"),
    [
        (("weighting=min_snr", "weighting.gamma=3"), {"weighting": {"kind": "min_snr", "gamma": 3}}),
        (("model=dit-S/2", "model.depth=2"), {"model": {"kind": "dit", "size": "S/2", "depth": 2}}),
        (
            ("init_from=runs/first", "lora=8", "lora.alpha=4"),
            {"init_from": {"path": "runs/first"}, "lora": {"rank": 8, "alpha": 4}},
        ),
    ],
)
def test_set_may_name_a_key_of_what_was_given_in_short(
    overrides: tuple[str, ...], full: dict[str, Any], tmp_path: Path
) -> None:
    expected = parse(RunConfig, full, "in full")
    assert read_settings(RunConfig, None, overrides, {}) == expected
    file = tmp_path / "run.yaml"
    file.write_text(
        "".join(f"{line.replace('=', ': ', 1)}\n" for line in overrides if "." not in line.split("=")[0])
    )
    rest = tuple(line for line in overrides if "." in line.split("=")[0])
    assert read_settings(RunConfig, file, rest, {}) == expected
    study = read_settings(StudyConfig, None, overrides, {}, within="run")
    assert study.run == expected


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"weighting": "min"}, "a file: weighting.kind must be one of none, min_snr"),
        ({"weighting": 3}, "a file: weighting must be a mapping"),
        ({"model": "dit-Q"}, "a file: model: size must be S, B, L or XL"),
        ({"lora": True}, "a file: lora must be a mapping"),
        ({"schedule": {"version": 1, "order": "upwards"}}, "schedule.order.direction must be one of"),
        (
            {"schedule": {"version": 1, "clusters": "explicit"}},
            "schedule.clusters.edges is required but missing",
        ),
    ],
)
def test_faults_name_the_key_that_the_shorthand_stands_for(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(RunConfig, settings, "a file")
    assert says in str(caught.value)


def test_a_fault_names_the_option_that_the_shorthand_came_from() -> None:
    with pytest.raises(ConfigError, match=r"^--set weighting=min: weighting.kind must be one of"):
        read_settings(RunConfig, None, ("weighting=min",), {})
    with pytest.raises(ConfigError, match=r"--set model=unet would overwrite --set model.depth=2"):
        read_settings(RunConfig, None, ("model.depth=2", "model=unet"), {})


def test_a_kind_laid_over_a_group_keeps_what_both_kinds_have() -> None:
    below = {"schedule": schedule(8), "weighting": {"kind": "p2", "gamma": 1.0}}
    laid = lay_over(below, {"schedule.order": "hard_to_easy", "weighting": "min_snr"}, "arms.a")
    assert laid["schedule"]["order"] == {"by": "noise_level", "direction": "hard_to_easy"}
    assert laid["weighting"] == {"kind": "min_snr"}


def test_a_key_may_stand_before_the_kind_that_has_it() -> None:
    keys = {"weighting.gamma": 3.0, "weighting": "min_snr", "model.depth": 2, "model": "dit-S/2"}
    laid = lay_over({}, keys, "arms.a")
    assert laid == {
        "weighting": {"kind": "min_snr", "gamma": 3.0},
        "model": {"kind": "dit", "size": "S/2", "depth": 2},
    }


def test_a_space_may_choose_among_kinds(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "version: 1\nfixed: {schedule: {order: random}}\nsearch:\n"
        "  weighting: {type: categorical, choices: [none, min_snr]}\n"
        "  weighting.gamma: {type: float, low: 1, high: 9, when: {weighting: min_snr}}\n"
        "rivals: {p2: {weighting: p2}}\n"
    )
    space = SearchSpace.load(str(path))
    assert list(space.search) == ["weighting.kind", "weighting.gamma"]
    base = {"schedule": schedule(8), "weighting": {"kind": "p2", "k": 1.0}}
    plain, weighted = space.probes()[0], space.probes()[-1]
    assert space.apply(base, plain)["weighting"] == {"kind": "none"}
    assert space.apply(base, weighted)["weighting"] == {"kind": "min_snr", "gamma": 9.0}
    assert space.apply(base, weighted)["schedule"]["order"]["direction"] == "random"


def test_a_space_names_each_group_once(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    span = "{type: categorical, choices: [none, min_snr]}"
    path.write_text(f"version: 1\nsearch:\n  weighting: {span}\n  weighting.kind: {span}\n")
    with pytest.raises(
        ConfigError, match=r"search has both weighting and weighting\.kind, which are the same"
    ):
        SearchSpace.load(str(path))


def test_points_to_start_with_and_arms_may_be_in_short(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "version: 1\nsearch:\n  schedule.order: {type: categorical, choices: [easy_to_hard, random]}\n"
        "start: [{schedule.order: random}]\n"
    )
    assert SearchSpace.load(str(path)).start == [{"schedule.order.direction": "random"}]
    arm = named_arm(
        "a", {"weighting": "p2", "schedule.base": "laplace_logsnr"}, CurriculumSchedule.uniform(), 1
    )
    assert arm.settings == {"weighting.kind": "p2"}
    assert arm.schedule is not None
    assert arm.schedule.base.kind == "laplace_logsnr"


@pytest.mark.parametrize(
    "settings",
    [{"weighting": "p2"}, {"weighting": {"kind": "p2"}}, {"weighting.kind": "p2"}],
)
def test_spellings_of_one_setting_have_one_key(settings: dict[str, Any]) -> None:
    assert dotted({"ema.halflife_images": 5, **settings, "schedule.base.kind": "mode"}, "arms.a") == {
        "ema.halflife_images": 5,
        "weighting.kind": "p2",
        "schedule.base.kind": "mode",
    }
