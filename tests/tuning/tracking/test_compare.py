"""`compare` shows what differs, and never sets numbers of two protocols beside each other."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from curriculum_ray.config import ConfigError
from tests.tuning.evidence.test_heldout import measured
from tests.tuning.studies import record, write_trial
from tuning.cli.compare import compare as command
from tuning.tracking import Tracker
from tuning.tracking.compare import compare, find_run


def run(output, key, settings, study="a", **changes):
    folder = output / study / "trials" / key
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "record.json").write_text(json.dumps(record(name=key, **changes).to_json()))
    return folder


WALKED = {"stages_asked": 1, "stages_walked": 1, "images_in_stage": [100]}
CUT = {"stages_asked": 3, "stages_walked": 2, "images_in_stage": [40, 0, 60]}
SETTINGS = {"images": 100, "schedule": {"pacing": None}, "seed": 0}


def test_settings_metrics_stages_and_history_stand_side_by_side(tmp_path):
    a = run(tmp_path, "one", SETTINGS, fid=10.0, **WALKED, history=[[50, 20.0], [100, 10.0]])
    run(tmp_path, "two", {**SETTINGS, "seed": 1}, fid=8.0, **CUT, history=[[50, {"fid": 15.0, "kid": 0.2}]])
    found = compare(find_run(str(a), tmp_path, None), find_run("two", tmp_path, None))
    assert found.settings == {"seed": (0, 1)}
    assert found.metrics["fid"] == {"a": 10.0, "b": 8.0, "gain": pytest.approx(20.0)}
    assert found.refusal is None
    shown = CliRunner().invoke(command, ["one", "two", "--output", str(tmp_path)]).output
    for words in ("seed", "B better by 20.0%", "2/3", "[40, 0, 60]", "preview FID after 50", "15.00"):
        assert words in shown


def test_held_out_losses_stand_side_by_side_by_noise_level_where_they_were_measured_alike(tmp_path):
    a = run(tmp_path, "one", SETTINGS, heldout=measured([[0.5, 0.25], [0.4, 0.2]]))
    run(tmp_path, "two", SETTINGS, heldout=measured([[0.5, 0.25], [0.3, 0.25]]))
    run(tmp_path, "three", SETTINGS, heldout=measured([[0.5, 0.25]] * 2, fingerprint="other"))
    run(tmp_path, "four", SETTINGS)
    lines = CliRunner().invoke(command, ["one", "two", "--output", str(tmp_path)]).output.splitlines()
    assert [line.split() for line in lines[-3:]] == [
        ["held-out", "loss", "after", "200", "0.300", "0.275", "B", "better", "by", "8.3%"],
        ["u", "=", "0.750", "0.200", "0.250", "B", "worse", "by", "25.0%"],
        ["u", "=", "0.250", "0.400", "0.300", "B", "better", "by", "25.0%"],
    ]
    shown = json.loads(
        CliRunner().invoke(command, [str(a), "two", "--output", str(tmp_path), "--json"]).output
    )
    assert shown["heldout"]["gain"] == pytest.approx([25.0, -25.0])
    for other, words in (("three", "not measured alike (abc and other)"), ("four", "B has none")):
        assert words in CliRunner().invoke(command, ["one", other, "--output", str(tmp_path)]).output


CLUSTERS = {"clusters": {"count": 2}, "pacing": None}
NO_VERDICT = ["not", "comparable:", "they", "draw", "or", "weigh", "noise", "levels", "differently"]


@pytest.mark.parametrize(
    ("settings", "starts", "verdict"),
    [
        ({"seed": 1, "optimizer": {"learning_rate": 0.1}}, [[0, 0]], ["B", "better", "by", "50.0%"]),
        ({"schedule": CLUSTERS}, [[0, 0]], NO_VERDICT),
        ({"weighting": {"kind": "min_snr"}}, [[0, 0]], NO_VERDICT),
        ({"process": {"kind": "flow"}}, [[0, 0]], NO_VERDICT),
        ({}, [[0, 0], [40, 1]], NO_VERDICT),
    ],
)
def test_training_losses_get_a_verdict_only_where_both_are_of_the_same_noise_levels(
    tmp_path, settings, starts, verdict
):
    run(tmp_path, "one", SETTINGS, metrics={"fid": 10.0, "loss": 0.2}, stage_starts=[[0, 0]])
    run(tmp_path, "two", {**SETTINGS, **settings}, metrics={"fid": 8.0, "loss": 0.1}, stage_starts=starts)
    arguments = ["one", "two", "--output", str(tmp_path)]
    lines = CliRunner().invoke(command, arguments).output.splitlines()
    shown = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("FID", "loss"))}
    assert shown == {
        "FID": ["10.00", "8.00", "B", "better", "by", "20.0%"],
        "loss": ["0.200", "0.100", *verdict],
    }
    gained = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).output)["metrics"]["loss"]
    assert gained == {"a": 0.2, "b": 0.1, "gain": pytest.approx(50) if verdict[0] == "B" else None}


def test_a_gain_is_said_in_words_and_none_on_nothing(tmp_path):
    measured_a = {"fid": 10.0, "kid": 0.5, "precision": 0.0, "recall": 0.4}
    measured_b = {"fid": 10.27, "kid": 0.5, "precision": 0.0, "recall": 0.6}
    run(tmp_path, "one", SETTINGS, metrics=measured_a)
    run(tmp_path, "two", SETTINGS, metrics=measured_b)
    arguments = ["one", "two", "--output", str(tmp_path)]
    shown = CliRunner().invoke(command, arguments).output.splitlines()
    ends = {
        line.split()[0]: line.split(None, 3)[3] for line in shown if line.startswith(("FID", "KID", "p", "r"))
    }
    assert ends == {
        "FID": "B worse by 2.7%",
        "KID": "equal",
        "precision": "–",
        "recall": "B better by 50.0%",
    }
    answer = json.loads(
        CliRunner().invoke(command, [*arguments, "--json"]).output, parse_constant=pytest.fail
    )
    assert answer["metrics"]["precision"] == {"a": 0.0, "b": 0.0, "gain": None}


def test_numbers_of_two_protocols_are_not_compared_but_settings_are(tmp_path):
    run(tmp_path, "one", SETTINGS)
    run(tmp_path, "two", {**SETTINGS, "images": 200}, fingerprint="other", history=[[1, 2.0]])
    found = compare(find_run("one", tmp_path, None), find_run("two", tmp_path, None))
    assert found.metrics == {}
    assert found.settings == {"images": (100, 200)}
    shown = CliRunner().invoke(command, ["one", "two", "--output", str(tmp_path)]).output
    assert "the protocols differ (f00dcafe and other)" in shown
    assert "FID" not in shown
    assert "preview" not in shown


def test_a_run_without_an_evaluation_is_said_so(tmp_path):
    run(tmp_path, "one", SETTINGS)
    run(tmp_path, "two", SETTINGS, fid=None, fingerprint=None)
    found = compare(find_run("one", tmp_path, None), find_run("two", tmp_path, None))
    assert found.refusal == "metrics are not compared: two has no evaluation"
    run(tmp_path, "three", SETTINGS, fid=None, fingerprint=None)
    found = compare(find_run("two", tmp_path, None), find_run("three", tmp_path, None))
    assert found.refusal == "metrics are not compared: two and three have no evaluation"


def test_a_key_of_two_studies_is_ambiguous_and_an_unknown_one_refused(tmp_path, output):
    run(tmp_path, "one", SETTINGS, study="a")
    run(tmp_path, "one", SETTINGS, study="b")
    with pytest.raises(ConfigError, match="names 2 runs: give a folder"):
        find_run("one", tmp_path, None)
    with pytest.raises(ConfigError, match="no trial's key"):
        find_run("three", output, None)


def test_a_run_of_mlflow_is_found_by_its_id(output, tmp_path):
    with Tracker.open(None, output, "digits/ddpm") as tracker:
        study = tracker.study("a", {}, {"fingerprint": "f"})
        handle = write_trial(tracker, study, record(7.0), tmp_path / "files")
        tracker.flush()
        ident = tracker.run_id(handle)
    side = find_run(ident, output, None)
    assert (side.metrics["fid"], side.images, side.fingerprint) == (7.0, 76800, "f")
    assert side.settings["schedule.clusters.count"] == "20"


def test_a_path_that_is_no_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    for output in (tmp_path, None):
        with pytest.raises(ConfigError, match=f"^A and B must name runs, but {tmp_path}/none is no folder$"):
            find_run(f"{tmp_path}/none", output, None)


def test_settings_that_mlflow_has_as_texts_are_compared_as_texts(output: Path, tmp_path: Path) -> None:
    """A trial that was pruned, failed or still runs has no config.yaml there."""
    kept = record(fingerprint="f", metrics={"fid": 7.0, "loss": 0.2})
    own = {"images": 100, "model": {"ema": True, "rate": 1e-4, "widths": [1, 2]}, "name@x": "a", "seed": 0}
    settings = {**own, "schedule": kept.drawn_by.model_dump(mode="json"), "weighting": {"kind": None}}
    with Tracker.open(None, output, "digits/ddpm") as tracker:
        study = tracker.study("a", {}, {"fingerprint": "f"})
        handle = write_trial(tracker, study, kept, tmp_path / "files", own)
        tracker.flush()
        ident = tracker.run_id(handle)
    measured = {"metrics": {"fid": 8.0, "loss": 0.1}, "fingerprint": "f", "stage_starts": []}
    for key, changes in (("same", {}), ("other", {"seed": 1}), ("weighed", {"weighting": {"kind": "p2"}})):
        run(tmp_path, key, {**settings, **changes}, **measured)
    same, other, weighed = (
        compare(find_run(ident, output, None), find_run(key, tmp_path, None))
        for key in ("same", "other", "weighed")
    )
    assert same.settings == {}
    assert same.metrics["loss"]["gain"] == pytest.approx(50)
    assert other.settings == {"seed": ("0", "1")}
    assert weighed.settings == {"weighting.kind": (None, "p2")}
    assert weighed.metrics["loss"]["gain"] is None
