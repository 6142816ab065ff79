"""Cached latents: what is stored, going on after a kill, and the way back to images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Dataset, DataSpec, data_info, load_data
from curriculum_ray.data.autoencoder import cache_latents, decode_latents, load_autoencoder

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
    )
    path = tmp_path_factory.mktemp("vae")
    vae.save_pretrained(path)
    return path


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

    def killed(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache_latents(images, vae, tmp_path, shard_size=8, on_shard=killed)
    with pytest.raises(ConfigError, match=r"latents\.json must describe cached latents"):
        load_data(DataSpec(name=str(tmp_path), format="latents"))
    again: list[int] = []
    cache_latents(images, vae, tmp_path, shard_size=8, on_shard=lambda done, total: again.append(done))
    assert again == [3]
    assert len(load_data(DataSpec(name=str(tmp_path), format="latents"))) == 20
    with pytest.raises(ConfigError, match="holds latents of other images, settings or weights"):
        cache_latents(images, vae, tmp_path, shard_size=4)


def test_pickled_weights_are_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    torch.save({}, tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(ConfigError, match="does not hold an AutoencoderKL in safetensors"):
        load_autoencoder(tmp_path)


@pytest.mark.parametrize("settings", [{"image_size": 8}, {"corrupt": "skip"}, {"conditioning": "text"}])
def test_settings_of_images_do_not_apply_to_latents(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="for images, not for latents"):
        DataSpec(name="x", format="latents", **settings)
