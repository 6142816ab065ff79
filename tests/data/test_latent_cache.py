"""Latents of shards: equal to those of the same images in a folder, whoever encodes them, and wherever they go."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from curriculum_ray.buckets.copy import STAGE_VARIABLE
from curriculum_ray.buckets.place import LocalFolder, Place
from curriculum_ray.buckets.store import Bucket, BucketError
from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataSpec, load_data
from curriculum_ray.data.autoencoder import load_autoencoder
from curriculum_ray.data.image_source import InFolder, Part, images_of
from curriculum_ray.data.latent_cache import LatentCache, cache_latents
from curriculum_ray.data.latents import LatentsInfo
from tests.buckets.places import bucket_in_memory, failing
from tests.data.stand_ins import make_autoencoder
from tests.data.test_shards import write_parquet, write_tars

pytest.importorskip("diffusers")

COUNT = 11


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_autoencoder(make_autoencoder(tmp_path_factory.mktemp("vae")))


def _png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (20 * number, 7, 200 - 9 * number)).save(buffer, format="PNG")
    return buffer.getvalue()


def _folder(folder: Path) -> DataSpec:
    for number in range(COUNT):
        (folder / f"class{number % 2}").mkdir(parents=True, exist_ok=True)
        (folder / f"class{number % 2}" / f"{number:02d}.png").write_bytes(_png(number))
    return DataSpec(name=str(folder), image_size=8, holdout_share=0)


def _tars(folder: Path, broken: int | None = None) -> DataSpec:
    """The same images, of one class after the other, in two shards."""
    folder.mkdir()
    numbers = [*range(0, COUNT, 2), *range(1, COUNT, 2)]
    shards: dict[str, dict[str, bytes]] = {"a": {}, "b": {}}
    for place, number in enumerate(numbers):
        content = b"no image" if number == broken else _png(number)
        shards["a" if place < 4 else "b"] |= {
            f"{place:02d}.png": content,
            f"{place:02d}.cls": b"%d" % (number % 2),
        }
    return write_tars(folder, **shards).model_copy(update={"holdout_share": 0.0})


def _cached(spec: DataSpec, vae: Any, place: Place, size: int = 1, **more: Any) -> LatentsInfo:
    """Latents by `size` workers, each of which opens a cache of its own."""
    caches = [
        LatentCache(images=images_of(spec), vae=vae, place=place, shard_size=3, **more) for _ in range(size)
    ]
    caches[0].begin()
    return caches[0].end([shard for rank in range(size) for shard in caches[rank].encode(rank, size)])


def _loaded(folder: Path) -> tuple[torch.Tensor, list[int]]:
    data = load_data(DataSpec(name=str(folder), format="latents", holdout_share=0))
    assert data.condition is not None
    return data.stored, data.condition.tolist()


def test_latents_of_shards_are_those_of_the_same_images(tmp_path: Path, vae: Any) -> None:
    plain, shards = _folder(tmp_path / "images"), _tars(tmp_path / "shards")
    cache_latents(load_data(plain), vae, tmp_path / "one", shard_size=4)
    items, labels = _loaded(tmp_path / "one")
    for size in (1, 2, 3):
        into = tmp_path / f"by {size}"
        info = _cached(shards, vae, LocalFolder(into), size)
        assert (info.count, [rows for _, rows in info.shards]) == (COUNT, [3, 3, 3, 2])
        others, classes = _loaded(into)
        assert torch.allclose(others, items, atol=1e-6)
        assert classes == labels
    assert _files(tmp_path / "by 1") == _files(tmp_path / "by 3")


def _kohya(folder: Path) -> DataSpec:
    """Images with captions that come once or twice an epoch."""
    for number in range(COUNT):
        place = folder / ("2_cat" if number % 3 else "1_dog")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:02d}.png").write_bytes(_png(number))
        (place / f"{number:02d}.txt").write_text(f"a picture of {number}")
    return DataSpec(name=str(folder), image_size=8, holdout_share=0)


@pytest.mark.filterwarnings("ignore::curriculum_ray.data.DataWarning")
@pytest.mark.parametrize("make", [_folder, _kohya])
def test_a_folder_is_encoded_as_if_it_were_loaded_but_a_batch_at_a_time(
    make: Callable[[Path], DataSpec], tmp_path: Path, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make(tmp_path / "images")
    loaded = load_data(spec)
    whole = cache_latents(loaded, vae, tmp_path / "loaded", shard_size=3)
    read: list[int] = []

    def counting(self: InFolder, start: int, stop: int, really: Any = InFolder.read) -> Part:
        read.append(stop - start)
        return really(self, start, stop)

    monkeypatch.setattr(InFolder, "read", counting)
    for size in (1, 2):
        into = LocalFolder(tmp_path / f"by {size}")
        read.clear()
        assert _cached(spec, vae, into, size, batch_size=3) == whole
        assert (max(read), sum(read)) == (3, len(loaded))
        plan, wanted = _files(into.path), _files(tmp_path / "loaded")
        assert {**plan, "plan.json": b""} == {**wanted, "plan.json": b""}
    images = images_of(spec)
    assert (images.about.conditioning, len(images.about)) == (loaded.conditioning, len(loaded))
    part = images.read(2, 7)
    assert torch.equal(part.images, loaded.stored[2:7])
    assert loaded.condition is not None
    assert part.condition is not None
    assert torch.equal(part.condition, loaded.condition[2:7])


def test_another_image_in_a_folder_is_noticed(tmp_path: Path, vae: Any) -> None:
    spec = _folder(tmp_path / "images")
    into = LocalFolder(tmp_path / "latents")
    _cached(spec, vae, into)
    first = tmp_path / "images" / "class0" / "00.png"
    first.write_bytes(_png(3))
    with pytest.raises(ConfigError, match=r"holds latents with other images$"):
        _cached(spec, vae, into)
    first.write_bytes(_png(0))
    first.rename(first.with_name("99.png"))
    with pytest.raises(ConfigError, match=r"holds latents with other images$"):
        _cached(spec, vae, into)


def test_images_of_a_folder_that_break_off_are_refused_or_left_out(tmp_path: Path, vae: Any) -> None:
    spec = _folder(tmp_path / "images")
    large = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(large, format="PNG")
    broken = tmp_path / "images" / "class0" / "04.png"
    broken.write_bytes(large.getvalue()[:2000])
    with pytest.raises(ConfigError, match=r"must hold readable images, but cannot read class0/04\.png \("):
        _cached(spec, vae, LocalFolder(tmp_path / "refused"))
    skipping = spec.model_copy(update={"corrupt": "skip"})
    cache = LatentCache(
        images=images_of(skipping), vae=vae, place=LocalFolder(tmp_path / "kept"), shard_size=3
    )
    cache.begin()
    shards = cache.encode()
    info = cache.end(shards)
    assert [rows for _, rows in info.shards] == [2, 3, 3, 2]
    assert [shard.left_out for shard in shards] == [("class0/04.png (OSError)",), (), (), ()]
    items, labels = _loaded(tmp_path / "kept")
    broken.write_bytes(_png(4))
    _cached(spec, vae, LocalFolder(tmp_path / "all"))
    every, classes = _loaded(tmp_path / "all")
    assert torch.allclose(items, torch.cat([every[:2], every[3:]]), atol=1e-6)
    assert labels == classes[:2] + classes[3:]


def test_a_shard_of_which_no_image_can_be_read_is_refused(tmp_path: Path, vae: Any) -> None:
    spec = _tars(tmp_path / "shards", broken=4).model_copy(update={"corrupt": "skip"})
    cache = LatentCache(images=images_of(spec), vae=vae, place=LocalFolder(tmp_path / "out"), shard_size=1)
    with pytest.raises(ConfigError, match=r"must hold readable images, but none of 2 \.\. 2 is$"):
        cache.encode()


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_latents_in_object_storage_are_read_from_there(
    tmp_path: Path, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STAGE_VARIABLE, str(tmp_path / "stage"))
    shards, bucket = _tars(tmp_path / "shards"), bucket_in_memory()
    into = Bucket(f"{bucket.shown()}/latents")
    _cached(shards, vae, LocalFolder(tmp_path / "latents"))
    _cached(shards, vae, into, size=2)
    assert {name: into.read(name) for name in into.sizes()} == _files(tmp_path / "latents")
    there = load_data(DataSpec(name=into.shown(), format="latents", holdout_share=0))
    assert torch.equal(there.stored, _loaded(tmp_path / "latents")[0])


def test_an_interrupted_cache_goes_on(tmp_path: Path, vae: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shards, bucket = _tars(tmp_path / "shards"), bucket_in_memory()
    whole = _cached(shards, vae, bucket)
    bucket.write("latents-00001.safetensors", b"torn")
    bucket.remove("latents.json")
    again: list[int] = []
    cache = LatentCache(images=images_of(shards), vae=vae, place=bucket, shard_size=3)
    cache.begin()
    assert cache.end(cache.encode(on_shard=again.append)) == whole
    assert again == [1]
    with pytest.raises(ConfigError, match=r"^--output memory://.* holds latents with other settings$"):
        _cached(shards, vae, bucket, std=True)
    with monkeypatch.context() as patched:
        failing(patched, lambda kind, path: kind == "read" and path.endswith("tensors"))
        with pytest.raises(
            ConfigError, match=r"^--output memory://.* cannot be read: .*00000.safetensors was not read: 503$"
        ):
            _cached(shards, vae, bucket)
    failing(monkeypatch, lambda kind, path: kind == "write", "AWS Error ACCESS_DENIED during PutObject")
    bucket.remove("latents-00002.safetensors")
    with pytest.raises(ConfigError, match=r"^--output memory://.* cannot be written: .*access is denied"):
        _cached(shards, vae, bucket)


def test_shards_that_cannot_be_listed_at_the_end_are_one_line(
    tmp_path: Path, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Bucket) -> dict[str, int]:
        raise BucketError(f"{self.shown()} was not listed: 503", "503")

    cache = LatentCache(
        images=images_of(_tars(tmp_path / "shards")), vae=vae, place=bucket_in_memory(), shard_size=3
    )
    cache.begin()
    shards = cache.encode()
    monkeypatch.setattr(Bucket, "sizes", fails)
    with pytest.raises(ConfigError, match=r"^--output memory://.* cannot be read: .* was not listed: 503$"):
        cache.end(shards)


def test_corrupt_images_of_shards_are_refused_or_left_out(tmp_path: Path, vae: Any) -> None:
    broken = _tars(tmp_path / "shards", broken=4)
    with pytest.raises(ConfigError, match=r"must hold readable images, but cannot read a\.tar sample 02"):
        _cached(broken, vae, LocalFolder(tmp_path / "refused"))
    skipping = broken.model_copy(update={"corrupt": "skip"})
    info = _cached(skipping, vae, LocalFolder(tmp_path / "left out"))
    assert [rows for _, rows in info.shards] == [2, 3, 3, 2]
    kept, labels = _loaded(tmp_path / "left out")
    whole = _tars(tmp_path / "whole")
    _cached(whole, vae, LocalFolder(tmp_path / "all"))
    every, classes = _loaded(tmp_path / "all")
    assert torch.allclose(kept, torch.cat([every[:2], every[3:]]), atol=1e-6)
    assert labels == classes[:2] + classes[3:]
    assert _cached(skipping, vae, LocalFolder(tmp_path / "left out")) == info


def _parquet(folder: Path) -> DataSpec:
    """Images and labels under two names each."""
    folder.mkdir()
    numbers = range(COUNT)
    images = [_png(number) for number in numbers]
    columns = {"image": images, "other": images[::-1]}
    columns |= {"label": [number % 2 for number in numbers], "kind": [number // 6 for number in numbers]}
    parquet.write_table(pyarrow.table(columns), folder / "a.parquet")
    return DataSpec(name=str(folder), format="parquet", image_size=8, image_column="image", holdout_share=0.0)


@pytest.mark.parametrize(
    "settings", [{"image_size": 16}, {"channels": 1}, {"image_column": "other"}, {"label_column": "kind"}]
)
def test_latents_of_shards_that_were_read_with_other_settings_are_refused(
    tmp_path: Path, vae: Any, settings: dict[str, Any]
) -> None:
    spec, into = _parquet(tmp_path / "shards"), LocalFolder(tmp_path / "latents")
    _cached(spec, vae, into)
    before = _files(into.path)
    with pytest.raises(ConfigError, match=r"latents holds latents with other settings$"):
        _cached(spec.model_copy(update=settings), vae, into)
    assert _files(into.path) == before


def test_shards_may_be_skipped_or_refused_from_one_run_to_the_next(tmp_path: Path, vae: Any) -> None:
    broken, into = _tars(tmp_path / "shards", broken=4), LocalFolder(tmp_path / "latents")
    skipping = broken.model_copy(update={"corrupt": "skip"})
    fewer = _cached(skipping, vae, into)
    with pytest.raises(ConfigError, match=r"must hold readable images, but cannot read a\.tar sample 02"):
        _cached(broken, vae, into)
    assert (into.path / "latents.json").exists(), "a rerun that is refused leaves what was finished"
    assert _cached(skipping, vae, into) == fewer


def test_a_shard_that_a_worker_wrote_elsewhere_is_missed(tmp_path: Path, vae: Any) -> None:
    shards = _tars(tmp_path / "shards")
    here, there = LocalFolder(tmp_path / "here"), LocalFolder(tmp_path / "there")
    mine, other = (
        LatentCache(images=images_of(shards), vae=vae, place=place, shard_size=3) for place in (here, there)
    )
    mine.begin()
    with pytest.raises(ConfigError, match=r"^--output must be a folder that all nodes see, .*latents-00001"):
        mine.end(mine.encode(0, 2) + other.encode(1, 2))
    assert not (tmp_path / "here" / "latents.json").exists()


def test_grey_parquet_images_without_labels_have_no_condition(tmp_path: Path, vae: Any) -> None:
    (tmp_path / "grey").mkdir()
    spec = write_parquet(tmp_path / "grey", a={"width": [8] * 5})
    grey = spec.model_copy(update={"channels": 1, "holdout_share": 0.0})
    info = _cached(grey, vae, LocalFolder(tmp_path / "latents"))
    assert (info.count, info.shape, info.conditioning.kind) == (5, (4, 4, 4), "none")
