"""The report's difficulty curves: clean levels are the hardest, and a run without settings has none."""

import pytest
import yaml

from curriculum_ray.runs.config import RunConfig
from tests.tuning.studies import record
from tuning.report.difficulty import read_difficulty


def write_config(folder, **changes):
    config = RunConfig.model_validate(changes)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return record(folder=folder)


@pytest.mark.parametrize("process", ["ddpm", "flow", "edm"])
def test_log_snr_falls_from_clean_to_noise_and_edges_span_u(process, tmp_path):
    base = {"kind": "log_normal_sigma" if process == "edm" else "logit_normal"}
    schedule = {"version": 1, "base": base, "clusters": {"by": "log_snr", "count": 5}}
    found = read_difficulty(write_config(tmp_path, process={"kind": process}, schedule=schedule))
    heights, values = zip(*found.log_snr, strict=True)
    assert list(heights) == sorted(heights)
    assert list(values) == sorted(values, reverse=True)
    assert (found.edges[0], found.edges[-1], len(found.edges)) == (0, 1, 6)


def test_neighbouring_clean_levels_of_the_digits_differ_most(tmp_path):
    entropy = read_difficulty(write_config(tmp_path)).entropy
    assert len(entropy) == 999
    assert entropy[0][1] > 1000 * entropy[500][1] > 0


def test_data_that_are_not_at_hand_are_not_loaded(tmp_path):
    found = read_difficulty(write_config(tmp_path, data={"name": str(tmp_path / "gone")}))
    assert found.log_snr
    assert found.entropy == []


def test_a_run_without_settings_has_no_curves(tmp_path):
    assert read_difficulty(record(folder=tmp_path)) is None
    (tmp_path / "config.yaml").write_text("schedule: {version: [")
    assert read_difficulty(record(folder=tmp_path)) is None
