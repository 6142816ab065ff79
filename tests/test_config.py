"""Settings: faults are one line that names the rule, the key as the user wrote it, the value and the source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import pytest

from curriculum_ray.config import ConfigError, Spec, apply_overrides, differences, flatten, load_yaml, parse


class _Round(Spec):
    shape: Literal["round"] = "round"
    radius: float = pydantic.Field(default=1.0, gt=0)


class _Square(Spec):
    shape: Literal["square"] = "square"
    side: float = 1.0


class _Thing(Spec):
    count: int = 1
    form: Annotated[_Round | _Square, pydantic.Field(discriminator="shape")] = _Round()
    parts: list[int] = pydantic.Field(default_factory=list)

    @pydantic.model_validator(mode="after")
    def _check(self) -> _Thing:
        if self.count == 13:
            raise ValueError("count must not be 13")
        return self


class _Box(Spec):
    thing: _Thing = _Thing()
    name: str


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({}, "f.yaml: name is required but missing"),
        ({"name": "a", "thing": {"count": "x"}}, "f.yaml: thing.count must be a valid integer"),
        ({"name": "a", "thing": {"cuont": 1}}, "f.yaml: thing.cuont is not a known key (its value is 1)"),
        (
            {"name": "a", "thing": {"form": {"shape": "round", "radius": 0}}},
            "f.yaml: thing.form.radius must be greater than 0, but got 0",
        ),
        (
            {"name": "a", "thing": {"form": {"shape": "round", "side": 2}}},
            "f.yaml: thing.form.side is not a known key (its value is 2)",
        ),
        ({"name": "a", "thing": {"form": {}}}, "f.yaml: thing.form.shape is required but missing"),
        (
            {"name": "a", "thing": {"form": {"shape": "flat"}}},
            "f.yaml: thing.form.shape must be one of round, square, but got 'flat'",
        ),
        ({"name": "a", "thing": {"count": 13}}, "f.yaml: thing: count must not be 13"),
        ({"name": "a", "thing": {"parts": [1, "b"]}}, "f.yaml: thing.parts.1 must be a valid integer"),
        ([], "f.yaml: the value"),
    ],
)
def test_a_fault_is_one_line_with_the_key_as_written(data: Any, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(_Box, data, "f.yaml")
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_key_that_is_missing_is_said_of_the_key_beside_it_that_made_its_group() -> None:
    sources = {"": "f.yaml", "thing.form.radius": "--set thing.form.radius=2"}
    with pytest.raises(
        ConfigError, match=r"^--set thing\.form\.radius=2: thing\.form\.shape is required but missing"
    ):
        parse(_Box, {"name": "a", "thing": {"form": {"radius": 2}}}, sources)
    with pytest.raises(ConfigError, match=r"^f\.yaml: name is required but missing"):
        parse(_Box, {"thing": {"form": {"shape": "round", "radius": 2}}}, sources)


def test_a_fault_names_the_source_that_its_key_came_from() -> None:
    sources = {"": "f.yaml", "thing": "--thing", "thing.form": "--form"}
    for data, source in (
        ({"name": 3}, "f.yaml"),
        ({"name": "a", "thing": {"count": "x"}}, "--thing"),
        ({"name": "a", "thing": {"form": {"shape": "flat"}}}, "--form"),
    ):
        with pytest.raises(ConfigError, match=f"^{source}: "):
            parse(_Box, data, sources)


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        ({"thing.count": "--count"}, "--count"),
        ({"thing.count": "--count", "thing.parts": "--parts"}, "--count"),
        ({"thing.count": "--count", "thing": "--thing"}, "--count"),
        ({"name": "--name", "thing": "--thing"}, "--thing"),
    ],
)
def test_a_rule_about_a_whole_group_names_the_source_of_the_key_it_speaks_of(
    sources: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^{named}: thing: count must not be 13"):
        parse(_Box, {"name": "a", "thing": {"count": 13}}, {"": "f.yaml", **sources})


def test_an_unknown_group_is_blamed_on_the_override_that_made_it() -> None:
    data = apply_overrides({"name": "a"}, ["tihng.count=1"])
    with pytest.raises(ConfigError, match=r"^--set tihng\.count=1: tihng is not a known key"):
        parse(_Box, data, {"": "f.yaml", "tihng.count": "--set tihng.count=1"})


def test_overrides_are_read_as_yaml_and_leave_the_original_alone() -> None:
    data = {"a": {"b": 1}}
    assert apply_overrides(data, ["a.b=2", "a.c=[1, x]", "d=1e-3", "e=null"]) == {
        "a": {"b": 2, "c": [1, "x"]},
        "d": 0.001,
        "e": None,
    }
    assert data == {"a": {"b": 1}}


@pytest.mark.parametrize("override", ["a", "=1", "a..b=1", "a.b.c=1", "a=[1"])
def test_a_faulty_override_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        apply_overrides({"a": {"b": 1}}, [override])


@pytest.mark.parametrize("text", ["- 1", "a: 1\na: 2", "a: [", "!!python/object:os.system {}"])
def test_a_file_that_is_no_plain_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("a: 1e-3\nb: -2E5\nc: 1.5e+2\nd: e5\n")
    assert load_yaml(path) == {"a": 0.001, "b": -200000.0, "c": 150.0, "d": "e5"}


def test_settings_are_immutable_and_flatten_to_dotted_keys() -> None:
    box = _Box(name="a")
    with pytest.raises(pydantic.ValidationError):
        box.name = "b"  # type: ignore[misc]
    assert flatten(box.model_dump())["thing.form.radius"] == 1.0


def test_differences_are_said_in_words() -> None:
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 1}, "c": 2}) == ""
    assert differences({"a": {"b": 1}}, {"a": {"b": 2}}) == "a.b was 1 and is 2"
    assert differences(dict(zip("abcde", range(5), strict=True)), {}).endswith(" and 2 more")
