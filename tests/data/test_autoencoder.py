"""Cached latents: what is stored, going on after a kill, and the way back to images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Dataset, DataSpec, data_info, load_data
from curriculum_ray.data.autoencoder import decode_latents, load_autoencoder
from curriculum_ray.data.latent_cache import cache_latents
from tests.data.stand_ins import make_autoencoder

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_autoencoder(tmp_path_factory.mktemp("vae"))


@pytest.fixture(scope="module")
def images() -> Dataset:
    shapes = load_data(DataSpec(name="shapes"))
    assert shapes.condition is not None
    return Dataset("shapes", shapes.items[:20].clone(), shapes.condition[:20], shapes.class_names)


def test_latents_are_the_scaled_means_and_load_as_data(tmp_path: Path, folder: Path, images: Dataset) -> None:
    vae = load_autoencoder(folder)
    cache_latents(images, vae, tmp_path, shard_size=8, std=True)
    spec = DataSpec(name=str(tmp_path), format="latents", vae=str(folder))
    data = load_data(spec)
    assert data.shape == (4, 8, 8)
    expected = vae.encode(images.items).latent_dist.mean * vae.config.scaling_factor
    assert torch.allclose(data.items, expected, atol=1e-5)
    assert images.condition is not None
    assert data.condition is not None
    assert torch.equal(data.condition, images.condition)
    assert data_info(spec.model_copy(update={"stream": True})).count == 20
    assert decode_latents(spec, data.items[:2]).shape == (2, 3, 16, 16)


def test_finished_shards_are_kept_after_a_kill(tmp_path: Path, folder: Path, images: Dataset) -> None:
    vae = load_autoencoder(folder)

    def killed(number: int) -> None:
        if number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache_latents(images, vae, tmp_path, shard_size=8, on_shard=killed)
    with pytest.raises(ConfigError, match=r"latents\.json must describe cached latents"):
        load_data(DataSpec(name=str(tmp_path), format="latents"))
    again: list[int] = []
    cache_latents(images, vae, tmp_path, shard_size=8, on_shard=again.append)
    assert again == [2]
    assert len(load_data(DataSpec(name=str(tmp_path), format="latents"))) == 20
    with pytest.raises(ConfigError, match="holds latents with other settings"):
        cache_latents(images, vae, tmp_path, shard_size=4)


def test_the_condition_is_part_of_what_a_folder_holds(tmp_path: Path, folder: Path, images: Dataset) -> None:
    """Labels that were corrected, or classes that came later, must never meet shards with the old ones."""
    vae = load_autoencoder(folder)
    assert images.condition is not None
    plain = Dataset("shapes", images.items)
    corrected = dataclasses.replace(images, condition=(images.condition + 1) % 6)
    renamed = dataclasses.replace(images, class_names=("disc", *images.class_names[1:]))
    for number, (first, second) in enumerate([(images, corrected), (images, renamed), (plain, images)]):
        output = tmp_path / str(number)
        cache_latents(first, vae, output, shard_size=8)
        with pytest.raises(ConfigError, match=r"holds latents with other labels or captions$"):
            cache_latents(second, vae, output, shard_size=8)
        kept = load_data(DataSpec(name=str(output), format="latents"))
        assert kept.class_names == first.class_names


@pytest.mark.parametrize("size", [0, 5, 300, -1])
def test_a_shard_that_is_not_whole_is_written_anew(
    size: int, tmp_path: Path, folder: Path, images: Dataset
) -> None:
    vae = load_autoencoder(folder)
    cache_latents(images, vae, tmp_path, shard_size=8)
    shard = tmp_path / "latents-00001.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:size])
    again: list[int] = []
    cache_latents(images, vae, tmp_path, shard_size=8, on_shard=again.append)
    assert again == [1]
    assert shard.read_bytes() == whole


def test_latents_are_not_described_while_a_shard_is_written_anew(
    tmp_path: Path, folder: Path, images: Dataset
) -> None:
    vae = load_autoencoder(folder)
    cache_latents(images, vae, tmp_path, shard_size=8)
    (tmp_path / "latents-00001.safetensors").unlink()

    def killed(number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache_latents(images, vae, tmp_path, shard_size=8, on_shard=killed)
    assert not (tmp_path / "latents.json").exists()


def test_a_folder_whose_plan_is_broken_or_gone_is_refused_in_one_line(
    tmp_path: Path, folder: Path, images: Dataset
) -> None:
    vae = load_autoencoder(folder)
    cache_latents(images, vae, tmp_path, shard_size=8)
    note = tmp_path / "plan.json"
    for content in ('{"images": ', "[1]", "3"):
        note.write_text(content)
        with pytest.raises(ConfigError, match=r"plan\.json must say which latents --output holds") as error:
            cache_latents(images, vae, tmp_path, shard_size=8)
        assert "\n" not in str(error.value)
    note.unlink()
    with pytest.raises(ConfigError, match=r"holds shards without the plan\.json"):
        cache_latents(images, vae, tmp_path, shard_size=8)


def test_grey_images_are_repeated_but_others_need_an_autoencoder_of_their_channels(
    tmp_path: Path, folder: Path, images: Dataset
) -> None:
    grey = Dataset("grey", images.items[:2, :1])
    cache_latents(grey, load_autoencoder(folder), tmp_path / "grey")
    assert load_data(DataSpec(name=str(tmp_path / "grey"), format="latents")).shape == (4, 8, 8)
    reads_grey = load_autoencoder(make_autoencoder(tmp_path / "vae", channels=1))
    with pytest.raises(ConfigError, match="takes images of 1 channels, but those of shapes have 3"):
        cache_latents(images, reads_grey, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_embeddings_are_kept_as_one_encoder_makes_them_on_any_machine_but_no_others(
    tmp_path: Path, folder: Path, images: Dataset
) -> None:
    vae = load_autoencoder(folder)
    vectors = torch.randn(20, 5, 3, generator=torch.Generator().manual_seed(0))
    vectors[:, 3:] = 0
    other = vectors.clone()
    other[9, :3] = vectors[10, :3]
    again: list[int] = []
    for condition, written in ((vectors, [0, 1, 2]), (vectors * (1 + 1e-4), []), (other, [1])):
        again.clear()
        cache_latents(
            Dataset("shapes", images.items, condition),
            vae,
            tmp_path,
            shard_size=8,
            on_shard=again.append,
        )
        assert again == written
    found = load_data(DataSpec(name=str(tmp_path), format="latents")).condition
    assert found is not None
    torch.testing.assert_close(found, other, atol=1e-3, rtol=1e-3)
    assert (found[:, 3:] == 0).all()


def test_pickled_weights_are_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    torch.save({}, tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(ConfigError, match="does not hold an AutoencoderKL in safetensors"):
        load_autoencoder(tmp_path)


@pytest.mark.parametrize("settings", [{"image_size": 8}, {"corrupt": "skip"}])
def test_settings_of_images_do_not_apply_to_latents(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="for images, not for latents"):
        DataSpec(name="x", format="latents", **settings)


@pytest.mark.gpu
def test_latents_and_images_of_a_gpu_are_those_of_a_cpu(
    cuda: torch.device, tmp_path: Path, folder: Path, images: Dataset
) -> None:
    tensors, decoded = [], []
    for device in (cuda, torch.device("cpu")):
        output = tmp_path / device.type
        cache_latents(images, load_autoencoder(folder), output, shard_size=8, device=device)
        spec = DataSpec(name=str(output), format="latents", vae=str(folder))
        tensors.append(load_data(spec).items)
        decoded.append(decode_latents(spec, tensors[-1], device=device))
    # cuDNN rounds products to TF32 unless it is told not to.
    torch.testing.assert_close(tensors[0], tensors[1], rtol=1e-2, atol=1e-2)
    assert decoded[0].device.type == "cpu"
    assert (decoded[0].int() - decoded[1].int()).abs().max() <= 3
