"""What MLflow does not take yet waits on disk: a kill of the driver loses nothing and repeats nothing."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from curriculum_ray.config import ConfigError
from tests.tuning.studies import record, write_trial
from tuning.folder.layout import ADDRESS_FILE, DATABASE_FILE, SPOOL_FILE
from tuning.folder.lock import held
from tuning.tracking import Tracker, open_store
from tuning.tracking.leftovers import store_leftovers
from tuning.tracking.spool import Spool, Write, writes_in
from tuning.tracking.writer import Away, Writer, merged

EXPERIMENT = "digits/ddpm"
GOOD = json.dumps(["log", "h", [["loss", 1.0, 1, 64]]]).encode() + b"\n"


def numbers(writes: list[Write]) -> list[int]:
    return [write.data for write in writes]


def test_writes_come_out_in_their_order_and_the_file_is_emptied_with_the_last(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s")
    for number in range(3):
        spool.put(Write("log", "run", number))
    writes, _ = spool.take()
    spool.put(Write("log", "run", 3))
    assert numbers(writes) == [0, 1, 2]
    for write in writes:
        spool.done(write)
    assert len(spool) == 1
    (last,), _ = spool.take()
    assert last.data == 3
    spool.done(last)
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


def test_after_a_kill_only_what_was_not_stored_is_handed_out_again(tmp_path: Path) -> None:
    killed = Spool(tmp_path / "s")
    for number in range(4):
        killed.put(Write("log", f"run {number % 2}", [number]))
    odd = next(write for write in merged(killed.take()[0]) if write.run == "run 1")
    assert odd.data == [1, 3]
    killed.done(odd)
    assert numbers(Spool(tmp_path / "s").take()[0]) == [[0], [2]]


def test_what_is_set_aside_stays_for_the_next_process_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(b"\n" + GOOD)  # with a damaged line, which has no room for a mark
    spool = Spool(path)
    for number in range(2):
        spool.put(Write("log", "run", number))
    aside, *others = spool.take()[0]
    spool.set_aside(aside)
    assert (len(spool), spool.left) == (2, 3)
    for write in others:
        spool.done(write)
    assert writes_in(path) == 2, "the one that is set aside, and the damaged line"
    assert (len(spool), spool.left, spool.take()) == (0, 1, ([], 0))
    spool.close()
    again = Spool(path)
    (left,), _ = again.take()
    assert left == aside
    again.done(left)
    again.close()
    assert not path.exists()


def test_memory_holds_a_batch_however_long_the_queue_is(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s")
    for number in range(2500):
        spool.put(Write("log", "run", number))
    seen: list[int] = []
    while len(spool):
        writes, damaged = spool.take()
        assert len(writes) <= 1000
        assert not damaged
        seen += numbers(writes)
        for write in writes:
            spool.done(write)
    assert seen == list(range(2500))


@pytest.mark.parametrize(
    "line",
    [
        b"\0" * 200 + b"\n",
        b"garb{age\n",
        b"\n",
        b"{}\n",
        b"3\n",
        b'["log", "h"]\n',
        b'["log", 3, []]\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_damaged_line_costs_that_line_and_is_said(tmp_path: Path, line: bytes) -> None:
    (tmp_path / SPOOL_FILE).write_bytes(GOOD + line + GOOD)
    got: list[Write] = []
    writer = Writer(got.append, tmp_path / SPOOL_FILE)
    assert writer.flush(30)
    assert [point for write in got for point in write.data] == [["loss", 1.0, 1, 64]] * 2
    assert len(writer.problems) == 1
    assert "1 damaged lines" in writer.problems[0]
    writer.close(10)


def test_zeros_before_a_sound_line_cost_nothing(tmp_path: Path) -> None:
    (tmp_path / SPOOL_FILE).write_bytes(b"\0" * 50 + GOOD)
    assert len(Spool(tmp_path / SPOOL_FILE).take()[0]) == 1


@pytest.mark.parametrize(
    "data", ["[[1, 2]]", '[["loss", "x", 1, 64]]', "5", '{"a": 1}', '[["loss", true, 1, 64]]']
)
def test_a_damaged_metric_costs_itself_alone(output: Path, tmp_path: Path, data: str) -> None:
    with Tracker.open(None, output, EXPERIMENT) as first:
        run = first.train("a", {}, {})
    lines = [f'["log", "{run}", [["loss", {value}, 1, {value}]]]\n' for value in (1.0, 2.0)]
    lines = [line.replace(".0]", "]") for line in lines]
    (tmp_path / SPOOL_FILE).write_text(lines[0] + f'["log", "{run}", {data}]\n' + lines[1])
    with Tracker.open(None, output, EXPERIMENT) as second:
        second.keep_in(tmp_path)
        points = second.store.client.get_metric_history(second.run_id(second.train("a", {}, {})), "loss")
        assert second.problems
    assert [point.value for point in points] == [1.0, 2.0]


def test_a_queue_from_elsewhere_stores_no_file_of_this_user(output: Path, tmp_path: Path) -> None:
    secret = tmp_path / "id_rsa"
    secret.write_text("private")
    folder = tmp_path / "downloaded"
    folder.mkdir()
    with Tracker.open(None, output, EXPERIMENT) as first:
        run = first.train("a", {}, {})
    (folder / "link").symlink_to(secret)
    files = json.dumps(["store_files", run, [[str(secret), str(folder / "link")], None]])
    (folder / SPOOL_FILE).write_text(files + "\n")
    with Tracker.open(None, output, EXPERIMENT) as second:
        second.keep_in(folder)
    assert "lies outside" in second.problems[0]
    assert not [path for path in output.rglob("*") if path.name in ("id_rsa", "link")]


def _left_behind(output: Path, *writes: tuple[str, Any]) -> Path:
    """The folder of a run whose driver left these writes, (kind, data) each, in its queue."""
    folder = output / "run"
    first = Tracker.open(None, output, EXPERIMENT)
    first.keep_in(folder)
    run = first.train("a", {}, {})
    first.close()
    (folder / SPOOL_FILE).write_text("".join(json.dumps([kind, run, data]) + "\n" for kind, data in writes))
    return folder


def test_whoever_finds_a_queue_stores_it(output: Path) -> None:
    folder = _left_behind(output, ("log", [["loss", 0.5, 1, 64]]), ("end", ["FINISHED", 1, 64, {}]))
    said: list[str] = []
    with held(folder):
        store_leftovers(output, None, said.append)
    assert not said, "its driver is at work"
    store_leftovers(output, None, said.append)
    assert said == [f"stored in MLflow what an earlier start had left in {folder / SPOOL_FILE}"]
    assert not (folder / SPOOL_FILE).exists()
    with Tracker.open(None, output, EXPERIMENT) as again:
        assert again.is_finished(again.train("a", {}, {}))


def test_a_long_queue_is_announced_before_it_is_stored(output: Path) -> None:
    folder = _left_behind(output, *(("log", [["loss", 0.5, 1, images]]) for images in range(100)))
    said: list[str] = []
    store_leftovers(output, None, said.append)
    assert said[0] == f"storing in MLflow 100 writes that an earlier start left in {folder / SPOOL_FILE}"
    assert len(said) == 2


def test_a_queue_for_another_server_waits_and_is_said(output: Path) -> None:
    folder = output / "run"
    folder.mkdir(parents=True)
    (folder / SPOOL_FILE).write_bytes(GOOD)
    (folder / ADDRESS_FILE).write_text(json.dumps({"experiment": EXPERIMENT, "store": "http://far:5000"}))
    with Tracker.open(None, output, EXPERIMENT):
        pass
    said: list[str] = []
    store_leftovers(output, None, said.append)
    assert len(said) == 1
    assert "http://far:5000" in said[0]
    assert (folder / SPOOL_FILE).read_bytes() == GOOD


def test_a_nameless_queue_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spool = Spool()
    spool.put(Write("log", "run", {"ü": [1.5, None]}))
    assert spool.take()[0] == [Write("log", "run", {"ü": [1.5, None]})]
    assert not list(tmp_path.iterdir())


_FULL_DISK = """
import json, resource, sys, threading
from pathlib import Path
from tuning.tracking.writer import Away, Write, Writer

