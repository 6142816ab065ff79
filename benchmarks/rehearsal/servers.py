"""The servers beside the cluster: S3 by moto, whose content outlives it, and MLflow with users and passwords."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from s3_server import S3Server  # noqa: E402

BUCKET = "lab"


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Storage(S3Server):
    """The S3 server with one bucket; `save` writes what it holds to a folder, from which the next one takes it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        os.environ.update(self.environment)
        self._folder = folder
        self.make_bucket(BUCKET)
        if folder.exists():
            copy(str(folder), f"s3://{BUCKET}")

    def save(self) -> None:
        """Write all objects into the folder, in place of what it held."""
        shutil.rmtree(self._folder, ignore_errors=True)
        copy(f"s3://{BUCKET}", str(self._folder))


def copy(source: str, target: str) -> None:
    """Copy a folder: both may be a path or an address, as with `aws s3 sync` but without deleting."""
    from pyarrow import fs

    here, path = fs.FileSystem.from_uri(source)
    there, into = fs.FileSystem.from_uri(target)
    fs.copy_files(path, into, source_filesystem=here, destination_filesystem=there)


class Store:
    """An MLflow server with basic authentication: `lab` runs studies, `reader` may only read."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.port, self._folder = free_port(), folder
        self.address = f"http://127.0.0.1:{self.port}"
        kept = folder / "passwords"
        if not kept.exists():
            kept.write_text("\n".join(secrets.token_urlsafe(12) for _ in range(3)))
        self.passwords = dict(zip(("admin", "lab", "reader"), kept.read_text().split(), strict=True))
        settings = folder / "users.ini"
        settings.write_text(
            "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
            f"database_uri = sqlite:///{folder}/users.db\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            # Else it hashes the password anew for each request.
            "auth_cache_ttl_seconds = 60\n"
        )
        options = ["--app-name", "basic-auth", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
        options += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
        options += ["--host", "127.0.0.1", "--port", str(self.port)]
        environment = {
            **os.environ,
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.passwords["admin"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
            # Seven processes for jobs of its own, of which there are none.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with open(folder / "log", "a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait()
            self._make_users()
        except BaseException:
            self.close()
            raise

    def environment(self, user: str) -> dict[str, str]:
        """Variables by which a user's commands find the server."""
        return {
            "MLFLOW_TRACKING_URI": self.address,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": self.passwords[user],
        }

    def _wait(self) -> None:
        end = time.monotonic() + 600
        while True:
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=5).close()
                return
            except urllib.error.HTTPError:  # it answers
                return
            except OSError:
                assert self.process.poll() is None, f"MLflow's server has ended: see {self._folder / 'log'}"
                assert time.monotonic() < end, "MLflow's server does not answer"
                time.sleep(0.5)

    def _make_users(self) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.server import get_app_client

        os.environ.update(self.environment("admin"))
        client = get_app_client("basic-auth", tracking_uri=self.address)
        for user in ("lab", "reader"):
            try:
                client.create_user(user, self.passwords[user])
            except MlflowException as error:  # it is there since an earlier start
                if "RESOURCE_ALREADY_EXISTS" not in str(error.error_code):
                    raise
        for name in self.environment("admin"):
            del os.environ[name]

    def close(self) -> None:
        """End it; what it holds stays in its folder."""
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
