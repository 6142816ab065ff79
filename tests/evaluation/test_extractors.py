"""An extractor sees no more of large images at a time than of small ones, and its features do not depend on it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from curriculum_ray.data import DataSpec, load_data
from curriculum_ray.evaluation import EvaluationSpec, extractors, prepare
from curriculum_ray.evaluation.counting import Counting, ReferenceSpec
from curriculum_ray.evaluation.extractors import Extractor, load_extractor
from curriculum_ray.evaluation.simple_features import RandomCNN
from curriculum_ray.training.precision import allow_tf32


@pytest.mark.parametrize(("side", "most"), [(16, 500), (32, 500), (64, 125), (128, 31), (1024, 1)])
def test_large_images_are_seen_few_at_a_time(side: int, most: int) -> None:
    assert load_extractor(EvaluationSpec(extractor="random-cnn"), (3, side, side), "mine").batch_size == most


@pytest.mark.parametrize("name", ["photos", "shapes", "digits"])
def test_a_folder_with_the_name_of_an_embedded_set_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    chosen: list[str] = []

    def network(kind: str, *_: object) -> tuple[nn.Module, str]:
        chosen.append(kind)
        return RandomCNN(3, 16), ""

    monkeypatch.setattr(extractors, "_network", network)
    folder = tmp_path / name
    folder.mkdir()
    for number in range(16):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(folder / f"{number}.png")
    spec = DataSpec(name=str(folder), image_size=16)
    prepare(EvaluationSpec(num_samples=16), load_data(spec), source=spec)
    Counting(ReferenceSpec(data=spec))
    assert chosen == ["inception-v3", "inception-v3"]


def test_features_do_not_depend_on_how_many_are_seen_at_a_time() -> None:
    images = torch.randint(256, (40, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    extractor = load_extractor(EvaluationSpec(extractor="random-cnn"), (3, 64, 64), "mine")
    few = replace(extractor, batch_size=7)
    torch.testing.assert_close(*(each.features(images, torch.device("cpu")) for each in (extractor, few)))


class _SeesTF32(nn.Module):
    """Features that say by which arithmetic they were taken."""

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        seen = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
        return torch.tensor([[float(precision == "tf32") for precision in seen]]).expand(len(items), -1)


def test_features_are_never_taken_in_tf32_and_a_run_goes_on_in_it() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    extractor = Extractor("raw", _SeesTF32(), "", "none", 2, 1, 1)
    items = torch.zeros(3, 2)
    try:
        allow_tf32(torch.device("cuda"), True)
        assert extractor.network(items).tolist() == [[1, 1]] * 3
        assert extractor.features(items, torch.device("cpu")).tolist() == [[0, 0]] * 3
        assert extractor.features_and_logits(items, torch.device("cpu"))[0].tolist() == [[0, 0]] * 3
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_features_can_be_taken_where_the_older_names_of_the_arithmetic_cannot_be_read() -> None:
    products, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    extractor = Extractor("raw", _SeesTF32(), "", "none", 2, 1, 1)
    try:
        products.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = "tf32", "tf32", "ieee"
        with pytest.raises(RuntimeError, match="TF32 flags"):
            _ = cudnn.allow_tf32
        assert extractor.features(torch.zeros(3, 2), torch.device("cpu")).tolist() == [[0, 0]] * 3
        assert (products.fp32_precision, cudnn.conv.fp32_precision) == ("tf32", "tf32")
    finally:
        products.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = before
