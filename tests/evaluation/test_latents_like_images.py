"""Latents of as many channels as images are latents: not clipped, not made bytes, decoded as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from curriculum_ray.config import parse
from curriculum_ray.data import Dataset, DataSpec, LatentShape, data_info, is_image, load_data
from curriculum_ray.data.inspection import describe
from curriculum_ray.data.latents import LatentsInfo
from curriculum_ray.data.stream import load_stream
from curriculum_ray.diffusion import DDPMSpec, build_process
from curriculum_ray.evaluation import EvaluationSpec, prepare
from curriculum_ray.evaluation.counting import Counting, ReferenceSpec
from curriculum_ray.evaluation.sampling import draw_samples
from curriculum_ray.evaluation.trained import load_trained
from curriculum_ray.evaluation.visited import never_visited
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.trainer import Trainer

RAW = EvaluationSpec(num_samples=16, steps=2, extractor="raw")
X0 = build_process(DDPMSpec(num_timesteps=10, prediction="x0"))


class Threes(nn.Module):
    """Knows that every value of the data is 3."""

    def forward(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        return torch.full_like(x, 3.0)


def latents(folder: Path, channels: int) -> DataSpec:
    """Twenty latents of 3.0."""
    folder.mkdir()
    save_file({"latents": torch.full((20, channels, 8, 8), 3.0)}, folder / "0.safetensors")
    info = LatentsInfo(LatentShape((channels, 8, 8)), 1.0, 0.0, (("0.safetensors", 20),))
    (folder / "latents.json").write_text(json.dumps(info.as_json()))
    return DataSpec(name=str(folder), format="latents", holdout_share=0.0)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_samples_of_a_perfect_network_are_the_latents(tmp_path: Path, channels: int) -> None:
    spec = latents(tmp_path / "latents", channels)
    data, shape = load_data(spec), data_info(spec).shape
    assert torch.equal(draw_samples(RAW, X0, Threes(), shape), data.items[:16])
    evaluator = prepare(RAW, data, X0, spec)
    metrics, shown = evaluator.evaluate(X0, Threes())
    assert torch.equal(shown, data.items[:16])
    assert metrics["fid"] == pytest.approx(0, abs=1e-6)
    _, examples = describe(spec, data, show=1)
    assert torch.equal(examples.items, data.items[:1])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_stream_and_a_reference_file_have_their_values(tmp_path: Path, channels: int) -> None:
    spec = latents(tmp_path / "latents", channels)
    stream = spec.model_copy(update={"stream": True, "holdout_share": None})
    info = load_stream(stream, 16).info
    evaluator = prepare(RAW, info, X0, stream)
    assert evaluator.evaluate(X0, Threes())[0]["fid"] == pytest.approx(0, abs=1e-6)
    counting = Counting(ReferenceSpec(data=spec, extractor="raw"))
    assert counting.count().tally.moments.mean.unique().tolist() == [3.0]


def test_the_protocol_tells_them_from_images_and_that_of_all_other_data_is_as_it_was(tmp_path: Path) -> None:
    protocols = {}
    for channels in (3, 4):
        spec = latents(tmp_path / str(channels), channels)
        protocols[channels] = prepare(RAW, load_data(spec), X0, spec).protocol
    images = prepare(RAW, Dataset("images", torch.full((20, 3, 8, 8), 3.0)), X0).protocol
    assert protocols[3].pop("drawn") == "latents"
    assert protocols[3].keys() == protocols[4].keys()
    assert protocols[4].keys() - images.keys() == {"start"}
    assert "drawn" not in images


def test_a_trained_model_and_the_export_know_them(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from curriculum_ray.export import export_diffusers

    spec = latents(tmp_path / "latents", 3)
    settings = {
        "data": spec.model_dump(),
        "model": {"kind": "dit", "size": "S/2", "depth": 1, "width": 16, "heads": 2},
        "process": {"prediction": "epsilon", "betas": "linear"},
        "batch_size": 4,
    }
    config = parse(TrainConfig, settings, "settings")
    data = load_data(spec)
    checkpoints.write(tmp_path / "checkpoint-run-000000000000", Trainer(config, data).checkpoint())
    trained = load_trained(tmp_path / "checkpoint-run-000000000000")
    assert trained.shape == (3, 8, 8)
    assert not is_image(trained.shape)
    assert never_visited(config, trained.shape) > 0.2
    export_diffusers(trained, tmp_path / "out")
    assert not json.loads((tmp_path / "out" / "model_index.json").read_text())["bounded"]
