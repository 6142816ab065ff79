"""An MLflow store for the tests of a study that costs no migration."""

import shutil
from pathlib import Path

import pytest

from tuning.tracking import open_store


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh MLflow database, made once for all tests, in a folder with a difficult name."""
    folder = tmp_path_factory.mktemp("store") / "100%é #runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder.parent)
        open_store(None, folder, create=True)
    return folder / "mlflow.db"


@pytest.fixture
def output(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output folder with an empty store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "100%é #runs"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder
