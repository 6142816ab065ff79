"""MLflow: the store, its limits, restarts into the same runs, and what happens when it is away."""

import math
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from curriculum_ray.config import ConfigError
from tests.tuning.studies import record, write_trial
from tuning.tracking import Store, Tracker, open_store
from tuning.tracking.fields import MAX_PARAM_LENGTH, param_values, run_key, shorten, tag_values
from tuning.tracking.writer import Away, Refused, Write, Writer, merged

EXPERIMENT = "digits/ddpm-epsilon"


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


def test_a_new_store_is_made_whole_and_leaves_nothing_else_behind(empty_database):
    assert [path.name for path in empty_database.parent.iterdir()] == ["mlflow.db"]
    assert [path.name for path in empty_database.parent.parent.iterdir()] == [empty_database.parent.name]


def test_everything_is_stored_in_the_output_folder(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        study = tracker.study("a", {}, {})
        write_trial(tracker, study, record(), tmp_path / "files")
    assert not tracker.problems
    assert {path.name for path in output.iterdir()} == {"mlflow.db", "mlartifacts"}
    assert len(list((output / "mlartifacts").rglob("schedule.yaml"))) == 1
    assert {path.name for path in tmp_path.iterdir()} == {output.name, "files"}


def test_opening_says_nothing_and_starts_no_telemetry(output):
    script = f"""
from pathlib import Path
from tuning.tracking import Tracker
import sys
assert "mlflow" not in sys.modules
with Tracker.open(None, Path({str(output)!r}), "e") as tracker:
    tracker.study("a", {{}}, {{}})
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


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
            done = write_trial(tracker, study, record(key="done"), tmp_path)
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
    ident = tracker.run_id(run)
    moved = tmp_path / "elsewhere"
    shutil.move(output, moved)
    with Tracker.open(None, moved, EXPERIMENT) as tracker:
        path = tracker.store.client.download_artifacts(ident, "schedule.yaml", str(tmp_path))
        assert "count: 20" in Path(path).read_text()
        study = tracker.study("a", {}, {})
        write_trial(tracker, study, record(key="new"), tmp_path / "files")
    assert not output.exists()
    assert len(list(moved.rglob("schedule.yaml"))) == 2


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


def test_the_command_of_the_pages_names_this_store_and_the_loopback_address(output):
    words = shlex.split(open_store(None, output, create=False).ui_command())
    assert f"sqlite:///{output}/mlflow.db" in words
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[0] == "MLFLOW_DISABLE_TELEMETRY=true"


def test_no_store_is_made_where_one_is_only_read(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="there is no MLflow store"):
        open_store(None, tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()


def test_a_file_that_is_no_database_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_text("not a database, however long this text may be" * 100)
    with pytest.raises(ConfigError, match="cannot be used as an MLflow database"):
        open_store(None, tmp_path, create=True)


def test_an_output_folder_that_cannot_be_made_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        open_store(None, tmp_path / "file" / "runs", create=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_server_that_is_down_is_one_line_without_secrets(tmp_path, monkeypatch, scheme):
    uri = f"{scheme}://someone:s3cret@127.0.0.1:{free_port()}/mlflow?key=s3cret"
    with pytest.raises(ConfigError, match="cannot be reached") as error:
        open_store(uri, tmp_path, create=True)
    text = str(error.value)
    assert "--mlflow-uri" in text
    assert "\n" not in text
    assert "s3cret" not in text
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI"):
        open_store(None, tmp_path, create=True)


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "somewhere", "sqlite://", "ftp://host/x"])
def test_addresses_that_are_no_store_are_refused(tmp_path, uri):
    with pytest.raises(ConfigError, match="--mlflow-uri must"):
        open_store(uri, tmp_path, create=True)


@pytest.mark.parametrize(
    ("status", "words"), [(401, "refuses the credentials"), (404, "does not answer as an MLflow")]
)
def test_a_server_that_is_no_mlflow_or_wants_a_password_is_said_so(tmp_path, status, words):
    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(ConfigError, match=words):
            open_store(f"http://127.0.0.1:{server.server_port}", tmp_path, create=True)
        server.shutdown()


def test_the_address_on_the_command_line_comes_before_the_environment(output, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    store = open_store(f"sqlite:///{output}/mlflow.db", tmp_path / "unused", create=False)
    assert store.uri == f"sqlite:///{output}/mlflow.db"
    assert not (tmp_path / "unused").exists()


def test_writes_wait_for_a_store_that_is_away_and_keep_their_order():
    away = threading.Event()
    away.set()
    stored = []

    def apply(write):
        if away.is_set():
            raise Away
        stored.append((write.kind, write.data))

    writer = Writer(apply)
    for number in range(3):
        writer.put(Write("log", "run", [number]))
    writer.put(Write("end", "run", None))
    assert not writer.flush(0.2)
    assert stored == []
    away.clear()
    assert writer.flush(10)
    writer.close(1)
    assert [number for kind, data in stored if kind == "log" for number in data] == [0, 1, 2]
    assert stored[-1][0] == "end"
    assert not writer.problems


def test_a_write_that_the_store_refuses_does_not_hold_up_the_next():
    stored = []

    def apply(write):
        if write.kind == "bad":
            raise Refused("never")
        stored.append(write.kind)

    writer = Writer(apply)
    writer.put(Write("bad", "run", None))
    writer.put(Write("good", "run", None))
    writer.close(10)
    assert stored == ["good"]
    assert writer.problems == ["never"]


def test_closing_while_the_store_is_away_ends_and_counts_what_is_lost():
    def apply(write):
        raise Away

    writer = Writer(apply)
    writer.put(Write("end", "run", None))
    writer.close(0.1)
    assert writer.problems == ["1 writes to MLflow were not stored"]


def test_metrics_join_across_runs_but_never_across_the_end_of_their_own():
    writes = [
        Write("begin", "a", None),
        Write("log", "a", [1]),
        Write("log", "b", [2]),
        Write("log", "a", [3]),
        Write("end", "a", None),
        Write("log", "a", [4]),
        Write("log", "b", [5]),
    ]
    assert [(write.kind, write.run, write.data) for write in merged(writes)] == [
        ("begin", "a", None),
        ("log", "a", [1, 3]),
        ("log", "b", [2, 5]),
        ("end", "a", None),
        ("log", "a", [4]),
    ]


def test_a_store_that_is_printed_shows_no_password(output):
    client = open_store(None, output, create=False).client
    store = Store(client, "http://someone:s3cret@host:5000/path?token=s3cret", None)
    assert "s3cret" not in repr(store)
    assert store.shown == store.ui_command() == "http://host:5000/path"
    assert "s3cret" not in store.redacted(f"cannot reach {store.uri}: s3cret\nrefused")
