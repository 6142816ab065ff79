"""CLIP score from a local folder: that of transformers on the same pixels, of the captions of the samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import Conditioning, DataSpec, load_data, to_uint8
from curriculum_ray.diffusion import FlowSpec, build_process
from curriculum_ray.evaluation import EvaluationSpec, prepare
from curriculum_ray.evaluation.clip_score import ClipSpec, load_clip
from curriculum_ray.evaluation.sampling import Share, draw_condition
from curriculum_ray.evaluation.tally import Tally
from curriculum_ray.runs.config import RunConfig

transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SHAPES = DataSpec(name="shapes", image_size=16, conditioning="text")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real architecture, tokenizer and processor, with few and random weights and letters as words."""
    path = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    known = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = transformers.CLIPTokenizer(vocab={word: place for place, word in enumerate(known)}, merges=[])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = {**SIZES, "vocab_size": len(known), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
        vision = {**SIZES, "image_size": 32, "patch_size": 8}
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
        transformers.CLIPModel(config).save_pretrained(path)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    transformers.CLIPImageProcessor(**size).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


class Constant(nn.Module):
    """A velocity that depends on nothing but the place."""

    def __init__(self, conditioning: Conditioning) -> None:
        super().__init__()
        self.conditioning = conditioning

    def forward(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        return x - 0.5


def spec(folder: Path, **more: Any) -> EvaluationSpec:
    return EvaluationSpec.model_validate(
        {"clip_score": str(folder), "num_samples": 70, "steps": 1, "features": 0, **more}
    )


def test_cosines_are_those_of_transformers(folder: Path) -> None:
    texts = ["a red disc", "a long blue line", "a red disc"]
    images = to_uint8(load_data(SHAPES).stored[:3])
    found = load_clip(ClipSpec(path=str(folder))).similarities(images, texts, torch.device("cpu"))
    model = transformers.CLIPModel.from_pretrained(folder)
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    pixels = processor([image.permute(1, 2, 0).numpy() for image in images], return_tensors="pt").pixel_values
    words = transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = model(pixel_values=pixels, **words)
    expected = (out.image_embeds * out.text_embeds).sum(1)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_samples_are_scored_by_their_own_captions_on_any_number_of_ranks(folder: Path) -> None:
    data, process = load_data(SHAPES), build_process(FlowSpec())
    evaluator = prepare(spec(folder), data, process)
    assert evaluator.names[-1] == "clip_score"
    model = Constant(data.conditioning)
    alone, _ = evaluator.evaluate(process, model, data.conditioning)
    samples = evaluator.generate(process, model, data.conditioning)
    assert data.condition is not None
    captions = draw_condition(data.condition, 70, 0)
    texts = [
        "A photo depicts " + " ".join(data.vocabulary[word] for word in row if word)
        for row in captions.tolist()
    ]
    cosines = load_clip(ClipSpec(path=str(folder))).similarities(samples, texts, torch.device("cpu"))
    assert alone["clip_score"] == pytest.approx(2.5 * cosines.clamp(min=0).mean().item(), rel=1e-5)
    for size in (2, 3):
        parts = [
            evaluator.draw(process, model, data.conditioning, share=Share(rank, size)) for rank in range(size)
        ]
        read = [Tally.from_bytes(part.to_bytes()) for part in parts]
        assert evaluator.metrics(read) == pytest.approx(alone, rel=1e-6)
    with pytest.raises(ConfigError, match="needs a model that takes the captions"):
        evaluator.evaluate(process, model)


def test_the_weights_are_of_the_protocol_and_checked(folder: Path) -> None:
    data = load_data(SHAPES)
    scored, plain = prepare(spec(folder), data), prepare(spec(folder, clip_score=None), data)
    weights = load_clip(ClipSpec(path=str(folder))).weights
    assert scored.protocol["clip_score"]["weights"] == weights
    added = {"clip_score", "captions"}
    assert {key: value for key, value in scored.protocol.items() if key not in added} == plain.protocol
    given = {"path": str(folder), "sha256": weights}
    assert prepare(spec(folder, clip_score=given), data).fingerprint == scored.fingerprint
    with pytest.raises(ConfigError, match=r"evaluation\.clip_score\.path .* must have the SHA-256 0000"):
        prepare(spec(folder, clip_score={**given, "sha256": "0" * 64}), data)


def test_numbers_by_other_captions_of_the_same_images_never_compare(folder: Path) -> None:
    data = load_data(SHAPES)
    assert data.condition is not None
    turned = replace(data, condition=data.condition.roll(1, 0))
    renamed = replace(data, vocabulary=(*data.vocabulary[:-1], "other"))
    alike = replace(data, condition=data.condition.clone())
    scored = [prepare(spec(folder), one).fingerprint for one in (data, turned, renamed, alike)]
    assert scored[0] == scored[3]
    assert len(set(scored)) == 3
    plain = {prepare(spec(folder, clip_score=None), one).fingerprint for one in (data, turned, renamed)}
    assert len(plain) == 1


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"name": "shapes", "image_size": 16}, "needs captions, but shapes has .* classes"),
        ({"name": "mixture2d"}, "needs captions"),
    ],
)
def test_data_without_captions_are_refused(data: dict[str, Any], says: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=rf"evaluation\.clip_score {says}"):
        prepare(spec(folder), load_data(DataSpec.model_validate(data)))


def test_a_folder_without_a_clip_and_a_network_without_captions_are_refused(tmp_path: Path) -> None:
    data = load_data(SHAPES)
    with pytest.raises(ConfigError, match="must be a folder with a CLIP, but is not a folder"):
        prepare(spec(tmp_path / "none"), data)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="does not hold a CLIP: its model_type is bert"):
        prepare(spec(tmp_path), data)
    run = {"model": {"conditional": False}, "evaluation": {"clip_score": str(tmp_path)}}
    with pytest.raises(ConfigError, match="needs a network that takes captions"):
        parse(RunConfig, run, "test")
