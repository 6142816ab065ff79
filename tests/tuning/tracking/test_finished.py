"""Finished trials are read from MLflow alone, filtered, and never mixed with those of another protocol."""

import pytest

from curriculum_ray.config import ConfigError
from tests.tuning.studies import EXPERIMENT, UNIFORM, record, trials
from tuning.tracking import open_store
from tuning.tracking.best import best
from tuning.tracking.finished import finished_trials


def test_finished_trials_come_the_best_first_as_the_records_that_were_written(write, output):
    write(*trials(9.0, 7.0, 8.0), record(8.4, **UNIFORM), record(None, key="search-099"))
    store = open_store(None, output, create=False)
    found = finished_trials(store, "fid")
    assert [each.record.key for each in found] == [
        "search-007",
        "search-008",
        "control-uniform",
        "search-009",
    ]
    assert {(each.experiment, each.study, each.data) for each in found} == {(EXPERIMENT, "a", "digits")}


def test_filters_pick_data_process_study_and_experiment(write, output):
    write(*trials(7.0), study="a")
    write(*trials(5.0), study="b", experiment="photos/ddpm", data="photos")
    assert best(output).curriculum.mean == 5.0
    assert best(output, data="digits").curriculum.mean == 7.0
    assert best(output, study="a").curriculum.mean == 7.0
    assert best(output, experiment=EXPERIMENT).curriculum.mean == 7.0
    with pytest.raises(
        ConfigError, match=r"no experiment 'x' in .*: there is digits/ddpm-epsilon, photos/ddpm"
    ):
        best(output, experiment="x")
    for nothing in ({"process": "edm"}, {"study": ""}, {"process": ""}, {"data": ""}):
        with pytest.raises(ConfigError, match="there is no trial"):
            best(output, **nothing)


def test_data_are_found_by_their_name_and_by_the_path_of_their_folder_or_shards(
    write, output, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write(*trials(7.0), study="a", data="digits")
    write(*trials(5.0), study="b", data="v1.2")
    write(*trials(6.0), study="c", data="shards")
    for data, study in (
        ("v1.2", "b"),
        ("sets/v1.2", "b"),
        (f"{tmp_path}/sets/v1.2/", "b"),
        ("sets/shards.tar", "c"),
        ("s3://bucket/sets/shards", "c"),
    ):
        assert best(output, data=data).study == study
    (tmp_path / "link").symlink_to(tmp_path)
    tmp_path.joinpath("shards.d").mkdir()
    assert best(output, data="shards.d").study == "c"
    for data in ("shards.x", "sets/other", "link"):
        with pytest.raises(
            ConfigError, match=rf"no trial of the data '{data}' in .*: there is digits, shards, v1.2"
        ):
            best(output, data=data)
    with pytest.raises(ConfigError, match=r"there is no trial in .* that fits"):
        best(output, data="digits", process="edm")


def test_numbers_of_different_protocols_are_never_compared(write, output):
    write(*trials(7.0, 8.0), study="a", fingerprint="aaaa1")
    write(*trials(5.0), study="b", fingerprint="bbbb2")
    with pytest.raises(
        ConfigError, match=r"aaaa1 \(2 trials\), bbbb2 \(1 trial\); pick one with --fingerprint"
    ) as error:
        best(output)
    assert "\n" not in str(error.value)
    assert best(output, fingerprint="aaaa1").curriculum.mean == 7.0
    assert best(output, fingerprint="bb").curriculum.mean == 5.0
    with pytest.raises(ConfigError, match="--fingerprint must name one protocol, but got 'cc'"):
        best(output, fingerprint="cc")


def test_no_store_no_trial_and_no_finished_trial_are_told_apart(write, output, tmp_path):
    with pytest.raises(ConfigError, match="there is no MLflow store"):
        best(tmp_path / "none")
    with pytest.raises(ConfigError, match="there is no trial"):
        best(output)
    write(record(None, key="search-099"))
    with pytest.raises(ConfigError, match=r"no finished trial with the metric fid .* \(1 failed\)"):
        best(output)
    write(record(7.0, **UNIFORM))
    with pytest.raises(ConfigError, match="only uniform sampling has finished"):
        best(output)


def test_an_unknown_metric_and_impossible_quotes_are_refused(output):
    with pytest.raises(ConfigError, match="metric must be one of"):
        best(output, metric="fidelity")
    with pytest.raises(ConfigError, match="both kinds of quotes"):
        best(output, study="""it's "odd" """)
