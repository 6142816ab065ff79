"""DINOv2 from a local folder: the features of transformers behind Pillow's resize, and no other folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import Dataset
from curriculum_ray.evaluation import EvaluationSpec, prepare
from curriculum_ray.evaluation.dinov2 import load_dinov2

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real architecture with few and random weights."""
    path = tmp_path_factory.mktemp("dinov2")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.Dinov2Config(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=14
        )
        transformers.Dinov2Model(config).save_pretrained(path)
    return path


def images(count: int, channels: int = 3) -> Tensor:
    """Smooth pictures of 40x30."""
    coarse = torch.rand(count, channels, 5, 4, generator=torch.Generator().manual_seed(1))
    return (torch.nn.functional.interpolate(coarse, (40, 30), mode="bilinear") * 255).to(torch.uint8)


def protocol(folder: Path, **more: Any) -> EvaluationSpec:
    return EvaluationSpec(extractor="dinov2", weights=str(folder), num_samples=20, **more)


def test_features_are_those_of_transformers_after_pillows_resize(folder: Path) -> None:
    ours, _ = load_dinov2(folder, None)
    given = images(3)
    resized = [
        Image.fromarray(image.permute(1, 2, 0).numpy()).resize((224, 224), Image.Resampling.BICUBIC)
        for image in given
    ]
    # As the published models' preprocessor_config.json has it.
    processor = transformers.BitImageProcessorPil(
        do_resize=False,
        do_center_crop=False,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    pixels = processor([np.asarray(image) for image in resized], return_tensors="pt").pixel_values
    theirs = transformers.Dinov2Model.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = theirs(pixel_values=pixels).last_hidden_state[:, 0]
        found = ours(given)
    # Pillow rounds after each of two passes.
    assert (found - expected).abs().mean() < 0.03 * expected.std(0).mean()


def test_it_scores_images_and_names_its_weights_in_the_protocol(folder: Path) -> None:
    evaluator = prepare(protocol(folder), Dataset("pictures", images(20)))
    network, sha256 = load_dinov2(folder, None)
    assert evaluator.protocol["weights"] == sha256
    assert evaluator.score(images(20))["fid"] < evaluator.score(255 - images(20))["fid"]
    grey = images(1, channels=1)
    with torch.no_grad():
        assert network(grey).equal(network(grey.expand(-1, 3, -1, -1)))


def test_another_folder_or_hash_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    data = Dataset("pictures", images(24))
    with pytest.raises(ConfigError, match=f"must have the SHA-256 {'0' * 64}, but has"):
        prepare(protocol(folder, sha256="0" * 64), data)
    with pytest.raises(ConfigError, match="is not a folder"):
        prepare(protocol(tmp_path / "gone"), data)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ConfigError, match="does not hold a DINOv2: its model_type is vit") as error:
        prepare(protocol(tmp_path), data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_weights_that_were_saved_in_half_precision_compute_in_full(
    folder: Path, tmp_path: Path, kind: torch.dtype
) -> None:
    transformers.Dinov2Model.from_pretrained(folder).to(kind).save_pretrained(tmp_path)
    network, _ = load_dinov2(tmp_path, None)
    assert network(images(2)).dtype == torch.float32


def test_a_folder_that_lacks_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    whole = load_file(folder / "model.safetensors")
    whole.pop("embeddings.cls_token")
    save_file(whole, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ConfigError, match=r"lack embeddings\.cls_token$"):
        load_dinov2(tmp_path, None)


def test_weights_that_are_cut_off_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ConfigError, match=r"does not hold a DINOv2: .* not fully covered") as error:
        prepare(protocol(tmp_path), Dataset("pictures", images(24)))
    assert "\n" not in str(error.value)


def test_the_extractor_needs_its_folder() -> None:
    with pytest.raises(ConfigError, match="dinov2 needs weights"):
        parse(EvaluationSpec, {"extractor": "dinov2"}, "evaluation")
