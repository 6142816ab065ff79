"""Several ranks draw and score what one rank would, and keep no more than the metrics need."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import Conditioning, Dataset, DataSpec, load_data
from curriculum_ray.diffusion import DDPMSpec, Process, build_process
from curriculum_ray.evaluation import EvaluationSpec, prepare, reference
from curriculum_ray.evaluation.evaluator import Evaluator
from curriculum_ray.evaluation.reference import evenly_spaced
from curriculum_ray.evaluation.sampling import Share, draw_blocks
from curriculum_ray.evaluation.tally import Moments
from curriculum_ray.evaluation.together import evaluate_together
from curriculum_ray.training.exchange import StoreExchange
from curriculum_ray.training.world import World
from tests.training.test_exchange import ranks

COUNT = 170
CLASSES = Conditioning("class", 10)


class Shifted(nn.Module):
    """Removes a little of what it sees, by the class that it is given."""

    def forward(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        assert condition is not None
        return x * (0.8 + 0.02 * condition.view(-1, 1, 1, 1))


class Zero(nn.Module):
    """Sees no noise anywhere."""

    def forward(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        return torch.zeros_like(x)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    data = load_data(DataSpec())
    assert data.condition is not None
    return Dataset("some digits", data.stored[:180], data.condition[:180], data.class_names)


@pytest.fixture(scope="module")
def process() -> Process:
    return build_process(DDPMSpec(num_timesteps=10))


def together(evaluator: Evaluator, process: Process, size: int) -> tuple[dict[str, float], Tensor]:
    """What rank 0 of `size` ranks gets, which share a store in this process."""
    reference._extracted.clear()

    def work(exchange: StoreExchange, rank: int) -> tuple[dict[str, float], Tensor] | None:
        world = World(rank, size, exchange=exchange)
        return evaluate_together(evaluator, process, Shifted(), CLASSES, world)

    found, *others = ranks(size, work)
    assert others == [None] * (size - 1)
    return found


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_several_ranks_get_the_numbers_of_one(digits: Dataset, process: Process, sampler: str) -> None:
    evaluator = prepare(
        EvaluationSpec.model_validate(
            {"num_samples": COUNT, "steps": 3, "sampler": sampler, "features": 100}
        ),
        digits,
        process,
    )
    alone, samples = together(evaluator, process, 1)
    assert set(alone) == {"fid", "kid", "precision", "recall", "inception_score"}
    assert len(samples) == 64
    for size in (2, 3):
        metrics, same = together(evaluator, process, size)
        assert metrics == pytest.approx(alone, rel=1e-6)
        assert torch.equal(same, samples)


def test_ranks_share_all_samples_and_none_twice(process: Process) -> None:
    spec = EvaluationSpec(num_samples=COUNT, steps=1)
    blocks = [
        [block for block, _ in draw_blocks(spec, process, Zero(), (1,), share=Share(rank, 3))]
        for rank in range(3)
    ]
    assert sorted(number for mine in blocks for block in mine for number in block) == list(range(COUNT))
    assert {len(mine) for mine in blocks} == {2}


def test_without_features_what_is_summed_is_left_and_nothing_grows(digits: Dataset, process: Process) -> None:
    spec = EvaluationSpec(num_samples=COUNT, steps=2, features=0)
    evaluator = prepare(spec, digits, process)
    tally = evaluator.draw(process, Shifted(), CLASSES)
    assert tally.features.rows is None
    assert evaluator.metrics([tally]).keys() == {"fid", "inception_score"}
    whole = prepare(spec.model_copy(update={"features": 10_000}), digits, process)
    assert whole.fingerprint != evaluator.fingerprint


def test_a_limit_that_nothing_reaches_changes_no_protocol(digits: Dataset) -> None:
    prints = {
        prepare(EvaluationSpec(num_samples=COUNT, features=features), digits).fingerprint
        for features in (200, 5_000)
    }
    assert len(prints) == 1


def test_moments_of_parts_are_those_of_the_whole() -> None:
    features = 1e4 + torch.randn(100, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = Moments()
    for part in features.split(7):
        whole.add(Moments.of(part))
    torch.testing.assert_close(whole.mean, features.mean(0))
    torch.testing.assert_close(whole.covariance, features.T.cov(), rtol=1e-9, atol=0)


@pytest.mark.parametrize(("count", "limit"), [(10, 20), (10, 3), (1_000_003, 10_000), (5, 0)])
def test_what_is_kept_of_a_sorted_set_has_its_proportions(count: int, limit: int) -> None:
    numbers = evenly_spaced(count, limit)
    assert len(numbers) == min(count, limit) == len(numbers.unique())
    if limit:
        assert 0 <= numbers[0] <= numbers[-1] < count
        assert numbers.double().mean().item() == pytest.approx((count - 1) / 2, abs=count / limit)


@pytest.mark.parametrize("features", [1, 15, -1])
def test_too_few_features_are_refused(features: Any) -> None:
    with pytest.raises(ConfigError, match="features"):
        parse(EvaluationSpec, {"features": features}, "evaluation")
