"""metrics.jsonl: lines come back as they were written, and what is no line counts as not written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curriculum_ray.runs.log import LoggedLine, append_line, cut_log, log_of, logged

LINE = LoggedLine(images=64, loss=0.5, stage=0, num_stages=3, images_per_second=8.0)


def test_a_line_comes_back_and_holds_only_what_it_has(tmp_path: Path) -> None:
    preview = LoggedLine(images=64, preview={"fid": 9.0})
    for line in (LINE, preview):
        append_line(tmp_path, line)
    assert logged(tmp_path) == [LINE, preview]
    assert json.loads(log_of(tmp_path).read_text().splitlines()[1]) == {"images": 64, "preview": {"fid": 9.0}}


@pytest.mark.parametrize("text", ["[]", "3", '{"loss": 0.5}', '{"images": "many"}', '{"images": 64, "stage'])
def test_what_is_no_line_counts_as_not_written(tmp_path: Path, text: str) -> None:
    log_of(tmp_path).write_text(f"{LINE.to_json()}\n{text}\n")
    assert logged(tmp_path) == [LINE]


def test_a_resume_drops_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    later = LINE.model_copy(update={"images": 128})
    for line in (LINE, later):
        append_line(tmp_path, line)
    cut_log(tmp_path, 64)
    assert logged(tmp_path) == [LINE]
