"""A queue that a driver left is stored though storing it is interrupted anywhere, or the store takes only a part."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataSummary
from tests.tuning.tracking.clients import Watched, tracker_of_a_watched_store
from tuning.folder.layout import SPOOL_FILE
from tuning.tracking import Tracker, open_store
from tuning.tracking.leftovers import store_leftovers

EXPERIMENT = "digits/ddpm"
STUDY = "s"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuning.tracking.writer._FIRST_PAUSE_SECONDS", 0.001)


def queue(output: Path, trials: int = 1, name: str = STUDY) -> Path:
    """Leave a study in `output` as a driver does that is killed before anything but its study's run is stored."""
    folder = output / name
    tracker = Tracker.open(None, output, EXPERIMENT)
    tracker.keep_in(folder)
    study = tracker.study(name, {}, {"fingerprint": "f"})
    tracker._writer._abandon.set()
    tracker.dataset(study, DataSummary("cats", "folder", "/data/cats", items=12), "0123")
    for number in range(trials):
        key = f"search-{number:03d}"
        files = [folder / "trials" / key / name for name in ("schedule.yaml", "config.yaml")]
        files[0].parent.mkdir(parents=True)
        for file in files:
            file.write_text(key)
        run = tracker.trial(study, key, key, {"seed": number}, {"role": "searched"})
        for images in (100, 200):
            tracker.log(run, {"loss": 1.0 / images, "stage": 1.0}, images)
        tracker.log(run, {"loss": 9.0, "fid": 3.0}, 200)
        tracker.artifacts(run, files)
        tracker.model(run, "m", files[:1], {}, {})
        tracker.finish(run, "FINISHED")
    tracker.finish(study, "KILLED")
    return folder


@dataclass(frozen=True)
class Stored:
    """What MLflow has of a run."""

    name: str
    status: str
    params: dict[str, str]
    points: dict[str, list[tuple[int, float]]]
    files: list[str]
    missing: str | None
    datasets: list[str]
    models: list[str]


def stored(output: Path, name: str = STUDY) -> list[Stored]:
    """The run of a study, then those of its trials."""
    store = open_store(None, output, create=False)
    client = store.client
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = store.search_runs(ids, f"tags.`curriculum_ray.study` = '{name}'")
    models = {
        (model.source_run_id, f"{model.name} {model.status}") for model in client.search_logged_models(ids)
    }
    found = [
        Stored(
            name=run.data.tags.get("curriculum_ray.trial", ""),
            status=run.info.status,
            params=run.data.params,
            points={
                key: sorted((p.step, p.value) for p in client.get_metric_history(run.info.run_id, key))
                for key in run.data.metrics
            },
            files=sorted(file.path for file in client.list_artifacts(run.info.run_id)),
            missing=run.data.tags.get("curriculum_ray.missing"),
            datasets=[each.dataset.name for each in run.inputs.dataset_inputs],
            models=sorted(model for source, model in models if source == run.info.run_id),
        )
        for run in runs
    ]
    return sorted(found, key=lambda run: run.name)


def test_a_kill_after_any_call_loses_nothing_and_stores_nothing_twice(output: Path) -> None:
    tracker, client = tracker_of_a_watched_store(output, EXPERIMENT)
    folder = queue(output, name="whole")
    with tracker:
        tracker.keep_in(folder)
    assert not tracker.problems
    expected = stored(output, "whole")
    assert expected[1] == Stored(
        name="search-000",
        status="FINISHED",
        params={"seed": "0"},
        points={
            "fid": [(200, 3.0)],
            "images": [(200, 200.0)],
            "loss": [(100, 0.01), (200, 0.005)],
            "stage": [(100, 1.0), (200, 1.0)],
        },
        files=["config.yaml", "schedule.yaml"],
        missing=None,
        datasets=["cats"],
        models=["m READY"],
    )
    for number, call in enumerate(client.calls, start=1):
        if call.startswith("search_"):  # as after the call before it
            continue
        name = f"killed after {number}"
        folder = queue(output, name=name)
        killed, watched = tracker_of_a_watched_store(output, EXPERIMENT)

        def kill(_: str, killed: Tracker = killed, watched: Watched = watched, last: int = number) -> None:
            if len(watched.calls) >= last:
                killed._writer._abandon.set()
                raise ConnectionError("killed")

        watched.after = kill
        with pytest.raises(ConfigError):
            killed.keep_in(folder)
        killed._writer._thread.join()
        with Tracker.open(None, output, EXPERIMENT) as again:
            again.keep_in(folder)
        assert not again.problems
        assert stored(output, name) == expected, f"killed after {call}, call {number}"
        assert not (folder / SPOOL_FILE).exists()


def test_a_replay_that_is_interrupted_goes_on_where_it_was(output: Path) -> None:
    queue(output, trials=6)
    for _ in range(6):
        tracker, client = tracker_of_a_watched_store(output, EXPERIMENT)

        def interrupt(name: str, tracker=tracker) -> None:
            if name == "set_terminated":
                tracker._writer._abandon.set()

        client.after = interrupt
        with pytest.raises(ConfigError):
            tracker.keep_in(output / STUDY)
        tracker._writer._thread.join()
        assert client.calls.count("create_run") == 1, "what was stored is not stored again"
        assert "get_metric_history" not in client.calls
    with Tracker.open(None, output, EXPERIMENT) as last:
        last.keep_in(output / STUDY)
    assert [run.status for run in stored(output)] == ["KILLED", *6 * ["FINISHED"]]


