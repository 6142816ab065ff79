"""The noise of a data set: of the paired differences in earlier studies of the same protocol."""

import json
import math
from pathlib import Path

import pytest

from tests.tuning.studies import FINGERPRINT, fresh
from tuning.study.noise import find_noise


def _study(folder: Path, *records) -> None:
    for record in records:
        path = folder / "trials" / record.key / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(record.to_json()))


def test_it_is_the_deviation_of_paired_differences(tmp_path: Path) -> None:
    _study(tmp_path / "a", *fresh([10.0, 12.0], 1), *fresh([9.0, 10.0], 7))
    _study(tmp_path / "b", *fresh([10.0, 8.0], 1), *fresh([9.0, 8.0], 7), *fresh([7.0], 8))
    found = find_noise(tmp_path, "digits", FINGERPRINT, "fid")
    assert found is not None
    # The logarithms of the ratios: two values a study, whose deviation is their distance over the root of 2.
    gaps = [math.log(12 / 10) - math.log(10 / 9), math.log(8 / 8) - math.log(10 / 9)]
    assert found.share == pytest.approx(math.sqrt(sum(gap**2 / 2 for gap in gaps) / 2))
    assert "2 studies" in found.source


def test_other_protocols_do_not_count_and_digits_have_a_measured_one(tmp_path: Path) -> None:
    _study(tmp_path / "a", *fresh([10.0, 12.0], 1), *fresh([9.0, 10.0], 7))
    found = find_noise(tmp_path, "digits", "another", "fid")
    assert found is not None
    assert found.share == pytest.approx(0.6 / 7)
    assert find_noise(tmp_path, "mine", "another", "fid") is None
