"""The MLflow store: a SQLite database under the output folder, or a server that must answer at once."""

from __future__ import annotations

import os
import shlex
import socket
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from curriculum_ray.addresses import presentable, without_secrets
from curriculum_ray.config import ConfigError
from curriculum_ray.shell import tune_command, typed
from tuning.folder.layout import ARTIFACTS, DATABASE_FILE
from tuning.tracking.reach import ask_server

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ARTIFACT_ROOT_TAG = "curriculum_ray.artifact_root"

_UI_HOST, _UI_PORT = "127.0.0.1", 5000
_REACH_SECONDS = 5
_MLFLOW_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # It prints the server's whole address, including the password, at the end of each run.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
_SQL_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True)
class Store:
    """An open MLflow store."""

    client: MlflowClient
    uri: str = field(repr=False)
    """Tracking URI; may hold a password: print `shown` instead."""
    artifact_root: str | None
    """URI of the folder for artifacts beside an embedded database; None where the server decides."""

    @property
    def shown(self) -> str:
        """The address without user, password and query."""
        return presentable(self.uri)

    def redacted(self, text: str) -> str:
        """Return `text` as one line without the secrets of the address."""
        return " ".join(without_secrets(text, self.uri).split())

    def unreachable(self) -> str | None:
        """Ask the store something small: None if it answers, else the reason why it does not, as one line."""
        try:
            if self._is_server:
                ask_server(self.uri, f"the MLflow server {self.shown}")
            else:
                self.client.search_experiments(max_results=1)
        except ConfigError as error:
            return str(error)
        except Exception as error:  # every kind of database fails in its own way
            return self.redacted(f"{self.shown} does not answer: {type(error).__name__}: {error}")
        return None

    def search_runs(
        self, experiments: list[str], query: str, order: list[str] | None = None, limit: int = 0
    ) -> list[Run]:
        """Return the runs of the experiments (ids) that MLflow's filter finds; all, or the first `limit`."""
        runs: list[Run] = []
        token = None
        while experiments:
            page = self.client.search_runs(
                experiments, query, max_results=limit or 1000, order_by=order, page_token=token
            )
            runs += page
            token = page.token
            if limit or not token:
                break
        return runs

    def ui_command(self) -> str:
        """Return the command that opens MLflow's pages on this store (loopback), or a server's address."""
        if self._is_server:
            return self.shown
        command = [typed(Path(sys.executable)), "-m", "mlflow", "ui", "--backend-store-uri", self.shown]
        command += ["--host", _UI_HOST, "--port", str(_UI_PORT)]
        # Without it, the pages send usage data to MLflow's developers.
        return f"MLFLOW_DISABLE_TELEMETRY=true {shlex.join(command)}"

    def ui_address(self) -> str:
        """Return the address of the pages once `ui_command` runs."""
        return self.shown.rstrip("/") if self._is_server else f"http://{_UI_HOST}:{_UI_PORT}"

    def seen_from(self, output: Path) -> str | None:
        """The address without secrets; None for the database in the folder `output`, with which it may move."""
        return None if is_database_of(self.uri, output) else self.shown

    @property
    def _is_server(self) -> bool:
        return urlsplit(self.uri).scheme in ("http", "https")


def open_store(uri: str | None, output: Path, *, create: bool) -> Store:
    """Open the store named by `uri`, else by MLFLOW_TRACKING_URI, else the database in the folder `output`.

    If `create`, a missing embedded database is created, which takes 2 to 3 seconds; opening it takes less than one. May
    run in a thread. Raises `ConfigError` when there is no store, or when it cannot be reached within a few seconds.
    """
    uri, origin, scheme = store_address(uri)
    if not uri:
        return _open_embedded(output.absolute() / DATABASE_FILE, create, f"--output {output}")
    if scheme == "sqlite":
        return _open_embedded(
            Path(uri.partition(":///")[2]).absolute(), create, f"{origin} {presentable(uri)}"
        )
    return _open_remote(uri, scheme, origin)


def store_address(uri: str | None) -> tuple[str, str, str]:
    """The address of the store ("" for the embedded one), the setting that gave it, and its scheme.

    Raises `ConfigError` for an address that no store can have, without connecting.
    """
    origin = "--mlflow-uri" if uri else "MLFLOW_TRACKING_URI"
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or ""
    try:
        parts = urlsplit(uri)
        scheme, _ = parts.scheme.partition("+")[0], parts.port
    except ValueError as error:
        raise ConfigError(f"{origin} is no address: {error}") from None
    if scheme == "sqlite" and uri.partition(":///")[2] in ("", ":memory:"):
        raise ConfigError(
            f"{origin} must name a database file (sqlite:///path), but got {presentable(uri)!r}"
        )
    if uri and scheme not in ("sqlite", "http", "https", "databricks", *_SQL_PORTS):
        raise ConfigError(
            f"{origin} must be an http(s) address of an MLflow server or a database address, but got "
            f"{presentable(uri)!r}"
        )
    return uri, origin, scheme


