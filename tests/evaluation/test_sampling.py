"""Images to evaluate: equal noise for all arms, and nothing else in the process notices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from curriculum_ray.diffusion import DDPMSpec, Process, build_process
from curriculum_ray.evaluation import EvaluationSpec
from curriculum_ray.evaluation.sampling import draw_condition, draw_samples, evaluating

SHAPE = (1, 5, 3)


class Denoiser(nn.Module):
    """A network of two weights with dropout, that records what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Dropout(0.9))
        nn.init.constant_(self.layers[0].weight, 0.5)
        self.conditions: list[Tensor | None] = []
        self.training_seen: set[bool] = set()

    def forward(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        self.conditions.append(condition)
        self.training_seen.add(self.layers[1].training)
        assert not torch.is_grad_enabled()
        return self.layers(x)


@pytest.fixture
def process() -> Process:
    return build_process(DDPMSpec(num_timesteps=10))


def test_samples_have_the_range_and_number_asked_for(process: Process) -> None:
    samples = draw_samples(EvaluationSpec(num_samples=7, steps=2, batch_size=3), process, Denoiser(), SHAPE)
    assert samples.shape == (7, *SHAPE)
    assert samples.dtype == torch.uint8


def test_the_same_noise_whatever_batch_size_and_global_random_state(process: Process) -> None:
    model = Denoiser()
    one = draw_samples(EvaluationSpec(num_samples=7, steps=2, batch_size=7), process, model, SHAPE)
    torch.manual_seed(123)
    many = draw_samples(EvaluationSpec(num_samples=7, steps=2, batch_size=2), process, model, SHAPE)
    assert (one.int() - many.int()).abs().max() <= 1


def test_fewer_samples_are_the_first_of_more(process: Process) -> None:
    model = Denoiser()
    more = draw_samples(EvaluationSpec(num_samples=8, steps=2, batch_size=4), process, model, SHAPE)
    fewer = draw_samples(EvaluationSpec(num_samples=4, steps=2, batch_size=4), process, model, SHAPE)
    assert torch.equal(more[:4], fewer)


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_the_seed_determines_the_samples(process: Process, sampler: str) -> None:
    model = Denoiser()

    def draw(seed: int) -> Tensor:
        spec = EvaluationSpec.model_validate({"num_samples": 4, "steps": 3, "sampler": sampler, "seed": seed})
        return draw_samples(spec, process, model, SHAPE)

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_the_global_random_state_is_untouched(process: Process, sampler: str) -> None:
    spec = EvaluationSpec.model_validate({"num_samples": 4, "steps": 3, "sampler": sampler})
    model = Denoiser()
    before = torch.get_rng_state()
    draw_samples(spec, process, model, SHAPE)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_module_gets_its_own_mode_back(process: Process) -> None:
    model = Denoiser()
    model.layers[0].eval()
    draw_samples(EvaluationSpec(num_samples=2, steps=1), process, model, SHAPE)
    assert model.training_seen == {False}
    assert [module.training for module in model.modules()] == [True, True, False, True]


def test_modes_come_back_after_an_error() -> None:
    model = Denoiser()
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert all(module.training for module in model.modules())


def test_a_diverged_model_is_named_as_such(process: Process) -> None:
    model = Denoiser()
    nn.init.constant_(model.layers[0].weight, float("nan"))
    with pytest.raises(FloatingPointError, match="training diverged"):
        draw_samples(EvaluationSpec(num_samples=2, steps=1), process, model, SHAPE)


def test_labels_reach_the_model_batch_by_batch(process: Process) -> None:
    model = Denoiser()
    spec = EvaluationSpec(num_samples=5, steps=1, batch_size=3)
    draw_samples(spec, process, model, SHAPE, condition=torch.arange(5))
    assert [each.tolist() for each in model.conditions if each is not None] == [[0, 1, 2], [3, 4]]


@pytest.mark.parametrize("count", [8, 16, 100])
def test_labels_keep_the_proportions_of_the_reference(count: int) -> None:
    reference = torch.tensor([2, 0, 1, 0, 0, 0, 1, 0])
    labels = draw_condition(reference, count, seed=0)
    expected = torch.tensor([5, 2, 1]) / 8 * count
    assert len(labels) == count
    assert (labels.bincount(minlength=3) - expected).abs().max() <= 1
    assert not torch.equal(labels, labels.sort().values)
    assert torch.equal(labels, draw_condition(reference, count, seed=0))
