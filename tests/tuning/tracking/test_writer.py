"""What is written while the MLflow store is away, or refuses it."""

import threading

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