def room(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

def apply(write):
    if not back.is_set():
        raise Away
    stored.append(write.data)

path, back, stored = Path(sys.argv[1]), threading.Event(), []
writer = Writer(apply, path)
writer.put(Write("end", "run", 0))
room(path.stat().st_size + 10)
for number in (1, 2):
    writer.put(Write("end", "run", number))
left = len(writer), path.stat().st_size
writer.put(Write("end", "run", "x" * 100))
back.set()
flushed = writer.flush(30)
room(resource.RLIM_INFINITY)
writer.put(Write("end", "run", 3))
writer.close(30)
print(json.dumps([left, flushed, stored, writer.problems, path.exists()]))
"""


def test_a_full_disk_costs_the_writes_that_it_refuses_and_no_other(tmp_path: Path) -> None:
    """Here a limit to the size of files refuses them, half of each line being taken."""
    path = tmp_path / "s"
    ran = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(path)], capture_output=True, text=True, timeout=300, check=True
    )
    size = len(json.dumps(["end", "run", 0])) + 1
    lost = f"a write to MLflow (end) was lost: {os.strerror(errno.EFBIG)}"
    assert json.loads(ran.stdout) == [[1, size], True, [0, 3], [lost] * 3, False]


@pytest.mark.parametrize("cut", [True, False])
def test_what_a_disk_left_of_a_refused_line_is_cut_off_or_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    usual = os.pwrite

    class Full:
        """The file of the queue on a full disk, which shortens a file or cannot do that either."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def truncate(self, size: int) -> None:
            if not cut:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self._file.truncate(size)

    def half(file: int, content: bytes, place: int) -> int:
        if len(content) < 60:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return usual(file, content[:60], place)

    path = tmp_path / "s"
    spool = Spool(path)
    spool.put(Write("log", "run", 0))
    end = path.stat().st_size
    with monkeypatch.context() as patched:
        patched.setattr(spool, "_file", Full(spool._file))
        patched.setattr(os, "pwrite", half)
        with pytest.raises(OSError, match="No space left"):
            spool.put(Write("log", "run", "x" * 70))
    assert path.stat().st_size == end + (0 if cut else 60)
    for number in (1, 2):
        spool.put(Write("log", "run", number))
    assert numbers(spool.take()[0]) == [0, 1, 2]
    assert numbers(Spool(path).take()[0]) == [0, 1, 2]


def test_a_queue_whose_file_cannot_be_closed_is_a_problem_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Spool) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Spool, "close", fails)
    writer = Writer(lambda write: None, tmp_path / "s")
    writer.close(10)
    assert writer.problems == ["the queue of writes to MLflow was not closed: Input/output error"]


