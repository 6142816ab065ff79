"""Streams: the same global order at any world size, after any jump, through Ray Data as without it."""

from __future__ import annotations

import io
import itertools
import tarfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from curriculum_ray.buckets.store import Bucket, BucketError
from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataSpec, data_info
from curriculum_ray.data.shard_copies import folder_of
from curriculum_ray.data.shard_rows import read_rows
from curriculum_ray.data.shards import scan
from curriculum_ray.data.stream import load_stream
from curriculum_ray.distributed import ingest
from curriculum_ray.distributed.ingest import (
    SharedItems,
    StreamedBatches,
    _Reader,
    share_stream,
    take_stream,
)
from curriculum_ray.distributed.outages import storage_error
from curriculum_ray.runs import prepared
from curriculum_ray.runs.config import RunConfig
from tests.data.streams import read_in_this_process
from tests.distributed.jobs import as_job, run_up_to

CPU = torch.device("cpu")


def encoded(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_parquet(folder: Path, groups: int = 3, rows: int = 5, broken: int | None = None) -> DataSpec:
    import pyarrow
    from pyarrow import parquet

    values = list(range(groups * rows))
    images = [b"no image" if value == broken else encoded(value % 256) for value in values]
    table = pyarrow.table({"image": images, "label": [value % 3 for value in values]})
    parquet.write_table(table, folder / "a.parquet", row_group_size=rows)
    return DataSpec(name=str(folder), format="parquet", image_size=8)


def stream(spec: DataSpec) -> StreamedBatches:
    return StreamedBatches(spec, scan(spec), seed=1)


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading in this process: what Ray Data runs, without Ray Data."""

    read_in_this_process(monkeypatch)


def values(batch: torch.Tensor) -> list[int]:
    return ((batch[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def test_the_face_of_a_stream_is_known_from_its_headers(tmp_path: Path) -> None:
    info = data_info(write_parquet(tmp_path))
    assert (info.count, info.shape, info.class_names) == (15, (3, 8, 8), ("0", "1", "2"))


@pytest.mark.usefixtures("without_ray")
def test_every_epoch_takes_each_image_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    source = stream(write_parquet(tmp_path))
    epochs = [values(source.next(start, 15, 0, 1, CPU)[0]) for start in (0, 15)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(15))
    assert epochs[0] != epochs[1]


@pytest.mark.usefixtures("without_ray")
def test_held_out_images_are_left_out_and_the_others_keep_their_order(tmp_path: Path) -> None:
    spec = write_parquet(tmp_path, groups=52)
    source, whole = stream(spec), stream(spec.model_copy(update={"holdout_share": 0}))
    found = scan(spec)
    held = {5 * unit + row for unit, rows in found.held_out.numbers.items() for row in rows}
    assert (len(held), source.count) == (26, 234)
    number = {(unit, row): 5 * unit + row for unit in range(52) for row in range(5)}
    for epoch in (0, 1):
        seen, every = (
            [number[task["unit"], row] for task in each._tasks(epoch, 0, 0, 1) for row in task["rows"]]
            for each in (source, whole)
        )
        assert seen == [value for value in every if value not in held]
    # Runs of a seed differ in their schedules only: they get equal batches.
    assert torch.equal(source.next(234, 6, 0, 1, CPU)[0], stream(spec).next(234, 6, 0, 1, CPU)[0])


@pytest.mark.usefixtures("without_ray")
def test_a_held_out_image_replaces_no_corrupt_one(tmp_path: Path) -> None:
    spec = write_parquet(tmp_path, groups=52).model_copy(update={"corrupt": "skip"})
    reserved = scan(spec).reserved
    held = {5 * unit + row for unit, rows in reserved.numbers.items() for row in rows}
    broken = next(value - 1 for value in sorted(held) if value > 4 and value % 5 and value - 1 not in held)
    write_parquet(tmp_path, groups=52, broken=broken)
    assert scan(spec).reserved == reserved
    source = stream(spec)
    seen = values(source.next(0, 234, 0, 1, CPU)[0])
    # The values of the first four images come again after 255.
    assert not {*seen} & {value for value in held if 4 <= value < 256}


def test_items_that_workers_share_are_those_of_the_driver(tmp_path: Path) -> None:
    info = load_stream(write_parquet(tmp_path, groups=52), 30).info
    for items in (info.heldout, info.reference):
        shared = SharedItems.of(items)
        assert items is not None
        assert shared is not None
        shared.stored.flags.writeable = False  # as those from Ray's object store are
        taken = shared.taken()
        assert taken.fingerprint == items.fingerprint
        assert taken.conditioning == items.conditioning
        assert taken.condition is not None
        assert items.condition is not None
        assert torch.equal(taken.condition, items.condition)
        assert taken.stored.data_ptr() == items.stored.data_ptr(), "without a copy"


@pytest.mark.usefixtures("without_ray")
def test_a_worker_trains_and_scores_on_what_it_was_given_and_scans_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {
        "data": write_parquet(tmp_path, groups=52).model_dump(exclude_none=True),
        "evaluation": {"extractor": "random-cnn", "num_samples": 20, "steps": 1},
        "preview": {"every_images": 32, "num_samples": 16},
        "heldout": {"levels": 2, "items": 4},
        "images": 64,
        "batch_size": 16,
        "window": 2,
        "log_every_images": 32,
        "checkpoint": {"every_images": 32},
        "model": {"base_channels": 8},
    }
    config = RunConfig.model_validate(settings)
    monkeypatch.setattr("ray.put", lambda found: found)
    monkeypatch.setattr("ray.get", lambda found: found)
    shared = share_stream(config)
    assert shared.found.info.heldout is None
    assert shared.found.info.reference is None
    for items in (shared.heldout, shared.reference):
        items.stored.flags.writeable = False
    prepared._streams.clear()  # as in a process of its own
    take_stream(shared)
    monkeypatch.setattr("curriculum_ray.data.load.scan", None)
    monkeypatch.setattr("curriculum_ray.data.stream.scan", None)
    whole, _ = run_up_to(as_job(tmp_path / "whole", "run", config).assigned(tmp_path / "whole/slot"), None)
    assert whole.metrics["fid"] > 0
    assert whole.protocol["reference_items"] == 20
    assert whole.heldout.held_out == 26
    run_up_to(as_job(tmp_path / "cut", "run", config).assigned(tmp_path / "cut/slot"), 32)
    resumed, _ = run_up_to(as_job(tmp_path / "cut", "run", config).assigned(tmp_path / "cut/slot"), None)
    assert resumed.resumed_at == 32
    assert (resumed.metrics, resumed.loss) == (whole.metrics, whole.loss)
    assert resumed.heldout.history == whole.heldout.history


@pytest.mark.usefixtures("without_ray")
def test_a_jump_and_two_workers_see_the_same_global_batches(tmp_path: Path) -> None:
    spec = write_parquet(tmp_path)
    straight = stream(spec)
    whole = [straight.next(start, 4, 0, 1, CPU) for start in range(0, 24, 4)]
    resumed, condition = stream(spec).next(16, 4, 0, 1, CPU)
    assert values(resumed) == values(whole[4][0])
    assert condition is not None
    assert condition.tolist() == [value % 3 for value in values(resumed)]
    shares = [stream(spec).next(16, 4, rank, 2, CPU)[0] for rank in range(2)]
    assert sorted(values(torch.cat(shares))) == sorted(values(resumed))


@pytest.mark.usefixtures("without_ray")
def test_the_plan_of_an_epoch_is_cut_and_its_order_is_that_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_parquet(tmp_path, groups=11)
    pipeline, plans = StreamedBatches._pipeline, list[list[dict[str, Any]]]()

    def noting(self: StreamedBatches, tasks: list[dict[str, Any]]) -> Any:
        plans.append(tasks)
        return pipeline(self, tasks)

    def read(start: int, rank: int, world_size: int) -> list[int]:
        source = stream(spec)
        return [
            value
            for images in range(start, 165, 5)
            for value in values(source.next(images, 5, rank, world_size, CPU)[0])
        ]

    places = [(0, 0, 1), (60, 0, 1), (60, 1, 2)]
    whole = [read(*place) for place in places]
    monkeypatch.setattr(StreamedBatches, "_pipeline", noting)
    for most in ((4, 1 << 22), (8_192, 7)):
        plans.clear()
        monkeypatch.setattr(ingest, "_MOST", most)
        assert [read(*place) for place in places] == whole
        assert max(map(len, plans)) <= min(4, most[0])
        assert all(sum(len(task["rows"]) for task in tasks[:-1]) < most[1] for tasks in plans)
        assert all(task["rows"].dtype == numpy.int64 for tasks in plans for task in tasks)


@pytest.mark.usefixtures("without_ray")
def test_of_small_data_many_epochs_are_planned_at_once_and_each_whole(tmp_path: Path) -> None:
    source = stream(write_parquet(tmp_path))
    plans = source._plans(0, 0, 1)
    for first in (0, 342):
        plan = next(plans)
        epochs = [task for epoch in range(first, first + 342) for task in source._tasks(epoch, 0, 0, 1)]
        assert [task["unit"] for task in plan] == [task["unit"] for task in epochs]
        assert len(plan) == 342 * 3, "the first whole epochs with 1,024 reads or more"


@pytest.mark.usefixtures("without_ray")
def test_a_corrupt_image_is_named_and_leaves_the_others_in_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = write_parquet(tmp_path, broken=7)
    with pytest.raises(ConfigError, match=r"cannot read a.parquet row 7 \(UnidentifiedImageError\)"):
        stream(spec).next(0, 15, 0, 1, CPU)
    skipping = stream(spec.model_copy(update={"corrupt": "skip"}))
    found = values(skipping.next(0, 15, 0, 1, CPU)[0])
    assert sorted(found) == sorted([8 if value == 7 else value for value in range(15)])
    assert "1 corrupt images skipped: a.parquet row 7" in caplog.text


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def test_tar_files_hold_images_labels_and_captions(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "a.tar",
        {
            "1.png": encoded(1),
            "1.txt": b"a red ring",
            "2.png": encoded(2),
            "2.json": b'{"caption": "a ring"}',
        },
    )
    spec = DataSpec(name=str(tmp_path), format="webdataset", image_size=8)
    found = scan(spec)
    assert found.info.vocabulary == ("<pad>", "a", "red", "ring")
    items, condition, _ = read_rows(spec, found.info, found.units[0], [1, 0])
    assert items[:, 0, 0, 0].tolist() == [2, 1]
    assert condition is not None
    assert condition.tolist() == [[1, 3, 0], [1, 2, 3]]


@pytest.mark.usefixtures("without_ray")
def test_a_corrupt_image_of_a_tar_file_is_named_by_its_sample(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_tar(
        tmp_path / "a.tar", {"cats/1.png": encoded(1), "cats/2.png": encoded(2)[:40], "3.png": encoded(3)}
    )
    spec = DataSpec(name=str(tmp_path), format="webdataset", image_size=8, corrupt="skip")
    source = stream(spec)
    found = [source.next(start, 3, 0, 1, CPU)[0] for start in (0, 3)]
    assert [sorted(values(batch)) for batch in found] == [[1, 3, 3]] * 2
    said = caplog.text
    assert said.count("1 corrupt images skipped: a.tar sample cats/2 (") == 1


@pytest.mark.parametrize("name", ["1.pkl", "1.pth", "1.image.pyd"])
def test_pickles_in_tar_files_are_refused(tmp_path: Path, name: str) -> None:
    write_tar(tmp_path / "a.tar", {"1.png": encoded(1), name: b""})
    with pytest.raises(ConfigError, match=f"but has {name}"):
        scan(DataSpec(name=str(tmp_path), format="webdataset"))


def test_large_images_are_sent_few_at_a_time_and_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_parquet(tmp_path, groups=1, rows=12)
    found = scan(spec)
    rows = [7, 3, 11, 0, 5]
    task = {"unit": [0], "rows": [numpy.array(rows)]}
    monkeypatch.setattr(ingest, "_CHUNK_BYTES", 2 * 3 * 8 * 8 + 1)
    sent = list(_Reader(spec, found.info, found.units)(task))
    assert [len(block["items"]) for block in sent] == [2, 2, 1]
    assert [int(item[0, 0, 0]) for block in sent for item in block["items"]] == rows


@pytest.mark.usefixtures("ray_of_two")
def test_ray_data_gives_the_order_that_is_documented_and_looks_at_its_readers_only_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    class Counted(ingest._Pause):
        def on_execution_step(self, executor: Any) -> None:
            looks.append(time.monotonic())
            super().on_execution_step(executor)

    monkeypatch.setattr(ingest, "_Pause", Counted)
    spec = write_parquet(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = stream(spec)
        streamed = [values(source.next(start, 6, 0, 1, CPU)[0]) for start in (0, 6, 12)]
    expected = []
    for epoch in (0, 1):
        for task in source._tasks(epoch, 0, 0, 1):
            expected += [source.units[task["unit"]].group * 5 + row for row in task["rows"]]
    assert [value for batch in streamed for value in batch] == expected[:18]
    assert len(looks) > 1
    assert all(after - before >= ingest._PAUSE_S for before, after in itertools.pairwise(looks))


@pytest.mark.usefixtures("ray_of_two")
def test_a_damaged_page_is_told_in_one_line_without_rays_story_even_where_images_are_skipped(
    tmp_path: Path,
) -> None:
    spec = write_parquet(tmp_path, groups=1)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[4:40] = bytes(36)
    (tmp_path / "a.parquet").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ConfigError, match=r"a\.parquet row group 0 cannot be read as Parquet:") as error:
            stream(spec.model_copy(update={"corrupt": "skip"})).next(0, 5, 0, 1, CPU)
    assert "\n" not in str(error.value)
    assert "attempts" not in str(error.value)


@pytest.mark.usefixtures("ray_of_two")
def test_a_bucket_that_is_away_while_a_reader_reads_is_no_error_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(_Reader):
        """Reads what the driver found in a bucket that does not answer any more."""

        def __init__(self, spec: DataSpec, info: Any, units: Any, reserved: Any) -> None:
            there = spec.model_copy(update={"name": "memory://lab/set"})
            moved = [replace(unit, path=str(folder_of(there.name) / "a.parquet")) for unit in units]
            super().__init__(there, info, moved, reserved)

            def stamp(self: Bucket, name: str) -> None:
                raise BucketError(f"{self.shown(name)} was not read: its server does not answer", "")

            Bucket.stamp = stamp  # type: ignore[method-assign, assignment]

    monkeypatch.setattr(ingest, "_Reader", Away)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(BucketError) as error:
            stream(write_parquet(tmp_path)).next(0, 5, 0, 1, CPU)
    assert str(error.value) == "memory://lab/set/a.parquet was not read: its server does not answer"
    assert storage_error(error.value) is error.value
