"""MLflow's runs: trials in their study, the limits of fields, and restarts into the same runs."""

import json
import math
import shutil
import threading
from importlib.metadata import version
from pathlib import Path

import pytest

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataSummary
from tests.tuning.studies import record, write_trial
from tuning.tracking import Tracker
from tuning.tracking.fields import MAX_PARAM_LENGTH, param_values, run_key, shorten, tag_values

EXPERIMENT = "digits/ddpm-epsilon"
EXPERIMENT_ID = "1"


def runs_of(tracker, kind):
    ids = [experiment.experiment_id for experiment in tracker.store.client.search_experiments()]
    return tracker.store.search_runs(
        ids, f"tags.`curriculum_ray.kind` = '{kind}'", ["attributes.start_time ASC"]
    )


def history(tracker, run, key):
    return [
        (point.step, point.value)
        for point in tracker.store.client.get_metric_history(tracker.run_id(run), key)
    ]


def test_trials_are_children_of_their_study_and_share_its_tags(output, tmp_path):
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        study = tracker.study("a", {"seed": 0}, {"data": "digits", "process": "ddpm", "fingerprint": "f1"})
        run = write_trial(tracker, study, record(), tmp_path)
        tracker.flush()
        stored = tracker.store.client.get_run(tracker.run_id(run))
    tags = stored.data.tags
    assert tags["mlflow.parentRunId"] == tracker.run_id(study)
    assert (tags["curriculum_ray.data"], tags["curriculum_ray.fingerprint"]) == ("digits", "f1")
    assert "curriculum_ray.control" not in tags
    assert tags["curriculum_ray.images"] == "76800"
    assert stored.data.params["schedule.clusters.count"] == "20"
    assert stored.info.status == "FINISHED"


def test_metrics_stand_at_the_images_seen(output):
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        run = tracker.train("a", {}, {})
        for images in range(0, 500, 100):
            tracker.log(run, {"loss": 1 / (1 + images)}, images)
        tracker.flush()
        assert history(tracker, run, "loss") == [(images, 1 / (1 + images)) for images in range(0, 500, 100)]


def test_a_history_is_stored_at_its_own_images_and_once(output):
    points = [(100, {"loss": 2.0, "heldout_loss_00": 1.0}), (200, {"loss": 1.0, "heldout_loss_00": 0.5})]
    for _ in range(2):
        with Tracker.open(None, output, EXPERIMENT) as tracker:
            run = tracker.train("a", {}, {})
            tracker.log_history(run, points)
            tracker.finish(run, "FINISHED")
            tracker.flush()
            assert history(tracker, run, "heldout_loss_00") == [(100, 1.0), (200, 0.5)]
            assert history(tracker, run, "images") == [(200, 200.0)]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_metric_that_is_not_finite_becomes_a_tag(output, value):
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        run = tracker.train("a", {}, {})
        tracker.log(run, {"fid": value, "kid": 1.0}, 10)
        tracker.flush()
        stored = tracker.store.client.get_run(tracker.run_id(run)).data
    assert stored.metrics == {"kid": 1.0}
    assert stored.tags["curriculum_ray.non_finite"] == f"fid = {value} after 10 images"


def test_a_restart_writes_into_the_same_runs_and_repeats_no_point(output, tmp_path):
    for attempt in range(2):
        with Tracker.open(None, output, EXPERIMENT) as tracker:
            study = tracker.study("a", {"seed": 0}, {"trials": 8 + attempt})
            done = write_trial(tracker, study, record(key="search-000"), tmp_path)
            run = tracker.trial(study, "half", "half", {}, {})
            for images in range(0, 300 + 200 * attempt, 100):
                tracker.log(run, {"loss": 1 / (1 + images)}, images)
            if attempt:
                tracker.flush()
                state = tracker.store.client.get_run(tracker.run_id(run)).info.status
                assert state == "RUNNING"
                assert tracker.store.client.get_run(tracker.run_id(done)).info.status == "FINISHED"
            tracker.finish(run, "FINISHED" if attempt else "KILLED", None if attempt else "interrupted")
            tracker.finish(study, "FINISHED" if attempt else "KILLED")
    assert len(runs_of(tracker, "study")) == 1
    assert len(runs_of(tracker, "trial")) == 2
    assert history(tracker, run, "loss") == [(images, 1 / (1 + images)) for images in range(0, 500, 100)]
    assert history(tracker, done, "fid") == [(76800, 10.0)]
    assert {run.info.status for run in runs_of(tracker, "trial")} == {"FINISHED"}