def is_database_of(uri: str, output: Path) -> bool:
    """Whether the address is that of the SQLite database in the folder `output`."""
    scheme, _, path = uri.partition(":///")
    return scheme.partition("+")[0] == "sqlite" and Path(path).resolve() == (output / DATABASE_FILE).resolve()


def _open_embedded(database: Path, create: bool, origin: str) -> Store:
    if "?" in str(database):
        raise ConfigError(f"the path of the MLflow database must hold no '?', but got {database} ({origin})")
    if not database.exists():
        if not create:
            raise ConfigError(
                f"there is no MLflow store at {database} ({origin}): run `{tune_command('search')}` first, or name "
                "another --output or --mlflow-uri"
            )
        _create(database, origin)
    artifacts = database.parent / ARTIFACTS
    try:
        # Check first: MLflow retries an unreadable database for minutes.
        with closing(sqlite3.connect(database, timeout=20)) as connection:
            _follow_move(connection, artifacts.as_uri())
    except sqlite3.Error as error:
        raise ConfigError(f"{database} cannot be used as an MLflow database: {error} ({origin})") from None
    uri = f"sqlite:///{database}"
    return Store(_connect(uri, origin), uri, artifacts.as_uri())


def _create(database: Path, origin: str) -> None:
    """Create the database under another name and move it into place.

    So no other process, and no restart after a kill, sees it in the middle of MLflow's migrations.
    """
    import_mlflow()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=database.parent) as folder:
            fresh = Path(folder) / DATABASE_FILE
            store = SqlAlchemyStore(f"sqlite:///{fresh}", (database.parent / ARTIFACTS).as_uri())
            store.engine.dispose()
            try:
                os.link(fresh, database)
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                os.replace(fresh, database)
    except OSError as error:
        raise ConfigError(
            f"the MLflow store {database} cannot be made: {error.strerror} ({origin})"
        ) from None


def _follow_move(connection: sqlite3.Connection, root: str) -> None:
    """Point runs and models at the artifacts beside the database after the folder was moved or copied."""
    moved = connection.execute(
        "SELECT experiment_id, value FROM experiment_tags WHERE key = ? AND value != ?",
        (ARTIFACT_ROOT_TAG, root),
    ).fetchall()
    for experiment, old in moved:
        start = (root, len(old) + 1, experiment)
        with connection:
            connection.execute(
                "UPDATE experiments SET artifact_location = ? || substr(artifact_location, ?)"
                " WHERE experiment_id = ?",
                start,
            )
            connection.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE experiment_id = ?", start
            )
            connection.execute(
                "UPDATE logged_models SET artifact_location = ? || substr(artifact_location, ?)"
                " WHERE experiment_id = ?",
                start,
            )
            connection.execute(
                "UPDATE experiment_tags SET value = ? WHERE key = ? AND experiment_id = ?",
                (root, ARTIFACT_ROOT_TAG, experiment),
            )


def _open_remote(uri: str, scheme: str, origin: str) -> Store:
    import_mlflow()
    shown = presentable(uri)
    if scheme in ("http", "https"):
        ask_server(uri, f"the MLflow server {shown} ({origin})")
    elif scheme in _SQL_PORTS:
        parts = urlsplit(uri)
        try:
            address = (parts.hostname or "localhost", parts.port or _SQL_PORTS[scheme])
            socket.create_connection(address, timeout=_REACH_SECONDS).close()
        except (OSError, ValueError) as error:
            raise ConfigError(f"the MLflow database {shown} ({origin}) cannot be reached: {error}") from None
    return Store(_connect(uri, origin), uri, None)


def _connect(uri: str, origin: str) -> MlflowClient:
    import_mlflow()
    from mlflow import MlflowClient

    shown = presentable(uri)
    try:
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{origin} needs the package {error.name!r}, which is not installed") from None
    except Exception as error:
        if "database schema" in str(error):
            upgrade = shlex.join([sys.executable, "-m", "mlflow", "db", "upgrade", shown])
            raise ConfigError(
                f"the MLflow store {shown} ({origin}) was made by another version of MLflow: "
                f"back it up, then run {upgrade}"
            ) from None
        raise ConfigError(
            f"the MLflow store {shown} ({origin}) cannot be opened: {type(error).__name__}"
        ) from None
    return client


def import_mlflow() -> Any:
    """Import MLflow without telemetry and log noise, and with retries of seconds instead of minutes."""
    import logging

    for name, value in _MLFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow
