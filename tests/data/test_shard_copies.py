"""Shards at an address are read as those of a folder are: copied once, renewed when they change, by any process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from curriculum_ray.buckets.copy import STAGE_VARIABLE
from curriculum_ray.buckets.store import Bucket
from curriculum_ray.config import ConfigError
from curriculum_ray.data import Dataset, DataSpec, load_data
from curriculum_ray.data.autoencoder import load_autoencoder
from curriculum_ray.data.content import describe_content
from curriculum_ray.data.latent_cache import cache_latents
from curriculum_ray.data.shard_copies import copy_here, folder_of
from curriculum_ray.data.shard_rows import read_rows
from curriculum_ray.data.shards import scan
from curriculum_ray.data.stream import load_stream
from tests.buckets.places import bucket_in_memory, failing
from tests.data.stand_ins import make_autoencoder
from tests.data.test_latents import write as write_latents
from tests.data.test_shards import image, write_parquet, write_tars


@pytest.fixture(autouse=True)
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of copies."""
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "stage"))
    return tmp_path / "stage"


def _put(folder: Path) -> Bucket:
    """A bucket with the files of `folder`, in a folder of the same name."""
    bucket = bucket_in_memory() / "data"
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            bucket.write(f"{folder.name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return bucket / folder.name


def _at(bucket: Bucket, spec: DataSpec) -> DataSpec:
    return DataSpec.model_validate({**spec.model_dump(), "name": bucket.shown()})


def _read(spec: DataSpec) -> list[tuple[torch.Tensor, torch.Tensor | None, list[str]]]:
    found = scan(spec)
    return [read_rows(spec, found.info, unit, range(unit.rows)) for unit in found.units]


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_a_scan_finds_what_it_finds_in_a_folder(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "birds"
    folder.mkdir()
    if form == "parquet":
        labels = {"train-0": [0, 1], "train-1": [1, 2], "test-0": [0]}
        spec = write_parquet(folder, **{shard: {"label": each} for shard, each in labels.items()})
    else:
        ends = {"png": image(), "cls": b"1"}
        shards = {"a": (0, 1, 2), "b": (0, 5)}
        spec = write_tars(
            folder,
            **{
                shard: {f"{number}.{end}": content for number in numbers for end, content in ends.items()}
                for shard, numbers in shards.items()
            },
        )
    (folder / "b.tar.part").write_bytes(b"half")
    there = _at(_put(folder), spec)
    here, found = scan(spec), scan(there)
    assert describe_content(there, found.info) == describe_content(spec, here.info)
    assert found.info.summary is not None
    assert here.info.summary is not None
    assert found.info.summary.left_out == here.info.summary.left_out
    assert (found.info.summary.split, found.info.summary.path) == (here.info.summary.split, there.name)
    for (items, condition, _), (others, other, _) in zip(_read(there), _read(spec), strict=True):
        assert torch.equal(items, others)
        assert condition is not None
        assert other is not None
        assert torch.equal(condition, other)


def test_a_shard_is_copied_once_and_again_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    spec = write_parquet(folder, a={"label": [0, 1]}, b={"label": [0, 1]})
    bucket = _put(folder)
    there = _at(bucket, spec)
    asked: list[str] = []
    usual = Bucket.download

    def download(self: Bucket, name: str, path: Path) -> bool:
        asked.append(name)
        return usual(self, name, path)

    monkeypatch.setattr(Bucket, "download", download)
    _read(there)
    assert sorted(asked) == ["a.parquet", "b.parquet"]
    write_parquet(folder, b={"label": [0, 1, 1], "note": ["longer", "than", "before"]})
    bucket.write("b.parquet", (folder / "b.parquet").read_bytes())
    assert sum(len(items) for items, _, _ in _read(there)) == 5
    assert sorted(asked) == ["a.parquet", "b.parquet", "b.parquet"]


def test_a_worker_whose_copies_lie_elsewhere_reads_the_shards_that_the_driver_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    spec = write_parquet(folder, a={"label": [0, 1]})
    there = _at(_put(folder), spec)
    found = scan(there)
    shutil.rmtree(tmp_path / "stage")
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "another"))
    items, _, _ = read_rows(there, found.info, found.units[0], [0])
    assert len(items) == 1
    assert list((tmp_path / "another").rglob("a.parquet"))
    assert not (tmp_path / "stage").exists()


def test_latents_are_read_in_memory_and_as_a_stream(tmp_path: Path) -> None:
    vae = load_autoencoder(make_autoencoder(tmp_path / "vae"))
    cache_latents(Dataset("noise", torch.rand(40, 3, 16, 16)), vae, tmp_path / "latents", shard_size=16)
    plain = DataSpec(name=str(tmp_path / "latents"), format="latents")
    there = _at(_put(tmp_path / "latents"), plain)
    assert torch.equal(load_data(there).stored, load_data(plain).stored)
    streamed = there.model_copy(update={"stream": True})
    assert (
        load_stream(streamed).info.count == load_stream(plain.model_copy(update={"stream": True})).info.count
    )
    Bucket(there.name).remove("latents-00001.safetensors")
    with pytest.raises(ConfigError, match=r"but memory://.*/latents has no latents-00001\.safetensors$"):
        scan(streamed)


def test_what_cannot_be_copied_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    spec = write_parquet(folder, a={"label": [0, 1]})
    bucket = _put(folder)
    there = _at(bucket, spec)
    empty = there.model_copy(update={"name": (bucket / "none").shown()})
    with pytest.raises(
        ConfigError,
        match=r"must be the address of a folder of \.parquet files, but 'memory://.*/none' has none$",
    ):
        scan(empty)
    with pytest.raises(
        ConfigError, match=r"^data\.name must hold b\.parquet, but memory://.*/set has no such file$"
    ):
        copy_here(there.name, str(folder_of(there.name) / "b.parquet"))
    usage = SimpleNamespace(free=10)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(
            ConfigError, match=rf"^a\.parquet of memory://.* does not fit .*: set {STAGE_VARIABLE} to"
        ):
            scan(there)
    failing(
        monkeypatch, lambda kind, path: kind == "read", "AWS Error ACCESS_DENIED during GetObject operation"
    )
    with pytest.raises(
        ConfigError, match=r"^data\.name: memory://.*/a\.parquet was not read: access is denied"
    ):
        scan(there)


@pytest.mark.parametrize("name", ["x/../../../evil.parquet", "x/./evil.parquet", "x//evil.parquet"])
def test_a_name_that_leads_out_of_the_folder_of_copies_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    spec = write_parquet(folder, a={"label": [0, 1]})
    bucket = _put(folder)
    bucket.write("evil.parquet", b"evil")
    names = {"a.parquet": (4, 1), name: (4, 1)}
    there = _at(bucket, spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bucket, "stamps", lambda self: names)
        with pytest.raises(
            ConfigError, match=r"no part that is empty, \. or \.\., but memory://.*/set has 'x/.*evil"
        ):
            scan(there)
    with pytest.raises(ConfigError, match=r"but memory://.*/set has 'x/.*evil"):
        copy_here(there.name, f"{folder_of(there.name)}/{name}")
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("name", ["", ".", "..", "../evil.safetensors"])
def test_latents_whose_shards_are_no_files_of_their_folder_are_refused(tmp_path: Path, name: str) -> None:
    spec = write_latents(tmp_path, [{}])
    path = tmp_path / "latents.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "shards": [[name, 2]]}))
    with pytest.raises(ConfigError, match="shards must be names of files in the same folder"):
        load_data(spec)


def test_a_shard_that_is_deleted_before_it_is_copied_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    spec = write_parquet(folder, a={"label": [0, 1]})
    there = _at(_put(folder), spec)
    monkeypatch.setattr(Bucket, "download", lambda self, name, path: False)
    with pytest.raises(
        ConfigError, match=r"^data\.name must hold a\.parquet until it is copied, but memory://.*/set has no"
    ):
        scan(there)


def test_an_image_folder_at_an_address_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.format must be parquet, webdataset or latents for"):
        DataSpec(name="s3://bucket/images", format="folder")
    assert DataSpec(name="s3://bucket/latents/", format="latents").name == "s3://bucket/latents"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("s3://bucket/birds?endpoint_override=http://host:1", "birds"),
        ("abfs://birds@account/cats", "cats"),
        ("abfs://birds@account", "account"),
    ],
)
def test_copies_lie_in_a_folder_of_the_name_of_their_data(address: str, name: str) -> None:
    assert folder_of(address).name == name
