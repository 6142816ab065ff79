"""Difficulty files: round trip, checks, shares and means."""

import json

import pytest

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import DifficultyCurve


def content(**changes):
    return {
        "version": 1,
        "kind": "gradient",
        "data": "digits",
        "process": "ddpm-epsilon",
        "u": [0, 0.25, 1],
        "difficulty": [3.0, 1.0],
        "stderr": [0.1, 0.0],
        "similarity": [[1.0, 0.5], [0.5, 1.0]],
        "meta": {"seeds": [0, 1]},
        **changes,
    }


def test_a_curve_survives_its_file(tmp_path):
    curve = DifficultyCurve.model_validate(content())
    curve.to_file(tmp_path / "curve.json")
    assert DifficultyCurve.from_file(tmp_path / "curve.json") == curve
    assert json.loads((tmp_path / "curve.json").read_text())["version"] == 1


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"version": 2}, "version must be 1, but got 2"),
        ({"kind": "taste"}, "kind"),
        ({"u": [0, 1]}, "difficulty must have 1 values"),
        ({"u": [0, 0.5, 0.5]}, "u must rise strictly from 0 to 1"),
        ({"u": [0.1, 0.5, 1]}, "u must rise strictly from 0 to 1"),
        ({"difficulty": [1.0, float("nan")]}, "difficulty"),
        ({"stderr": [0.1]}, "stderr must have 2 values"),
        ({"stderr": [0.1, -1]}, "stderr must not be negative"),
        ({"similarity": [[1.0, 0.5], [0.4, 1.0]]}, "symmetric"),
        ({"similarity": [[1.0, 2.0], [2.0, 1.0]]}, r"\[-1, 1\]"),
        ({"similarity": [[1.0], [1.0]]}, "similarity must be 2 by 2"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_malformed_curve_is_refused_in_one_line_that_names_the_file(tmp_path, changes, line):
    path = tmp_path / "curve.json"
    path.write_text(json.dumps(content(**changes)))
    with pytest.raises(ConfigError, match=line) as caught:
        DifficultyCurve.from_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "{not json", "[]"])
def test_a_file_that_is_missing_or_no_curve_is_refused(tmp_path, text):
    path = tmp_path / "curve.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"curve\.json"):
        DifficultyCurve.from_file(path)


def test_shares_integrate_the_difficulty_over_u():
    assert DifficultyCurve.model_validate(content()).shares() == (0.5, 0.5)


def test_negative_sampling_error_has_no_share_and_nothing_positive_is_refused():
    curve = DifficultyCurve.model_validate(content(difficulty=[1.0, -1e-9]))
    assert curve.shares() == (1.0, 0.0)
    with pytest.raises(ConfigError, match="nowhere positive"):
        DifficultyCurve.model_validate(content(difficulty=[0.0, -1.0])).shares()


def test_a_mean_weighs_bins_by_their_overlap():
    curve = DifficultyCurve.model_validate(content())
    assert curve.mean_over(0, 0.25) == 3.0
    assert curve.mean_over(0, 1) == pytest.approx(0.25 * 3 + 0.75 * 1)
    assert curve.mean_over(0.125, 0.375) == pytest.approx(2.0)
