"""The MLflow store: where it lies, what is refused as one, and what it never prints."""

import shlex
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from curriculum_ray.config import ConfigError
from tests.tuning.studies import record, write_trial
from tuning.tracking import Store, Tracker, open_store

EXPERIMENT = "digits/ddpm-epsilon"


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


def test_a_store_says_why_it_cannot_be_reached_now(output):
    store = open_store(None, output, create=False)
    assert store.unreachable() is None
    server = Store(store.client, f"http://someone:s3cret@127.0.0.1:{free_port()}", None)
    assert (
        server.unreachable()
        == f"the MLflow server {server.shown} cannot be reached: it does not listen there"
    )
    assert "s3cret" not in server.shown


def test_the_address_on_the_command_line_comes_before_the_environment(output, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    store = open_store(f"sqlite:///{output}/mlflow.db", tmp_path / "unused", create=False)
    assert store.uri == f"sqlite:///{output}/mlflow.db"
    assert not (tmp_path / "unused").exists()


def test_a_store_that_is_printed_shows_no_password(output):
    client = open_store(None, output, create=False).client
    store = Store(client, "http://someone:s3cret@host:5000/path?token=s3cret", None)
    assert "s3cret" not in repr(store)
    assert store.shown == store.ui_command() == "http://host:5000/path"
    assert "s3cret" not in store.redacted(f"cannot reach {store.uri}: s3cret\nrefused")
