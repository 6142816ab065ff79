"""What is written while the MLflow store is away, or refuses it."""

import threading
from types import SimpleNamespace

from tuning.tracking.writer import Away, Refused, Write, Writer, merged


def test_writes_wait_for_a_store_that_is_away_and_keep_their_order():
    away = threading.Event()
    away.set()
    stored = []

    def apply(write):
        if away.is_set():
            raise Away
        stored.append((write.kind, write.data))

    writer = Writer(apply)
    for number in range(3):
        writer.put(Write("log", "run", [number]))
    writer.put(Write("end", "run", None))
    assert not writer.flush(0.2)
    assert stored == []
    away.clear()
    assert writer.flush(10)
    writer.close(1)
    assert [number for kind, data in stored if kind == "log" for number in data] == [0, 1, 2]
    assert stored[-1][0] == "end"
    assert not writer.problems


def test_a_write_that_the_store_refuses_does_not_hold_up_the_next():
    stored = []

    def apply(write):
        if write.kind == "bad":
            raise Refused("never")
        stored.append(write.kind)

    writer = Writer(apply)
    writer.put(Write("bad", "run", None))
    writer.put(Write("good", "run", None))
    writer.close(10)
    assert stored == ["good"]
    assert writer.problems == ["never"]


def test_a_write_that_fails_for_ever_is_set_aside_with_its_reason_and_tried_by_the_next_process(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("tuning.tracking.writer._FIRST_PAUSE_SECONDS", 0.001)
    path, tried = tmp_path / "s", []

    def apply(write):
        tried.append((write.kind, write.run))
        if write.kind in broken:
            raise RuntimeError("HTTP 500")

    broken = {"store_files"}
    writer = Writer(apply, path)
    for run in range(6):
        writer.put(Write("store_files", str(run), None))
    writer.put(Write("end", "0", None))
    assert writer.flush(30)
    # Three times the first, once each of two more, and none of those that follow at once.
    assert [run for kind, run in tried if kind == "store_files"] == ["0", "0", "0", "1", "2"]
    assert tried[-1] == ("end", "0")
    writer.close(10)
    assert writer.problems == [
        "files are not taken for now, and wait: HTTP 500",
        f"6 writes to MLflow wait in {path}; the same command tries them again",
    ]
    broken.clear()
    tried.clear()
    again = Writer(apply, path)
    again.close(10)
    assert tried == [("store_files", str(run)) for run in range(6)]
    assert not again.problems
    assert not path.exists()


def test_what_follows_to_a_run_that_could_not_be_opened_waits_with_its_start(tmp_path, monkeypatch):
    monkeypatch.setattr("tuning.tracking.writer._FIRST_PAUSE_SECONDS", 0.001)
    path, stored, broken = tmp_path / "s", [], ["a"]

    def apply(write):
        if write.kind == "begin" and write.run in broken:
            raise RuntimeError("HTTP 500")
        stored.append((write.kind, write.run))

    lines = [Write(kind, run, []) for run in "ab" for kind in ("begin", "log", "end")]
    writer = Writer(apply, path)
    for line in lines:
        writer.put(line)
    writer.close(30)
    assert stored == [("begin", "b"), ("log", "b"), ("end", "b")]
    broken.clear()
    Writer(apply, path).close(30)
    assert stored[3:] == [("begin", "a"), ("log", "a"), ("end", "a")]


def test_a_flush_waits_as_long_as_something_moves(monkeypatch):
    """Five writes of 40 s each are flushed with a patience of 60 s."""
    clock, seen = [0.0], threading.Semaphore(0)

    def monotonic():
        if threading.current_thread() is threading.main_thread():
            seen.release()
        return clock[0]

    def apply(write):
        seen.acquire()  # each is stored after `flush` has seen the one before
        clock[0] += 40

    monkeypatch.setattr("tuning.tracking.writer.time", SimpleNamespace(monotonic=monotonic))
    writer = Writer(apply)
    seen.acquire(blocking=False)
    for number in range(5):
        writer.put(Write("end", str(number), None))
    assert writer.flush(60)
    assert clock == [200.0]
    writer.close(1)


def test_a_flush_gives_up_once_nothing_moves(monkeypatch):
    def apply(write):
        raise Away("it is down")

    writer = Writer(apply)
    writer.put(Write("end", "run", None))
    assert not writer.flush(0.2)
    assert writer.reason == "it is down"
    writer.close(0)
    assert writer.problems == ["1 writes to MLflow were not stored: it is down"]


def test_closing_while_the_store_is_away_ends_and_counts_what_is_lost():
    def apply(write):
        raise Away

    writer = Writer(apply)
    writer.put(Write("end", "run", None))
    writer.close(0.1)
    assert writer.problems == ["1 writes to MLflow were not stored"]


def test_metrics_join_across_runs_but_never_across_the_end_of_their_own():
    writes = [
        Write("begin", "a", None),
        Write("log", "a", [1]),
        Write("log", "b", [2]),
        Write("log", "a", [3]),
        Write("end", "a", None),
        Write("log", "a", [4]),
        Write("log", "b", [5]),
    ]
    assert [(write.kind, write.run, write.data) for write in merged(writes)] == [
        ("begin", "a", None),
        ("log", "a", [1, 3]),
        ("log", "b", [2, 5]),
        ("end", "a", None),
        ("log", "a", [4]),
    ]