def test_histories_are_asked_for_only_where_a_point_may_be_stored_already(output: Path) -> None:
    with Tracker.open(None, output, EXPERIMENT) as first:
        run = first.train("a", {}, {})
        for images in (100, 200):
            first.log(run, {"loss": 1.0, "stage": 1.0, "fid": 5.0}, images)
    tracker, client = tracker_of_a_watched_store(output, EXPERIMENT)
    with tracker:
        run = tracker.train("a", {}, {})
        tracker.log(run, {"loss": 0.5, "stage": 2.0}, 300)
        tracker.log(run, {"new": 1.0}, 100)
        assert tracker.flush()
        assert "get_metric_history" not in client.calls
        for images in (100, 200, 300):
            tracker.log(run, {"loss": 7.0}, images)
        assert tracker.flush()
        assert client.calls.count("get_metric_history") == 1
        points = tracker.store.client.get_metric_history(tracker.run_id(run), "loss")
    assert [(point.step, point.value) for point in points] == [(100, 1.0), (200, 1.0), (300, 0.5)]


def test_a_run_that_was_created_though_the_answer_was_lost_is_not_created_again(output: Path) -> None:
    tracker, client = tracker_of_a_watched_store(output, EXPERIMENT)
    with tracker:
        study = tracker.study(STUDY, {}, {})

        def lose_the_answer(name: str) -> None:
            if name == "create_run":
                client.after = lambda name: None
                raise ConnectionError("timed out")

        client.after = lose_the_answer
        run = tracker.trial(study, "t", "t", {}, {})
        tracker.log(run, {"loss": 1.0}, 100)
        assert tracker.flush()
    assert not tracker.problems
    assert [(run.name, run.points) for run in stored(output)] == [("", {}), ("t", {"loss": [(100, 1.0)]})]


def a_server_that_answers_500_to(*names: str) -> Callable[[str], None]:
    """What MLflow's client says after its own retries: the same kind of error as where there is no server."""
    from mlflow.exceptions import MlflowException

    def refuse(name: str) -> None:
        if name in names:
            raise MlflowException(
                "API request to http://host/api failed with exception HTTPConnectionPool(host='host', port=80): Max "
                "retries exceeded with url: /api (Caused by ResponseError('too many 500 error responses'))"
            )

    return refuse


def test_files_that_a_server_does_not_take_hold_up_nothing_and_are_stored_once_it_does(output: Path) -> None:
    folder = output / STUDY
    tracker, client = tracker_of_a_watched_store(output, EXPERIMENT, as_server=True)
    client.before = a_server_that_answers_500_to("log_artifact")
    with tracker:
        tracker.keep_in(folder)
        (folder / "data.json").write_text("{}")
        study = tracker.study(STUDY, {}, {})
        tracker.artifacts(study, [folder / "data.json"])
        run = tracker.trial(study, "t", "t", {}, {})
        tracker.log(run, {"fid": 3.0}, 100)
        tracker.finish(run, "FINISHED")
        assert tracker.flush()
    said = [
        "files are not taken for now, and wait: the server answers HTTP 500, and its log says why",
        f"1 writes to MLflow wait in {folder / SPOOL_FILE}; the same command tries them again",
    ]
    assert tracker.problems == said
    study_run, trial_run = stored(output)
    assert (study_run.files, trial_run.status, trial_run.points["fid"]) == ([], "FINISHED", [(100, 3.0)])
    # The study goes on though the server is as it was, ...
    second, client = tracker_of_a_watched_store(output, EXPERIMENT, as_server=True)
    client.before = a_server_that_answers_500_to("log_artifact")
    with second:
        second.keep_in(folder)
        assert second.has_ended(second.study(STUDY, {}, {}), "t", "FINISHED")
    assert second.problems == said
    # ... and once it is mended, the file is stored.
    with Tracker.open(None, output, EXPERIMENT) as third:
        third.keep_in(folder)
    assert not third.problems
    assert stored(output)[0].files == ["data.json"]
    assert not (folder / SPOOL_FILE).exists()


def test_a_queue_of_which_a_part_still_waits_is_not_said_to_be_stored(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no space left")

    folder = queue(output)
    monkeypatch.setattr("mlflow.MlflowClient.log_artifact", refuse)
    said: list[str] = []
    store_leftovers(output, None, said.append)
    assert said == [
        "MLflow: files are not taken for now, and wait: OSError: no space left",
        f"MLflow: 1 writes to MLflow wait in {folder / SPOOL_FILE}; the same command tries them again",
    ]


def test_a_server_that_is_away_at_the_start_is_named_with_the_reason(output: Path) -> None:
    queue(output)
    before = (output / STUDY / SPOOL_FILE).read_bytes()
    tracker, client = tracker_of_a_watched_store(output, EXPERIMENT, as_server=True)
    client.before = a_server_that_answers_500_to(
        "search_runs", "log_inputs", "create_run", "search_experiments"
    )
    with pytest.raises(ConfigError, match=r"that an earlier start left in .*: .* does not answer: Mlflow"):
        tracker.keep_in(output / STUDY, 0.3)
    assert tracker.problems[-1].endswith("the same command stores them when the server is back")
    assert (output / STUDY / SPOOL_FILE).read_bytes() == before


def test_a_refused_permission_is_not_final(output: Path) -> None:
    from mlflow.exceptions import RestException

    def refuse(name: str) -> None:
        if name == "log_batch":
            raise RestException({"error_code": "PERMISSION_DENIED", "message": "the token has expired"})

    tracker, client = tracker_of_a_watched_store(output, EXPERIMENT)
    with tracker:
        tracker.keep_in(output / STUDY)
        run = tracker.study(STUDY, {}, {})
        client.before = refuse
        tracker.log(run, {"fid": 3.0}, 100)
        assert tracker.flush()
    assert "the token has expired" in tracker.problems[0]
    store_leftovers(output, None, lambda line: None)
    assert stored(output)[0].points == {"fid": [(100, 3.0)]}
