"""Networks conditioned on stored embeddings: training, evaluation and samples, with or without an encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Conditioning, Dataset, DataSpec, load_data
from curriculum_ray.data.autoencoder import load_autoencoder
from curriculum_ray.data.embeddings import EMBEDDINGS_FILE
from curriculum_ray.data.latent_cache import cache_latents
from curriculum_ray.data.prompts import condition_from_prompts
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.loop import train
from curriculum_ray.training.trainer import Trainer
from tests.data.stand_ins import WIDTH, make_autoencoder, stand_in_for_transformers
from tuning.cli import main

COUNT, LENGTH = 20, 4
MODELS: dict[str, dict[str, Any]] = {
    "unet": {"base_channels": 8},
    "dit": {"kind": "dit", "depth": 1, "width": 16, "heads": 2, "patch": 2},
}


def vectors() -> torch.Tensor:
    """Captions of 1 to 4 tokens."""
    values = torch.randn(COUNT, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))
    for row in range(COUNT):
        values[row, 1 + row % LENGTH :] = 0
    return values


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("data")
    images = torch.rand(COUNT, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    vae = load_autoencoder(make_autoencoder(folder / "vae"))
    cache_latents(Dataset("noise", images, vectors()), vae, folder / "latents", shard_size=8)
    return {"name": str(folder / "latents"), "format": "latents", "conditioning": "text"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("images")
    for row in range(COUNT):
        Image.effect_noise((16, 16), 50).convert("RGB").save(root / f"{row:02}.png")
    tensors = {f"{row:02}.png": values[: 1 + row % LENGTH].clone() for row, values in enumerate(vectors())}
    save_file(tensors, root / EMBEDDINGS_FILE)
    return {"name": str(root), "image_size": 16, "conditioning": "text"}


def trained(place: Path, data: dict[str, Any], model: str) -> tuple[Trainer, str]:
    """A network after a few steps, and the path of its checkpoint."""
    config = TrainConfig.model_validate(
        {"data": data, "model": MODELS[model], "batch_size": 4, "images": 16, "window": 1}
    )
    trainer = Trainer(config, load_data(config.data))
    assert train(trainer)
    # A network's last layers start at zero: the condition has no effect until they change.
    for name, parameter in trainer.parameters.items():
        parameter.data.add_(
            0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
        )
    return trainer, str(checkpoints.write(place / "checkpoint-run-000000000016", trainer.checkpoint()))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    printed = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, printed.out, printed.err


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["latents", "folder"])
def test_networks_train_are_scored_and_sampled_without_an_encoder(
    kind: str,
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    trainer, checkpoint = trained(tmp_path, request.getfixturevalue(kind), model)
    assert trainer.conditioning == Conditioning("embedding", WIDTH, LENGTH)
    x, level = torch.randn(2, *trainer.data.shape), torch.full((2,), 500.0)
    network = trainer.model.eval()
    with torch.no_grad():
        first, second, nothing = (
            network(x, level, condition) for condition in (*vectors()[:4].split(2), None)
        )
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, nothing)
    few = ["--checkpoint", checkpoint, "--num-samples", "4"]
    code, out, err = run(capsys, "sample", *few, "--steps", "2", "--output", str(tmp_path), "--json")
    assert code == 0, err
    assert Path(json.loads(out)["path"]).exists()
    extractor = "raw" if kind == "latents" else "random-cnn"
    settings = ["--set", "steps=2", "--set", f"extractor={extractor}"]
    code, out, err = run(capsys, "evaluate", *few[:-1], "64", *settings, "--json")
    assert code == 0, err
    assert json.loads(out)["metrics"]["kid"] is not None


@pytest.mark.parametrize("kind", ["latents", "folder"])
def test_a_caption_needs_the_encoder_of_the_embeddings(
    kind: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    data = request.getfixturevalue(kind)
    asked = stand_in_for_transformers(monkeypatch)
    options = ["--num-samples", "2", "--steps", "2", "--caption", "a red dog", "--guidance", "2"]
    _, checkpoint = trained(tmp_path / "without", data, "unet")
    code, _, err = run(capsys, "sample", "--checkpoint", checkpoint, "--output", str(tmp_path), *options)
    assert (code, err.count("\n")) == (2, 1)
    assert "--caption needs the text encoder of the data's embeddings" in err
    (tmp_path / "encoder").mkdir()
    data = {**data, "text_encoder": str(tmp_path / "encoder")}
    _, checkpoint = trained(tmp_path / "with", data, "unet")
    assert not asked
    code, _, err = run(capsys, "sample", "--checkpoint", checkpoint, "--output", str(tmp_path), *options)
    assert code == 0, err
    assert asked


def test_guidance_towards_no_caption_is_refused(
    folder: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, checkpoint = trained(tmp_path, folder, "dit")
    code, _, err = run(
        capsys, "sample", "--checkpoint", checkpoint, "--output", str(tmp_path), "--guidance", "2"
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "--guidance needs --caption" in err


def test_an_encoder_that_did_not_make_the_embeddings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("diffusers")
    stand_in_for_transformers(monkeypatch)
    for name in ("encoder", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text(name)
    output, encoder, other = tmp_path / "latents", str(tmp_path / "encoder"), str(tmp_path / "other")
    vae = load_autoencoder(make_autoencoder(tmp_path / "vae"))
    cache_latents(Dataset("grey", torch.zeros(2, 1, 8, 8), vectors()[:2]), vae, output, text_encoder=encoder)
    settings = {"name": str(output), "format": "latents", "conditioning": "text"}
    conditioning = Conditioning("embedding", WIDTH, 4)
    same = condition_from_prompts(["a red dog"], DataSpec(**settings, text_encoder=encoder), conditioning, ())
    assert same[0, :, 0].tolist() == [2, 2, 4, 4]
    with pytest.raises(ConfigError, match="is not the encoder that embedded the captions"):
        condition_from_prompts(["a red dog"], DataSpec(**settings, text_encoder=other), conditioning, ())
    plain = DataSpec(name=str(tmp_path), conditioning="text", text_encoder=other)
    with pytest.raises(ConfigError, match=f"must give vectors of width 7, .* gives {WIDTH}"):
        condition_from_prompts(["a red dog"], plain, Conditioning("embedding", 7, 4), ())
