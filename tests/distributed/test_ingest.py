"""Streams: the same global order at any world size, after any jump, through Ray Data as without it."""

from __future__ import annotations

import io
import tarfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataSpec, data_info
from curriculum_ray.data.shards import read_rows, scan
from curriculum_ray.distributed.ingest import StreamedBatches, _Reader

CPU = torch.device("cpu")


def encoded(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_parquet(folder: Path, groups: int = 3, rows: int = 5, broken: int | None = None) -> DataSpec:
    import pyarrow
    from pyarrow import parquet

    values = list(range(groups * rows))
    images = [b"no image" if value == broken else encoded(value) for value in values]
    table = pyarrow.table({"image": images, "label": [value % 3 for value in values]})
    parquet.write_table(table, folder / "a.parquet", row_group_size=rows)
    return DataSpec(name=str(folder), format="parquet", image_size=8)


def stream(spec: DataSpec) -> StreamedBatches:
    found = scan(spec)
    return StreamedBatches(spec, found.info, list(found.units), seed=1)


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading in this process: what Ray Data runs, without Ray Data."""

    def pipeline(self: StreamedBatches, tasks: list[dict[str, Any]]) -> Any:
        reader = _Reader(self.spec, self.info, self.units)
        for task in tasks:
            yield from reader({key: [value] for key, value in task.items()})

    monkeypatch.setattr(StreamedBatches, "_pipeline", pipeline)


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


@pytest.mark.usefixtures("ray_of_two")
def test_ray_data_gives_the_order_that_is_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
