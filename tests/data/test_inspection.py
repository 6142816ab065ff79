"""A look at every image of shards: all are counted, only those that are shown are kept, and naming a row is cheap."""

from __future__ import annotations

import io
import weakref
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from curriculum_ray.data import DataInfo, DataSpec, data_info
from curriculum_ray.data import inspection as room
from curriculum_ray.data import parquet as parquet_room
from curriculum_ray.data.images import Square, to_square
from curriculum_ray.data.inspection import Examples, describe
from curriculum_ray.data.summary import DataSummary

ROWS, GROUP = 40, 4
BROKEN = (10, 11, 39)


def image(number: int) -> bytes:
    buffer = io.BytesIO()
    side = 8 if number % 2 else 12
    Image.new("RGB", (side, side), (number, 0, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def shards(tmp_path: Path) -> tuple[DataSpec, DataInfo]:
    cells = [b"?" if number in BROKEN else image(number) for number in range(ROWS)]
    table = pyarrow.table({"image": cells, "label": list(range(ROWS))})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=GROUP)
    spec = DataSpec(name=str(tmp_path), format="parquet", image_size=8)
    return spec, data_info(spec)


def shown(shards: tuple[DataSpec, DataInfo], most: int) -> tuple[DataSummary, Examples]:
    return describe(*shards, most, every=True)


def test_images_that_are_shown_are_evenly_spaced_and_an_unreadable_one_is_replaced_by_the_next(
    shards: tuple[DataSpec, DataInfo],
) -> None:
    summary, examples = shown(shards, 4)
    assert examples.items[:, 0, 0, 0].tolist() == [0, 12, 20, 30]
    assert examples.texts == ("0", "12", "20", "30")
    stats = summary.image_stats
    assert (stats.images, stats.sizes) == (37, {"12x12": 19, "8x8": 18})
    left = summary.left_out[-1]
    assert (left.count, left.example) == (3, "a.parquet row 10 (UnidentifiedImageError)")
    whole = [number for number in range(ROWS) if number not in BROKEN]
    assert shown(shards, 64)[1].items[:, 0, 0, 0].tolist() == whole
    assert shown(shards, 0)[0] == summary


def test_only_images_that_are_shown_are_kept(
    shards: tuple[DataSpec, DataInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Square]] = []
    alive: list[int] = []

    def counted(content: bytes, size: int) -> Square:
        square = to_square(content, size)
        made.append(weakref.ref(square))
        alive.append(sum(each() is not None for each in made))
        return square

    monkeypatch.setattr(room, "to_square", counted)
    shown(shards, 3)
    # Besides those three, the one that is read and the one before it.
    assert max(alive) <= 5
    assert len(made) == ROWS - len(BROKEN)


def test_rows_are_named_without_opening_their_file_for_each(
    shards: tuple[DataSpec, DataInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    open_file = parquet_room._open

    def counted(path: str) -> Any:
        opened.append(path)
        return open_file(path)

    monkeypatch.setattr(parquet_room, "_open", counted)
    shown(shards, 3)
    # A row group is opened to be read, and to count the rows before it.
    assert len(opened) == 2 * ROWS // GROUP
