"""A run's files arrive though their folder moves; a run whose files were lost is stored again by a later start."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.tuning.studies import record
from tests.tuning.tracking.clients import tracker_of_a_watched_store
from tests.tuning.tracking.test_replay import EXPERIMENT, STUDY, queue, stored
from tuning.folder.identity import Identity
from tuning.folder.layout import SPOOL_FILE
from tuning.study.ledger import StudyLedger
from tuning.terminal.display import Display
from tuning.tracking import Tracker
from tuning.tracking.leftovers import store_leftovers


@pytest.mark.parametrize("moved", ["the output folder", "the study's folder"])
def test_a_queue_is_stored_after_its_folder_was_moved(output: Path, tmp_path: Path, moved: str) -> None:
    queue(output)
    if moved == "the output folder":
        output = output.rename(tmp_path / "moved")
    else:
        (output / STUDY).rename(output / "moved")
    said: list[str] = []
    store_leftovers(output, None, said.append)
    assert len(said) == 1
    assert said[0].startswith("stored in MLflow")
    (_, trial) = stored(output)
    assert (trial.files, trial.models) == (["config.yaml", "schedule.yaml"], ["m READY"])


def start(output: Path, files: list[Path]) -> bool:
    """Start the study again; as its ledger does, store its trial if MLflow lacks a part of it, and return whether."""
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        tracker.keep_in(output / STUDY)
        study = tracker.study(STUDY, {}, {"fingerprint": "f"})
        if tracker.has_ended(study, "search-000", "FINISHED"):
            return False
        run = tracker.trial(study, "search-000", "search-000", {"seed": 0}, {"role": "searched"})
        tracker.artifacts(run, files)
        tracker.finish(run, "FINISHED")
        return True


def test_a_run_that_lost_a_file_is_stored_again_by_the_next_start_that_has_it(output: Path) -> None:
    queue(output)
    folder = output / STUDY / "trials" / "search-000"
    (folder / "schedule.yaml").rename(folder / "elsewhere")
    said: list[str] = []
    store_leftovers(output, None, said.append)
    assert f"MLflow: {Path('trials/search-000/schedule.yaml')} was gone before MLflow could store it" in said
    (_, trial) = stored(output)
    assert (trial.status, trial.files, trial.missing) == ("FINISHED", ["config.yaml"], "schedule.yaml")
    # It is not there yet: nothing else counts as its replacement.
    assert start(output, [folder / "config.yaml"])
    assert stored(output)[1].missing == "schedule.yaml"
    (folder / "elsewhere").rename(folder / "schedule.yaml")
    assert start(output, [folder / "config.yaml", folder / "schedule.yaml"])
    (_, trial) = stored(output)
    assert (trial.files, trial.missing) == (["config.yaml", "schedule.yaml"], "")
    assert not start(output, [])


def test_a_lost_file_is_remembered_though_the_driver_is_killed_before_the_run_ends(output: Path) -> None:
    queue(output)
    (output / STUDY / "trials" / "search-000" / "config.yaml").unlink()
    tracker, client = tracker_of_a_watched_store(output, EXPERIMENT)

    def kill(name: str) -> None:
        if name == "search_logged_models":
            tracker._writer._abandon.set()
            raise ConnectionError("killed")

    client.before = kill
    with pytest.raises(Exception, match="that an earlier start left"):
        tracker.keep_in(output / STUDY)
    tracker._writer._thread.join()
    with Tracker.open(None, output, EXPERIMENT) as again:
        again.keep_in(output / STUDY)
        assert not (output / STUDY / SPOOL_FILE).read_text().strip("#")
        study = again.study(STUDY, {}, {"fingerprint": "f"})
        assert not again.has_ended(study, "search-000", "FINISHED")
    (_, trial) = stored(output)
    assert (trial.status, trial.missing) == ("FINISHED", "config.yaml")


def test_the_next_start_of_a_study_brings_a_lost_file(output: Path) -> None:
    folder, identity = output / STUDY, Identity("0" * 32, "1" * 64)
    place = folder / "trials" / "search-000"
    place.mkdir(parents=True)
    (place / "record.json").write_text(json.dumps(record(3.0).to_json()))
    (place / "config.yaml").write_text("seed: 0\n")

    def start(lose: bool = False) -> list[str]:
        with Tracker.open(None, output, EXPERIMENT) as tracker:
            if lose:
                located = tracker._located
                tracker._located = lambda file: located(f"{file} that was renamed")  # type: ignore[method-assign]
            shown = Display(1, 76800, Console(file=io.StringIO(), _environ={}))
            StudyLedger(STUDY, folder, tracker, shown, {}, {}, identity).close("FINISHED")
        return tracker.problems

    (problem,) = start(lose=True)
    assert problem.endswith("was gone before MLflow could store it")
    (_, trial) = stored(output)
    assert (trial.status, trial.files, trial.missing) == ("FINISHED", [], "config.yaml")
    assert start() == []
    (_, trial) = stored(output)
    assert (trial.status, trial.files, trial.missing) == ("FINISHED", ["config.yaml"], "")
    assert trial.points["fid"] == [(76800, 3.0)]
