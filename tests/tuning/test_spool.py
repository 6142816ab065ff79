"""What MLflow does not take yet waits on disk: a kill of the driver loses nothing and repeats nothing."""

import json
from pathlib import Path

import pytest

from curriculum_ray.config import ConfigError
from tests.tuning.studies import record, write_trial
from tuning.tracking import Tracker
from tuning.tracking.spool import SPOOL_FILE, Spool, Write
from tuning.tracking.writer import Away

EXPERIMENT = "digits/ddpm"


def numbers(writes: list[Write]) -> list[int]:
    return [write.data for write in writes]


def test_writes_come_out_in_their_order_and_the_file_is_emptied_with_the_last(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s")
    for number in range(3):
        spool.put(Write("log", "run", number))
    writes, count = spool.take()
    spool.put(Write("log", "run", 3))
    assert numbers(writes) == [0, 1, 2]
    spool.done(count)
    assert len(spool) == 1
    assert numbers(spool.take()[0]) == [3]
    spool.done(1)
    assert (tmp_path / "s").stat().st_size == 0
    spool.close()
    assert not (tmp_path / "s").exists()


def test_what_a_killed_process_left_is_handed_out_again_without_its_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "s"
    left = Spool(path)
    for number in range(3):
        left.put(Write("log", "run", number))
    with open(path, "ab") as file:
        file.write(b'["log", "run"')
    again = Spool(path)
    again.put(Write("log", "run", 3))
    assert numbers(again.take()[0]) == [0, 1, 2, 3]


def test_memory_holds_a_batch_however_long_the_queue_is(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s")
    for number in range(2500):
        spool.put(Write("log", "run", number))
    seen: list[int] = []
    while len(spool):
        writes, count = spool.take()
        assert len(writes) <= 1000
        seen += numbers(writes)
        spool.done(count)
    assert seen == list(range(2500))


def test_a_nameless_queue_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spool = Spool()
    spool.put(Write("log", "run", {"ü": [1.5, None]}))
    assert spool.take()[0] == [Write("log", "run", {"ü": [1.5, None]})]
    assert not list(tmp_path.iterdir())


def _killed(tracker: Tracker) -> None:
    """End a tracker as kill -9 does: nothing is said, nothing is stored any more."""
    tracker._writer._abandon.set()
    tracker._writer._thread.join()


def test_a_driver_killed_while_the_store_is_away_loses_no_write(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "study"
    first = Tracker.open(None, output, EXPERIMENT)
    first.keep_in(folder)
    study = first.study("a", {}, {"fingerprint": "f"})
    half = first.trial(study, "half", "half", {}, {})
    first.log(half, {"loss": 1.0}, 100)
    assert first.flush()

    def away(write: Write) -> None:
        raise Away

    monkeypatch.setattr(first._writer, "_apply", away)
    first.log(half, {"loss": 0.5}, 200)
    write_trial(first, study, record(7.0, key="best"), tmp_path / "files")
    assert not first.flush(0.3)
    _killed(first)
    with Tracker.open(None, output, EXPERIMENT) as second:
        second.keep_in(folder)
        study = second.study("a", {}, {"fingerprint": "f"})
        assert second.has_ended(study, "best", "FINISHED")
        half = second.trial(study, "half", "half", {}, {})
        for images, loss in ((100, 1.0), (200, 0.5), (300, 0.25)):
            second.log(half, {"loss": loss}, images)
        second.flush()
        client = second.store.client
        points = client.get_metric_history(second.run_id(half), "loss")
        runs = client.search_runs([second._experiment_id], "tags.`curriculum_ray.kind` = 'trial'")
    assert [(point.step, point.value) for point in points] == [(100, 1.0), (200, 0.5), (300, 0.25)]
    assert len(runs) == 2
    assert not second.problems
    assert not (folder / SPOOL_FILE).exists()


def test_what_was_stored_but_not_yet_forgotten_is_not_stored_twice(output: Path, tmp_path: Path) -> None:
    with Tracker.open(None, output, EXPERIMENT) as first:
        study = first.study("a", {}, {})
        run = first.trial(study, "t", "t", {}, {"role": "searched"})
        kept: list[Write] = []
        put = first._writer.put
        first._writer.put = lambda write: (kept.append(write), put(write))[1]  # type: ignore[method-assign]
        run = first.trial(study, "t", "t", {}, {"role": "searched"})
        first.log(run, {"fid": 3.0}, 100)
        first.finish(run, "FINISHED")
    lines = [json.dumps([write.kind, write.run, write.data]) + "\n" for write in kept]
    (tmp_path / SPOOL_FILE).write_text("".join(lines))
    with Tracker.open(None, output, EXPERIMENT) as second:
        second.keep_in(tmp_path)
        runs = second.store.client.search_runs(
            [second._experiment_id], "tags.`curriculum_ray.kind` = 'trial'"
        )
        assert len(runs) == 1
        points = second.store.client.get_metric_history(runs[0].info.run_id, "fid")
    assert len(points) == 1


def test_a_store_that_does_not_take_the_old_writes_is_one_line(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spool(tmp_path / SPOOL_FILE).put(Write("log", "run", []))

    def away(self: Tracker, write: Write) -> None:
        raise Away

    with Tracker.open(None, output, EXPERIMENT) as tracker:
        monkeypatch.setattr(Tracker, "_apply", away)
        with pytest.raises(ConfigError, match="does not take the 1 writes that an earlier start left"):
            tracker.keep_in(tmp_path, 0.3)
    assert len(Spool(tmp_path / SPOOL_FILE)) == 1