def test_the_same_study_with_other_settings_is_refused(output):
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        tracker.study("a", {"run": {"images": 100}}, {})
        with pytest.raises(ConfigError, match=r"run\.images = 100, but now it is 200") as error:
            tracker.study("a", {"run": {"images": 200}}, {})
    assert "\n" not in str(error.value)


def test_a_finished_study_that_goes_on_is_running_meanwhile(output):
    def status(run):
        return tracker.store.client.get_run(tracker.run_id(run)).info.status

    seen = []
    for _ in range(2):
        with Tracker.open(None, output, EXPERIMENT) as tracker:
            study = tracker.study("a", {}, {})
            trial = tracker.trial(study, "t", "t", {}, {})
            tracker.flush()
            seen.append((status(study), status(trial)))
            tracker.finish(trial, "FINISHED")
            tracker.finish(study, "FINISHED")
            tracker.flush()
            assert status(study) == "FINISHED"
    assert seen == [("RUNNING", "RUNNING"), ("RUNNING", "FINISHED")]


def test_two_studies_of_one_name_in_different_experiments_are_two(output):
    for experiment in ("digits/ddpm", "photos/ddpm"):
        with Tracker.open(None, output, experiment) as tracker:
            tracker.study("a", {"data": experiment}, {})
    assert len(runs_of(tracker, "study")) == 2


def test_more_parameters_and_points_than_one_request_holds(output):
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        run = tracker.train("a", {f"p{number}": number for number in range(250)}, {})
        for images in range(2500):
            tracker.log(run, {"loss": 1.0 + images}, images)
        tracker.flush()
        assert len(tracker.store.client.get_run(tracker.run_id(run)).data.params) == 250
        assert len(history(tracker, run, "loss")) == 2500
    assert not tracker.problems


def test_parameters_are_flat_texts():
    values = {
        "schedule": {"clusters": {"count": 20}, "base": None},
        "ema": True,
        "lr": 1e-4,
        "betas": [0.9, 0.99],
    }
    assert param_values(values) == {
        "schedule.clusters.count": "20",
        "schedule.base": "null",
        "ema": "true",
        "lr": "0.0001",
        "betas": "[0.9, 0.99]",
    }


def test_long_texts_are_cut_to_the_limit_and_stay_different():
    long = "x" * 9000
    cut, other = (shorten(long + end, MAX_PARAM_LENGTH) for end in "ab")
    assert len(cut) == MAX_PARAM_LENGTH
    assert "9001 characters" in cut
    assert cut != other
    assert shorten("short", MAX_PARAM_LENGTH) == "short"


def test_the_store_takes_a_text_at_the_limit_an_empty_one_and_odd_names(output):
    params = {"long": "x" * 9000, "empty": "", "odd*key?": "a\nb"}
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        run = tracker.train('it\'s "odd"', params, {"reason": "y" * 9000})
        tracker.log(run, {"loss(ema)": 1.0}, 1)
    stored = tracker.store.client.get_run(tracker.run_id(run)).data
    assert not tracker.problems
    assert len(stored.params["long"]) == MAX_PARAM_LENGTH
    assert stored.params["empty"] == ""
    assert stored.params["odd_key_"] == "a\nb"
    assert stored.metrics == {"loss_ema_": 1.0}


def test_tags_leave_out_none():
    assert tag_values({"control": None, "seed": 0}) == {"curriculum_ray.seed": "0"}


def test_run_keys_do_not_collide_across_names():
    assert run_key("trial", "a", "bc") != run_key("trial", "ab", "c")
    assert run_key("study", "a") == run_key("study", "a")


def test_a_moved_output_folder_takes_its_artifacts_along(output, tmp_path):
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        study = tracker.study("a", {}, {})
        run = write_trial(tracker, study, record(), tmp_path / "files")
        tracker.model(run, "a", [tmp_path / "files" / "search-000" / "schedule.yaml"], {}, {})
    ident = tracker.run_id(run)
    moved = tmp_path / "elsewhere"
    shutil.move(output, moved)
    with Tracker.open(None, moved, EXPERIMENT) as tracker:
        path = tracker.store.client.download_artifacts(ident, "schedule.yaml", str(tmp_path))
        assert "count: 20" in Path(path).read_text()
        study = tracker.study("a", {}, {})
        write_trial(tracker, study, record(key="search-001"), tmp_path / "files")
        (model,) = tracker.store.client.search_logged_models([EXPERIMENT_ID])
        assert model.artifact_location.startswith((moved / "mlartifacts").as_uri())
    assert not output.exists()
    assert len(list(moved.rglob("schedule.yaml"))) == 3


