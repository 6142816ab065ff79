"""An MLflow store for the tests of a study that costs no migration."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.studies import EXPERIMENT, FINGERPRINT, write_trial
from tuning.evidence.records import TrialRecord
from tuning.tracking import Tracker, open_store


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


@pytest.fixture
def write(output: Path, tmp_path: Path) -> Callable[..., None]:
    """Write records as the finished trials of a study in the store of `output`."""

    def write(
        *records: TrialRecord,
        study: str = "a",
        experiment: str = EXPERIMENT,
        fingerprint: str = FINGERPRINT,
        data: str = "digits",
        params: Mapping[str, Any] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """settings: those of the runs of an arm besides the schedule, by the arm's name."""
        files = tmp_path / "files"
        with Tracker.open(None, output, experiment) as tracker:
            run = tracker.study(
                study, params or {}, {"data": data, "process": "ddpm", "fingerprint": fingerprint}
            )
            for values in records:
                write_trial(tracker, run, values, files, (settings or {}).get(values.arm))
            tracker.finish(run, "FINISHED")
        assert not tracker.problems
        shutil.rmtree(files, ignore_errors=True)

    return write