def test_a_store_that_is_away_is_waited_for_where_the_disk_cannot_be_synchronised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.tracking.writer._FIRST_PAUSE_SECONDS", 0.001)
    stored, answers = [], iter([Away(), None])

    def apply(write: Write) -> None:
        if (answer := next(answers)) is not None:
            raise answer
        stored.append(write.data)

    def full(self: Spool) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Spool, "sync", full)
    writer = Writer(apply, tmp_path / "s")
    writer.put(Write("end", "run", 0))
    writer.close(30)
    assert (stored, writer.problems) == ([0], [])


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
    write_trial(first, study, record(7.0, key="search-000"), folder / "files")
    assert not first.flush(0.3)
    _killed(first)
    with Tracker.open(None, output, EXPERIMENT) as second:
        second.keep_in(folder)
        study = second.study("a", {}, {"fingerprint": "f"})
        assert second.has_ended(study, "search-000", "FINISHED")
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
        raise Away("the server is being repaired")

    with Tracker.open(None, output, EXPERIMENT) as tracker:
        monkeypatch.setattr(Tracker, "_apply", away)
        with pytest.raises(
            ConfigError, match="does not take the 1 writes that an earlier start left"
        ) as error:
            tracker.keep_in(tmp_path, 0.3)
    assert str(error.value).endswith(f"left in {tmp_path}: the server is being repaired")
    assert len(Spool(tmp_path / SPOOL_FILE)) == 1


