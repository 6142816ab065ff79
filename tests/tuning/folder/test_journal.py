"""A journal whose last line a kill tore opens, goes on, and opens again."""

from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from tuning.folder.journal import mend_journal


def _study(path: Path) -> optuna.Study:
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    return optuna.create_study(study_name="s", storage=storage, load_if_exists=True)


def _trial(study: optuna.Study, value: float) -> None:
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    study.tell(trial, value)


@pytest.mark.parametrize("torn", [b"{", b'{"op_code": 4, "worker_id": "a', b""])
def test_a_torn_journal_goes_on_and_keeps_every_whole_trial(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "j"
    _trial(_study(path), 1.0)
    with open(path, "ab") as file:
        file.write(torn)
    assert mend_journal(path) == len(torn)
    _trial(_study(path), 2.0)
    assert [trial.value for trial in _study(path).trials] == [1.0, 2.0]


def test_a_missing_journal_is_whole(tmp_path: Path) -> None:
    assert mend_journal(tmp_path / "none") == 0
    assert not (tmp_path / "none").exists()