def test_an_artifact_that_is_gone_is_a_problem_and_not_an_error(output, tmp_path):
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        run = tracker.train("a", {}, {})
        tracker.artifacts(run, [tmp_path / "gone.png"])
        tracker.finish(run, "FINISHED")
    assert "gone.png" in tracker.problems[0]
    assert tracker.store.client.get_run(tracker.run_id(run)).info.status == "FINISHED"


def test_the_store_may_be_opened_in_a_thread(output):
    opened = []
    thread = threading.Thread(target=lambda: opened.append(Tracker.open(None, output, EXPERIMENT)))
    thread.start()
    thread.join()
    with opened[0] as tracker:
        tracker.study("a", {}, {})
    assert len(runs_of(tracker, "study")) == 1


def test_a_runs_data_set_is_its_input_once_however_often_it_starts(output):
    summary = DataSummary("cats", "folder", "/data/cats", items=12, splits={"train": 12}, split="train")
    for _ in range(2):
        with Tracker.open(None, output, EXPERIMENT) as tracker:
            run = tracker.train("a", {}, {})
            tracker.dataset(run, summary, "0123456789" * 6)
            assert tracker.flush()
            (stored,) = tracker.store.client.get_run(tracker.run_id(run)).inputs.dataset_inputs
    assert (stored.dataset.name, stored.dataset.digest) == ("cats", "0123456789" * 3 + "012345")
    assert (stored.dataset.source_type, stored.dataset.source) == ("folder", "/data/cats")
    assert json.loads(stored.dataset.profile)["splits"] == {"train": 12}


def test_the_data_set_of_a_study_is_that_of_its_trials(output, tmp_path):
    summary = DataSummary("cats", "folder", "/data/cats", items=12)
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        study = tracker.study("a", {}, {})
        tracker.dataset(study, summary, "0123")
        run = write_trial(tracker, study, record(), tmp_path)
        assert tracker.flush()
        (stored,) = tracker.store.client.get_run(tracker.run_id(run)).inputs.dataset_inputs
    assert (stored.dataset.name, stored.dataset.digest) == ("cats", "0123")
    assert [(tag.key, tag.value) for tag in stored.tags] == [("mlflow.data.context", "training")]


def test_a_step_has_one_value_though_it_is_reported_again(output):
    """As after a preview, after a worker's death, and at the end of a run, whose log is stored once more."""
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        run = tracker.train("a", {}, {})
        for speed in (5.0, 4.0):
            for images in (100, 200):
                tracker.log(run, {"loss": 1.0, "images_per_second": speed}, images)
            tracker.flush()
        assert history(tracker, run, "loss") == [(100, 1.0), (200, 1.0)]
        assert history(tracker, run, "images_per_second") == [(100, 5.0), (200, 5.0)]


def test_an_experiment_is_one_of_training_also_where_it_was_made_before(output):
    client = Tracker.open(None, output, "other/ddpm").store.client
    old = client.create_experiment(EXPERIMENT)
    assert "mlflow.experimentKind" not in client.get_experiment(old).tags
    for name in (EXPERIMENT, "other/ddpm"):
        with Tracker.open(None, output, name):
            found = client.get_experiment_by_name(name)
        assert found.tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_model_belongs_to_its_run_and_is_stored_once(output, tmp_path):
    weights = tmp_path / "ema.safetensors"
    weights.write_bytes(b"weights")
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        run = tracker.train("a", {}, {})
        for verdict in ("unconfirmed", "uniform"):
            tracker.model(run, "a", [weights], {"seed": 3}, {"verdict": verdict})
        assert tracker.flush()
        (model,) = tracker.store.client.search_logged_models([EXPERIMENT_ID])
        files = tracker.store.client.list_logged_model_artifacts(model.model_id)
    assert not tracker.problems
    assert (model.source_run_id, model.status, model.params) == (tracker.run_id(run), "READY", {"seed": "3"})
    assert model.tags["curriculum_ray.verdict"] == "uniform"
    assert [file.path for file in files] == ["ema.safetensors"]


def test_a_run_says_where_it_comes_from(output, tmp_path, monkeypatch):
    address = "postgresql://me:s3 cret@db/optuna"
    monkeypatch.setattr("sys.argv", ["/somewhere/tune.py", "search", "--set", f"storage={address}"])
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        study = tracker.study("a", {}, {})
        run = write_trial(tracker, study, record(), tmp_path)
        tracker.flush()
        parent, child = (
            tracker.store.client.get_run(tracker.run_id(each)).data.tags for each in (study, run)
        )
    told = "python -m tune search --set storage=postgresql://db/optuna"
    assert parent["curriculum_ray.command"] == parent["mlflow.source.name"] == told
    assert f"mlflow {version('mlflow')}" in parent["curriculum_ray.versions"]
    assert parent["mlflow.user"] == child["mlflow.user"]
