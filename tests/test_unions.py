"""The kinds of settings are read off their annotations, as pydantic reads them."""

from __future__ import annotations

from typing import Any

import pytest

from curriculum_ray.config.spec import union_at
from curriculum_ray.curriculum import Changing, CurriculumSchedule
from curriculum_ray.runs.config import RunConfig


def _published(part: Any) -> dict[str, Any] | None:
    """The discriminator within the JSON schema of one key."""
    if isinstance(part, dict):
        return part.get("discriminator") or next(filter(None, map(_published, part.values())), None)
    return next(filter(None, map(_published, part)), None) if isinstance(part, list) else None


@pytest.mark.parametrize("spec", [RunConfig, CurriculumSchedule, Changing])
def test_tags_and_kinds_are_those_of_the_json_schema(spec: Any) -> None:
    properties = spec.model_json_schema()["properties"]
    found = {key: union for key in properties if (union := union_at(spec, key)) is not None}
    published = {key: told for key, part in properties.items() if (told := _published(part)) is not None}
    assert len(found) >= 2
    assert {key: union.tag for key, union in found.items()} == {
        key: told["propertyName"] for key, told in published.items()
    }
    for key, union in found.items():
        mapping = published[key]["mapping"]
        assert set(union.members) == set(mapping)
        assert all(mapping[kind].endswith(member.__name__) for kind, member in union.members.items())


def test_a_key_without_kinds_has_no_union() -> None:
    assert union_at(RunConfig, "images") is None
    assert union_at(RunConfig, "data") is None
    assert union_at(RunConfig, "nothing") is None


@pytest.mark.parametrize(
    ("group", "one", "other", "alike"),
    [
        ("order", "easy_to_hard", "hard_to_easy", True),
        ("order", "easy_to_hard", "random", False),
        ("clusters", "uniform", "log_snr", True),
        ("clusters", "uniform", "gradient", False),
        ("clusters", "relative_entropy", "gradient", False),
        ("pacing", "root", "exp", True),
        ("pacing", "fixed_exponential", "single_step", False),
        ("importance", "loss_second_moment", "gradient_norm", True),
        ("base", "logit_normal", "log_normal_sigma", False),
        ("base", "uniform", "unheard of", False),
    ],
)
def test_kinds_are_alike_where_they_share_their_settings_and_not_only_names(
    group: str, one: str, other: str, alike: bool
) -> None:
    union = union_at(CurriculumSchedule, group)
    assert union is not None
    assert union.alike(one, other) is union.alike(other, one) is alike
    assert union.alike(one, one)
