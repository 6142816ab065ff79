"""Secrets of the environment and of addresses reach no log, no MLflow store and no file of a run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from clusters import cli as clusters
from tuning import cli as tune

ROOT = Path(__file__).parents[2]
RAY_LOGS = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray"
SECRET = "s3cr3t-planted-0123456789"
PLANTED = {
    "AWS_ACCESS_KEY_ID": SECRET,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_SESSION_TOKEN": SECRET,
    "MLFLOW_TRACKING_PASSWORD": SECRET,
    "MLFLOW_TRACKING_TOKEN": SECRET,
    "HF_TOKEN": SECRET,
    "RAY_AUTH_TOKEN": SECRET,
}


def _tune(
    *arguments: str, cwd: Path, seconds: float = 200, variables: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **PLANTED, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    environment |= variables
    return subprocess.run(
        [sys.executable, "-m", "tune", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Ends a command, given as main(arguments), in an empty folder with a failure; returns what it printed."""
    monkeypatch.chdir(tmp_path)
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)

    def end(main: Callable[[list[str]], object], arguments: list[str], **variables: str) -> str:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code
        captured = capfd.readouterr()
        leaks = [
            path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
        ]
        assert not leaks
        assert SECRET not in captured.out + captured.err
        return captured.err + captured.out

    return end


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_an_address_that_does_not_answer_is_named_without_its_password(
    scheme: str, said: Callable[..., str]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    uri = f"{scheme}://me:{SECRET}@127.0.0.1:{port}/mlflow?token={SECRET}"
    assert said(tune.main, ["best", "--mlflow-uri", uri, "--output", "runs"]).count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["train", "--num-workers", "2"], {"RAY_ADDRESS": f"ray://me:{SECRET}@127.0.0.1:1"}),
        (["train", "--num-workers", "2"], {"RAY_ADDRESS": f"me:{SECRET}@127.0.0.1:1"}),
        (["best", "--output", "runs"], {"MLFLOW_TRACKING_URI": f"https://{SECRET}@127.0.0.1:1/x"}),
        (["best", "--output", "runs"], {"MLFLOW_TRACKING_URI": f"sqlite:///?password={SECRET}"}),
        (["best", "--output", "runs"], {"MLFLOW_TRACKING_URI": f"ftp://me:{SECRET}@host"}),
        (["compare", "a", "b", "--mlflow-uri", f"http://me:{SECRET}@127.0.0.1:1"], {}),
        (["train", "--data", f"s3://me:{SECRET}@bucket/images"], {}),
        (["train", "--output", f"s3://me:{SECRET}@bucket/runs"], {}),
        (["train", "--output", f"abfs://me:{SECRET}@account.dfs.core.windows.net/runs"], {}),
        (["train", "--output", f"s3://bucket/runs?endpoint_override=http%3A%2F%2Fme%3A{SECRET}%40host"], {}),
        (["train", "--output", f"s3:///me:{SECRET}@bucket/runs"], {}),
        (["train", "--data", f"az://images@account/x?sv=2024&sig={SECRET}"], {}),
        (["best", "--write", f"s3://me:{SECRET}@bucket/schedule.yaml"], {}),
        (["train", "--set", f"data.vae=[https://me:{SECRET}@host]"], {}),
        (["search", "--set", f"storage=[postgresql://me:{SECRET}@host/x]"], {}),
        (["search", "--set", f"sampler=postgresql://me:{SECRET}@host/x"], {}),
        (
            ["doctor", "--mlflow-uri", f"http://me:{SECRET}@127.0.0.1:1"],
            {"RAY_ADDRESS": f"ray://:{SECRET}@127.0.0.1:1"},
        ),
    ],
)
def test_no_address_shows_its_secret_in_an_error(
    said: Callable[..., str], arguments: list[str], variables: dict[str, str]
) -> None:
    assert said(tune.main, arguments, **variables)


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["doctor"], {"RAY_ADDRESS": f"me:{SECRET}@127.0.0.1:1"}),
        (["wait", "--nodes", "1"], {"RAY_ADDRESS": f"me:{SECRET}@127.0.0.1:12345678901234567890"}),
        (["wait", "--nodes", f"http://me:{SECRET}@127.0.0.1:1"], {}),
    ],
)
def test_no_command_for_clusters_shows_a_secret_in_an_error(
    said: Callable[..., str], arguments: list[str], variables: dict[str, str]
) -> None:
    assert said(clusters.main, arguments, **variables).startswith("error: ")


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_run_leaves_no_secret_behind(tmp_path: Path) -> None:
    tiny = {"images": "256", "batch_size": "32", "evaluation": "null"}
    settings = [part for key, value in tiny.items() for part in ("--set", f"{key}={value}")]
    done = _tune("train", "--output", "runs", *settings, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "mlflow.db" for path in files)
    leaks = [str(path) for path in files if SECRET.encode() in path.read_bytes()]
    assert not leaks


@pytest.mark.slow
@pytest.mark.timeout(580)
def test_a_search_leaves_no_secret_in_its_report_its_store_or_the_logs_of_ray(tmp_path: Path) -> None:
    began = time.time()
    small = ROOT / "tests" / "tuning" / "small_space.yaml"
    options = [
        "--space",
        str(small),
        "--trials",
        "1",
        "--images",
        "1280",
        "--num-samples",
        "64",
        "--confirm-seeds",
        "2",
    ]
    changes = ["run.batch_size=32", "run.log_every_images=320", "run.model.base_channels=8", "rivals={}"]
    settings = [part for change in changes for part in ("--set", change)]
    # SQLite passes over what it does not know; a server's address would hold the same.
    storage = f"sqlite:///file:{tmp_path}/o.db?uri=true&mode=rwc&password={SECRET}"
    settings += ["--set", f"storage={storage}"]
    done = _tune("search", "--name", "study", *options, *settings, cwd=tmp_path, seconds=500)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"mlflow.db", "report.html", "o.db"} <= {path.name for path in files}
    sessions = [path for path in RAY_LOGS.glob("session_2*") if path.stat().st_mtime >= began]
    logs = [path for session in sessions for path in (session / "logs").rglob("*") if path.is_file()]
    assert any(path.name == "gcs_server.out" for path in logs), "the test needs Ray's logs"
    leaks = [str(path) for path in (*files, *logs) if SECRET.encode() in path.read_bytes()]
    assert not leaks
