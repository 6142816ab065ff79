"""Corrupt images that a run skipped: all ranks' names are in its result, wherever their folders lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from curriculum_ray.distributed.job import run_job
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.written import gather_corrupt, note_corrupt, read_corrupt
from curriculum_ray.training.exchange import Alone, StoreExchange
from curriculum_ray.training.world import World
from tests.data.streams import read_in_this_process
from tests.data.test_shards import image, write_parquet
from tests.distributed.jobs import SMALL, as_job
from tests.training.test_exchange import ranks


def test_rank_0_lists_what_ranks_on_other_nodes_noted_in_this_run(tmp_path: Path) -> None:
    earlier = tmp_path / "1" / "corrupt_images.txt"
    earlier.parent.mkdir()
    earlier.write_text("of an earlier run\n")
    noted = [["a", "b"], ["b", "c"], []]

    def work(exchange: StoreExchange, rank: int) -> list[str]:
        folder = tmp_path / str(rank)
        note_corrupt(folder, noted[rank])
        for _ in range(2):
            gather_corrupt(folder, exchange)
        return read_corrupt(folder)

    assert ranks(3, work)[0] == ["a", "b", "c"]


def test_a_run_without_corrupt_images_has_no_list(tmp_path: Path) -> None:
    gather_corrupt(tmp_path / "run", Alone())
    assert not (tmp_path / "run").exists()


class _OtherNode(Alone):
    """A rank on another node, which has met one more corrupt image."""

    def gather(self, value: bytes) -> list[bytes] | None:
        return [value, b'["9.parquet row 9"]'] if value.startswith(b"[") else [value, value]


def test_the_result_of_a_stream_has_those_of_all_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_in_this_process(monkeypatch)
    (tmp_path / "shards").mkdir()
    broken = [image()] * 15 + [b"no image"]
    spec = write_parquet(tmp_path / "shards", a={"label": [0, 1] * 8, "image": broken})
    data = {**spec.model_dump(), "corrupt": "skip"}
    config = RunConfig.model_validate({**SMALL, "data": data, "images": 16 * 12})
    folder = tmp_path / "runs" / "run"
    job = as_job(folder.parent, "run", config).assigned(folder)
    result = run_job(job, World(exchange=_OtherNode()), lambda progress: False, lambda path, metrics: None)
    assert result is not None
    assert result.corrupt_images == ("9.parquet row 9", "a.parquet row 15 (UnidentifiedImageError)")
    assert sorted(read_corrupt(folder)) == list(result.corrupt_images)
