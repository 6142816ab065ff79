"""What a run sampled is read as a table of numbers, or is left out in words."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest

from curriculum_ray.runs.sampled_file import read_sampled
from curriculum_ray.training.histogram import SampledHistogram

WHOLE: dict[str, Any] = {
    "images": [0, 64, 128],
    "u": [0, 0.5, 1],
    "counts": [[1, 3], [0, 0]],
    "stage_starts": [[0, 0], [64, 1]],
    "stages_asked": 2,
    "stages_walked": 2,
    "images_in_stage": [64, 64],
}


def test_densities_are_1_where_sampling_is_uniform_and_0_where_nothing_was_drawn(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps(WHOLE))
    found = read_sampled(tmp_path / "s.json")
    assert found is not None
    assert found.densities == [[0.5, 1.5], [0.0, 0.0]]
    assert (found.images, found.stage_starts, found.images_in_stage) == (
        (0, 64, 128),
        ((0, 0), (64, 1)),
        (64, 64),
    )


def test_a_histogram_as_a_run_writes_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps(SampledHistogram(100).as_json()))
    found = read_sampled(tmp_path / "s.json")
    assert found is not None
    assert (len(found.images), len(found.u), found.stage_starts) == (65, 61, ())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        *(({key: None}, key) for key in ("images", "u", "counts")),
        *(({key: []}, key) for key in ("images", "u", "counts")),
        *(({key: {}}, key) for key in ("images", "u", "counts", "stage_starts", "stages_walked")),
        ({"counts": [[1, 3]]}, "2 rows of 2 numbers"),
        ({"counts": [[1, 3], [0]]}, "2 rows of 2 numbers"),
        ({"counts": [[1, math.nan], [0, 0]]}, "counts"),
        ({"counts": [[1, -1], [0, 0]]}, "counts"),
        ({"counts": [["x", 1], [0, 0]]}, "counts"),
        ({"images": [0, math.nan, 128]}, "images"),
        ({"u": [0, math.inf, 1]}, "u"),
        ({"u": [0, 0, 1]}, "u must ascend"),
        ({"images": [0, 128, 64]}, "images must ascend"),
        ({"stage_starts": [[0]]}, "stage_starts"),
        ({"images_in_stage": [1.5]}, "images_in_stage"),
    ],
)
def test_a_damaged_one_is_left_out_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any], says: str
) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps({**WHOLE, **change}))
    assert read_sampled(path) is None
    (line,) = caplog.messages
    assert line.startswith(f"what was sampled is left out: {path}")
    assert says in line
    assert "\n" not in line


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "7", "\xff", '{"images": [0'])
def test_any_other_content_is_left_out_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    (tmp_path / "s.json").write_bytes(text.encode("latin-1"))
    assert read_sampled(tmp_path / "s.json") is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_none_is_nothing_to_speak_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_sampled(tmp_path / "s.json") is None
    assert caplog.messages == []
