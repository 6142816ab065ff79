"""`tune cache-latents`: what it stores of classes and captions, and what it refuses in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from curriculum_ray.data import Conditioning, DataSpec, data_info, load_data
from curriculum_ray.data.text_encoder import encode_captions
from tests.data.stand_ins import WIDTH, make_autoencoder, stand_in_for_transformers
from tuning.cli import main

pytest.importorskip("diffusers")

CAPTIONS = {"a.png": "one red dog", "b.png": "", "c.png": "a cat"}


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_autoencoder(tmp_path_factory.mktemp("vae"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(CAPTIONS):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(folder / name)
    (folder / "captions.json").write_text(json.dumps(CAPTIONS))
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    """Exit code, output and errors of `cache-latents`."""
    with pytest.raises(SystemExit) as ended:
        main(["cache-latents", "--image-size", "8", *map(str, arguments)])
    printed = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, printed.out, printed.err


def test_captions_are_stored_as_words_where_there_is_no_encoder(
    images: Path, vae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "latents"
    code, out, err = run(capsys, "--data", images, "--vae", vae, "--output", output)
    assert code == 0, err
    assert "3 latents of 4x4x4 with captions of 3 tokens from 6" in out
    latents = load_data(DataSpec(name=str(output), format="latents"))
    plain = load_data(DataSpec(name=str(images), image_size=8))
    assert latents.vocabulary == plain.vocabulary == ("<pad>", "a", "cat", "dog", "one", "red")
    assert latents.condition is not None
    assert plain.condition is not None
    assert torch.equal(latents.condition, plain.condition)


def test_an_encoder_reads_the_captions_once_and_training_does_without_it(
    images: Path,
    vae: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = stand_in_for_transformers(monkeypatch)
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "model.safetensors").write_bytes(b"weights")
    output = tmp_path / "latents"
    settings = ["--set", "data.conditioning=text", "--set", f"data.text_encoder={encoder}"]
    arguments = ["--data", images, "--vae", vae, "--output", output, "--shard-size", 2, *settings]
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    assert len(json.loads(out)["text_encoder_sha256"]) == 64
    expected = encode_captions(encoder, list(CAPTIONS.values()))
    asked.clear()
    spec = DataSpec(name=str(output), format="latents", conditioning="text")
    latents = load_data(spec)
    assert data_info(spec.model_copy(update={"stream": True})).conditioning == latents.conditioning
    assert latents.conditioning == Conditioning("embedding", WIDTH, 4)
    assert latents.condition is not None
    assert torch.equal(latents.condition, expected)
    assert not asked
    (encoder / "model.safetensors").write_bytes(b"other weights")
    code, _, err = run(capsys, *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert "holds latents with other text encoder" in err


def test_images_that_are_left_out_are_counted_and_one_is_named(
    images: Path, vae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = Image.effect_noise((64, 64), 90)
    noise.save(images / "c.png")
    (images / "c.png").write_bytes((images / "c.png").read_bytes()[:2000])
    output = tmp_path / "latents"
    arguments = ["--data", images, "--vae", vae, "--output", output]
    code, _, err = run(capsys, *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot read c.png" in err
    code, out, err = run(capsys, *arguments, "--corrupt", "skip", "--json")
    assert code == 0, err
    assert "left out: 1 corrupt image, e.g. c.png (OSError)" in err
    assert (json.loads(out)["left_out"], json.loads(out)["shards"][0][1]) == (1, 2)
    code, _, err = run(capsys, *arguments, "--corrupt", "skip")
    assert code == 0
    assert "left out: 1 corrupt image\n" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "data.flip=true"], "data.flip and data.crop are for training on images"),
        (["--set", "model=unet"], "model is not a known key"),
        (["--set", "data.text_encoder=x"], "it needs data.conditioning text"),
        (["--vae", "a\nb"], "--vae: a path must have only printable characters"),
    ],
)
def test_settings_that_do_not_apply_are_refused_in_one_line(
    arguments: list[str],
    words: str,
    images: Path,
    vae: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = run(capsys, "--data", images, "--vae", vae, "--output", tmp_path / "latents", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert words in err


def test_a_gpu_that_is_not_there_is_refused_in_one_line(
    images: Path,
    vae: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, err = run(capsys, "--data", images, "--vae", vae, "--output", tmp_path / "latents", "--use-gpu")
    assert (code, err.count("\n")) == (2, 1)
    assert "--use-gpu needs a GPU" in err