def _away(output: Path) -> Path:
    """A second database, in no output folder of a study."""
    away = output.parent / "elsewhere.db"
    shutil.copy(output / DATABASE_FILE, away)
    return away


def _left_in(database: Path, output: Path) -> tuple[Path, str]:
    """The folder of a run in `output` whose driver left a write for this database, and the run's id."""
    folder = output / "run"
    with Tracker.open(f"sqlite:///{database}", output, EXPERIMENT) as first:
        first.keep_in(folder)
        run = first.train("a", {}, {})
        ident = first.run_id(run)
    assert ident is not None
    (folder / SPOOL_FILE).write_text(json.dumps(["log", run, [["loss", 0.5, 1, 64]]]) + "\n")
    return folder, ident


def _losses(database: Path, run: str) -> list[float]:
    client = open_store(f"sqlite:///{database}", database.parent, create=False).client
    return [point.value for point in client.get_metric_history(run, "loss")]


@pytest.mark.parametrize("named", [True, False])
def test_a_queue_for_a_database_elsewhere_is_stored_there(output: Path, named: bool) -> None:
    away = _away(output)
    folder, run = _left_in(away, output)
    assert json.loads((folder / ADDRESS_FILE).read_text())["store"] == f"sqlite:///{away}"
    store_leftovers(output, f"sqlite:///{away}" if named else None, lambda line: None)
    assert not (folder / SPOOL_FILE).exists()
    assert _losses(away, run) == [0.5]
    assert open_store(None, output, create=False).client.get_experiment_by_name(EXPERIMENT) is None


def test_a_queue_for_the_output_folder_goes_along_with_it(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run = _left_in(output / DATABASE_FILE, output)
    assert json.loads((folder / ADDRESS_FILE).read_text())["store"] is None
    moved = output.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    store_leftovers(Path("moved"), "sqlite:///moved/mlflow.db", lambda line: None)
    assert _losses(moved / DATABASE_FILE, run) == [0.5]


def test_a_queue_of_an_older_release_waits_where_another_database_is_named(output: Path) -> None:
    """They wrote null for any SQLite file."""
    away = _away(output)
    folder, run = _left_in(away, output)
    (folder / ADDRESS_FILE).write_text(json.dumps({"experiment": EXPERIMENT, "store": None}))
    said: list[str] = []
    store_leftovers(output, f"sqlite:///{away}", said.append)
    assert len(said) == 1
    assert f"or for sqlite:///{away}: start the study or run again" in said[0]
    with Tracker.open(f"sqlite:///{away}", output, EXPERIMENT) as again:
        again.keep_in(folder)
    assert _losses(away, run) == [0.5]


def test_a_queue_for_a_server_is_said_so_where_there_is_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / SPOOL_FILE).write_bytes(GOOD)
    kept = {"experiment": EXPERIMENT, "store": "http://far:5000"}
    (tmp_path / "run" / ADDRESS_FILE).write_text(json.dumps(kept))
    for uri in (None, "http://user:secret@near:5000"):
        said: list[str] = []
        store_leftovers(tmp_path, uri, said.append)
        (line,) = said
        assert line.endswith("they are for http://far:5000: name it by --mlflow-uri or MLFLOW_TRACKING_URI")
    assert not (tmp_path / DATABASE_FILE).exists()


@pytest.mark.parametrize("kept", [5, {}, "file:///tmp/store"])
def test_an_address_that_names_no_store_is_one_line(output: Path, kept: object) -> None:
    folder = output / "run"
    folder.mkdir()
    (folder / SPOOL_FILE).write_bytes(GOOD)
    (folder / ADDRESS_FILE).write_text(json.dumps({"experiment": EXPERIMENT, "store": kept}))
    said: list[str] = []
    store_leftovers(output, None, said.append)
    assert len(said) == 1
    assert said[0].startswith(f"writes to MLflow wait in {folder / SPOOL_FILE}: ")
