"""Latents are scored as images, decoded by the autoencoder that made them; as raw values only by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Dataset, DataSpec, load_data
from curriculum_ray.data.autoencoder import Decoder, decode_latents, load_autoencoder
from curriculum_ray.data.latent_cache import cache_latents
from curriculum_ray.diffusion import DDPMSpec, build_process
from curriculum_ray.evaluation import EvaluationSpec, prepare
from curriculum_ray.evaluation.counting import Counting, ReferenceSpec
from curriculum_ray.evaluation.sampling import draw_samples

diffusers = pytest.importorskip("diffusers")

SPEC = EvaluationSpec(num_samples=40, steps=2, extractor="random-cnn")


class Zero(nn.Module):
    """Sees no noise anywhere."""

    def forward(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        return torch.zeros_like(x)


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    """Latents 4x8x8 of pictures of 16x16, of which some are held out, and their small autoencoder."""
    folder = tmp_path_factory.mktemp("latents")
    torch.manual_seed(0)
    diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        norm_num_groups=4,
        latent_channels=4,
    ).save_pretrained(folder / "vae")
    pictures = torch.rand(60, 3, 16, 16) * 2 - 1
    cache_latents(Dataset("pictures", pictures), load_autoencoder(folder / "vae"), folder / "latents")
    return DataSpec(
        name=str(folder / "latents"), format="latents", vae=str(folder / "vae"), holdout_share=0.5
    )


def test_samples_are_decoded_and_compared_with_decoded_held_out_latents(latents: DataSpec) -> None:
    data, process = load_data(latents), build_process(DDPMSpec(num_timesteps=10))
    assert data.heldout is not None
    evaluator = prepare(SPEC, data, process, latents)
    assert (evaluator.drawn, evaluator.shape) == ((4, 8, 8), (3, 16, 16))
    assert evaluator.reference.count == len(data.heldout)
    metrics, shown = evaluator.evaluate(process, Zero())
    drawn = draw_samples(evaluator.spec, process, Zero(), (4, 8, 8))
    assert torch.equal(shown, decode_latents(latents, drawn))
    real = decode_latents(latents, data.heldout.items)
    by_hand = prepare(SPEC, Dataset("decoded", real), process).score(decode_latents(latents, drawn))
    assert metrics == pytest.approx(by_hand, rel=1e-6)
    raw = prepare(SPEC.model_copy(update={"extractor": "raw"}), data, process, latents)
    assert raw.shape == (4, 8, 8)
    assert len({evaluator.fingerprint, raw.fingerprint}) == 2


def test_a_reference_file_is_made_of_decoded_latents(latents: DataSpec, tmp_path: Path) -> None:
    counting = Counting(
        ReferenceSpec(data=latents.model_copy(update={"holdout_share": None}), extractor="random-cnn")
    )
    (tmp_path / "reference.npz").write_bytes(counting.file([counting.count()]))
    spec = EvaluationSpec(num_samples=40, reference=str(tmp_path / "reference.npz"))
    evaluator = prepare(spec, load_data(latents), source=latents)
    assert evaluator.protocol["reference_items"] == 60
    assert evaluator.protocol["decoder"] == counting.decoder.sha256  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="another autoencoder"):
        prepare(spec, Dataset("pictures", torch.zeros(60, 3, 16, 16)))


def test_decoded_samples_are_compared_with_a_file_made_of_images(latents: DataSpec, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, pixels in enumerate(
        numpy.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), numpy.uint8)
    ):
        Image.fromarray(pixels).save(pictures / f"{number}.png")
    images = DataSpec(name=str(pictures), image_size=16)
    counting = Counting(ReferenceSpec(data=images, extractor="random-cnn"))
    (tmp_path / "reference.npz").write_bytes(counting.file([counting.count()]))
    spec = EvaluationSpec(num_samples=40, reference=str(tmp_path / "reference.npz"))
    evaluator = prepare(spec, load_data(latents), source=latents)
    of_images = prepare(spec, Dataset("pictures", torch.zeros(60, 3, 16, 16)))
    samples = torch.rand(40, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    decoded = decode_latents(latents, samples)
    assert evaluator.score(decoded) == of_images.score(decoded)
    assert evaluator.protocol["reference"] == of_images.protocol["reference"]
    assert evaluator.fingerprint != of_images.fingerprint


def test_without_an_autoencoder_or_held_out_latents_the_mend_is_said(latents: DataSpec) -> None:
    bare = latents.model_copy(update={"vae": None})
    with pytest.raises(ConfigError, match=r"set data\.vae to the autoencoder of .*, or the extractor to raw"):
        prepare(SPEC, load_data(bare), source=bare)
    whole = latents.model_copy(update={"holdout_share": 0.0})
    with pytest.raises(ConfigError, match=r"none are held out: set data\.holdout_share"):
        prepare(SPEC, load_data(whole), source=whole)


def test_few_images_are_decoded_at_a_time_where_they_are_large(
    latents: DataSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def counting(self: Decoder, latents: Tensor, *more: Any, really: Any = Decoder.__call__) -> Tensor:
        decoded.append(len(latents))
        return really(self, latents, *more)

    file = tmp_path / "reference.npz"
    samples = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(0)).mul(255).to(torch.uint8)
    scores = []
    for room, most in ((None, 60), (7 * 3 * 16 * 16, 7)):
        for stream in (False, True):
            data = latents.model_copy(update={"holdout_share": None, "stream": stream})
            with monkeypatch.context() as patch:
                patch.setattr(Decoder, "__call__", counting)
                if room is not None:
                    patch.setattr("curriculum_ray.evaluation.counting._IMAGE_BYTES", room)
                decoded.clear()
                one = Counting(ReferenceSpec(data=data, extractor="random-cnn"))
                file.write_bytes(one.file([one.count()]))
            assert (max(decoded), sum(decoded)) == (most, 60)
            spec = EvaluationSpec(num_samples=40, reference=str(file))
            scores.append(prepare(spec, load_data(latents), source=latents).score(samples))
    assert all(score == pytest.approx(scores[0], rel=1e-5) for score in scores)
