"""Every embedded data set is scored offline, the right way round, and can be looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import Dataset, DataSpec, is_image, load_data, to_uint8
from curriculum_ray.evaluation import EvaluationSpec, prepare, save_grid
from curriculum_ray.evaluation.draw import picture
from curriculum_ray.evaluation.sampling import draw_samples
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.loop import train
from curriculum_ray.training.trainer import Trainer

COUNT = 500
SETS: list[Any] = [
    pytest.param({"name": "shapes"}, "random-cnn", marks=pytest.mark.slow),
    ({"name": "photos"}, "random-cnn"),
    ({"name": "mixture2d"}, "random-fourier"),
    ({"name": "mixture2d", "set_size": 8}, "random-fourier"),
    ({"name": "tones"}, "raw"),
]


@pytest.mark.parametrize(("spec", "extractor"), SETS)
def test_scores_get_worse_with_corruption(spec: dict[str, Any], extractor: str) -> None:
    whole = load_data(DataSpec(**spec))
    data = Dataset(whole.name, whole.items[:COUNT].clone())
    other = whole.items[COUNT : 2 * COUNT]
    evaluator = prepare(EvaluationSpec(num_samples=COUNT), data)
    assert evaluator.protocol["extractor"] == extractor
    noise = torch.randn(other.shape, generator=torch.Generator().manual_seed(0))
    scores = []
    for strength in (0.0, 0.2, 0.8):
        items = other + strength * noise
        scores.append(evaluator.score(to_uint8(items) if is_image(data.shape) else items))
    for name, sign in (("fid", 1), ("kid", 1), ("precision", -1)):
        values = [sign * metrics[name] for metrics in scores]
        assert values == sorted(values), name
        assert values[0] < values[-1], name


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "digits"},
        {"name": "photos", "image_size": 16},
        {"name": "mixture2d"},
        {"name": "mixture2d", "set_size": 8},
        {"name": "tones"},
    ],
    ids=lambda spec: "-".join(map(str, spec.values())),
)
def test_a_gaussian_of_the_datas_mean_and_covariance_is_far_from_the_data(spec: dict[str, Any]) -> None:
    whole = load_data(DataSpec(**spec)).items
    count = min(4 * COUNT, len(whole) // 2)
    data, other = whole[:count].clone(), whole[count : 2 * count]
    evaluator = prepare(EvaluationSpec(num_samples=count, features=0), Dataset(spec["name"], data))
    noise = torch.randn(count, count, generator=torch.Generator().manual_seed(0))
    center = data.mean(0)
    gaussian = center + torch.tensordot(noise, data - center, 1) / (count - 1) ** 0.5
    real, fake = (
        evaluator.score(to_uint8(items) if is_image(data.shape[1:]) else items)["fid"]
        for items in (other, gaussian)
    )
    assert fake > 3 * real


@pytest.fixture(
    scope="module",
    params=[("mixture2d", 19_200), pytest.param(("tones", 9_600), marks=pytest.mark.slow)],
    ids=["mixture2d", "tones"],
)
def trained(request: pytest.FixtureRequest) -> Trainer:
    """A short training on a data set, by default settings."""
    name, images = request.param
    config = parse(TrainConfig, {"data": {"name": name}, "images": images}, "test")
    trainer = Trainer(config, load_data(config.data))
    train(trainer)
    return trainer


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_what_a_short_training_by_default_gives_has_the_spread_of_the_data(
    trained: Trainer, sampler: str
) -> None:
    spec = EvaluationSpec(num_samples=200, steps=20, sampler=sampler)
    data = trained.data
    assert isinstance(data, Dataset)
    samples = draw_samples(spec, trained.process, trained.ema.model, data.shape)
    assert 0.5 < samples.std() / data.items.std() < 2


def test_the_filters_are_frozen() -> None:
    data = load_data(DataSpec(name="shapes"))
    first, second = (prepare(EvaluationSpec(num_samples=16), data) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert first.protocol["weights"] == second.protocol["weights"]


def test_networks_for_images_refuse_other_items() -> None:
    data = load_data(DataSpec(name="tones"))
    with pytest.raises(ConfigError, match=r"takes images, but the items of tones are 1x64: use raw"):
        prepare(EvaluationSpec(extractor="random-cnn"), data)


@pytest.mark.parametrize("name", ["tones", "digits"])
def test_cosines_refuse_what_is_no_point(name: str) -> None:
    data = load_data(DataSpec(name=name))
    with pytest.raises(
        ConfigError, match=rf"random-fourier takes points, but the items of {name} are .*: use auto"
    ):
        prepare(EvaluationSpec(extractor="random-fourier"), data)


@pytest.mark.parametrize("shape", [(2,), (2, 16), (1, 64), (4, 8, 8)])
def test_every_shape_is_drawn(tmp_path: Path, shape: tuple[int, ...]) -> None:
    samples = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0)) / 2
    save_grid(samples, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        low, high = image.getextrema()
    assert low < 100 < 200 <= high or shape == (4, 8, 8)
    assert low < high


@pytest.mark.parametrize(("copies", "pixels"), [(1, 16), (1_000, 4)])
def test_few_points_are_drawn_large_and_dark(copies: int, pixels: int) -> None:
    corners = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    drawn = picture(corners.repeat(copies, 1))[0, 0]
    assert (drawn == drawn.min()).sum() == 4 * pixels
    assert drawn.min() < 50
