"""A real MLflow server that is killed in mid-study or cannot store files: nothing is lost, no password is shown."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from curriculum_ray.config import ConfigError
from tests.tuning.studies import record, schedule, write_trial
from tuning.folder.layout import SPOOL_FILE
from tuning.tracking import Tracker
from tuning.tracking.best import best
from tuning.tracking.registry import model_name, register


class Server:
    """An MLflow server on the loopback address that can be killed and started again."""

    def __init__(self, folder):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.folder, self.artifacts = folder, folder / "artifacts"
        self.uri = f"http://someone:s3cret@127.0.0.1:{self.port}"

    def start(self):
        options = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--workers", "1"]
        options += ["--artifacts-destination", str(self.artifacts)]
        options += ["--host", "127.0.0.1", "--port", str(self.port)]
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


def opened(server, output, seconds=200):
    deadline = time.monotonic() + seconds
    while True:
        try:
            return Tracker.open(server.uri, output, "digits/ddpm")
        except ConfigError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


@pytest.mark.slow
def test_what_is_written_while_the_server_is_away_arrives_when_it_is_back(server, tmp_path, capfd):
    output, files = tmp_path / "output", tmp_path / "study" / "files"
    with opened(server, output) as tracker:
        tracker.keep_in(tmp_path / "study")
        study = tracker.study("a", {}, {"fingerprint": "f"})
        write_trial(
            tracker, study, record(9.0, control="uniform", role="control", key="control-uniform"), files
        )
        assert tracker.flush()
        server.kill()
        write_trial(tracker, study, record(7.0, key="search-000"), files)
        assert not tracker.flush(2)
        with pytest.raises(ConfigError, match="cannot be reached"):
            best(output, server.uri)
        server.start()
        assert tracker.flush(250)
        assert not tracker.problems
        assert tracker.ui_command() == f"http://127.0.0.1:{server.port}"
        server.kill()
        write_trial(tracker, study, record(6.0, key="search-001", schedule=schedule(6)), files)
        assert not tracker.flush(2)
        # As kill -9 of the driver leaves it.
        tracker._writer._abandon.set()
    server.start()
    with opened(server, output) as tracker:
        tracker.keep_in(tmp_path / "study")
        assert not tracker.problems
    assert best(output, server.uri).trial == "search-001"
    found = best(output, server.uri, study="a", fingerprint="f")
    assert found.uniform is not None
    assert (found.curriculum.mean, found.uniform.mean, found.trial) == (6.0, 9.0, "search-001")
    assert found.schedule["clusters"]["count"] == 6
    assert not output.exists()
    assert "s3cret" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_a_server_that_cannot_store_files_takes_all_else_and_the_files_once_it_can(server, tmp_path, capfd):
    output, folder = tmp_path / "output", tmp_path / "study"
    server.kill()
    sound, server.artifacts = server.artifacts, "/dev/null/nowhere"
    server.start()
    for start in range(2):
        with opened(server, output) as tracker:
            tracker.keep_in(folder)
            study = tracker.study("a", {}, {"fingerprint": "f"})
            if not start:
                write_trial(tracker, study, record(9.0, control="uniform", role="control"), folder / "trials")
            assert tracker.flush(120)
            assert tracker.has_ended(study, "search-000", "FINISHED") == bool(start)
        reason, waiting = tracker.problems
        # HTTP 500, or a connection that the server resets as it answers so before it has read the file.
        assert reason.startswith("files are not taken for now, and wait: ")
        assert waiting == (
            f"1 writes to MLflow wait in {folder / SPOOL_FILE}; the same command tries them again"
        )
    server.kill()
    server.artifacts = sound
    server.start()
    with opened(server, output) as tracker:
        tracker.keep_in(folder)
        assert not tracker.problems
        run = tracker.store.search_runs([tracker._experiment_id], "tags.`curriculum_ray.kind` = 'trial'")[0]
        assert [file.path for file in tracker.store.client.list_artifacts(run.info.run_id)] == [
            "schedule.yaml"
        ]
        # A tag that is empty, as of files that were missing.
        tracker.tags(tracker.study("a", {}, {}), {"missing": ""})
    assert not tracker.problems
    assert not (folder / SPOOL_FILE).exists()
    assert "s3cret" not in "".join(capfd.readouterr())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_winner_is_found_in_the_registry_of_a_server(server, tmp_path):
    output, files = tmp_path / "output", tmp_path / "files"
    with opened(server, output) as tracker:
        study = tracker.study("a/study: one", {}, {"fingerprint": "f"})
        first = write_trial(tracker, study, record(7.0, key="search-000"), files)
        better = write_trial(tracker, study, record(6.0, key="search-001", schedule=schedule(6)), files)
        assert tracker.flush()
        name = model_name("a/study: one")
        for run in (first, better):
            address = register(
                tracker.store, name, tracker.run_id(run), "best", "it beats", {"verdict": "beats_uniform"}
            )
        assert address == "models:/a-study--one@best"
        client = tracker.store.client
        weights = tmp_path / "ema.safetensors"
        weights.write_bytes(b"weights")
        tracker.model(better, "a", [weights], {}, {"verdict": "beats_uniform"})
        assert tracker.flush()
        (model,) = client.search_logged_models([client.get_run(tracker.run_id(better)).info.experiment_id])
        assert (model.status, model.source_run_id) == ("READY", tracker.run_id(better))
        assert [file.path for file in client.list_logged_model_artifacts(model.model_id)] == [weights.name]
        version = client.get_model_version_by_alias(name, "best")
        assert version.run_id == tracker.run_id(better)
        assert version.tags["curriculum_ray.verdict"] == "beats_uniform"
        # Said again, as by a study that goes on, it makes no further version.
        register(
            tracker.store, name, tracker.run_id(better), "best", "it beats", {"verdict": "beats_uniform"}
        )
        assert len(client.search_model_versions(f"name = '{name}'")) == 2
    # Another process, which knows the server and the name only.
    lines = [
        "import sys, pathlib, mlflow",
        "mlflow.set_tracking_uri(sys.argv[1])",
        "folder = mlflow.artifacts.download_artifacts('models:/a-study--one@best', dst_path=sys.argv[2])",
        "print(pathlib.Path(folder, 'schedule.yaml').read_text())",
    ]
    command = [sys.executable, "-c", "\n".join(lines), server.uri, str(tmp_path / "found")]
    (tmp_path / "found").mkdir()
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    assert "count: 6" in found.stdout
