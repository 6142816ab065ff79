"""The Inception Score is torch-fidelity's, from sums of any parts in any order."""

from __future__ import annotations

import pytest
import torch
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

from curriculum_ray.data import load_data, to_uint8
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.evaluation import EvaluationSpec, prepare
from curriculum_ray.evaluation.inception_score import class_sums, inception_score
from curriculum_ray.evaluation.tally import Moments, NumberedRows, Tally, merged


def _logits(count: int, classes: int = 7, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(count, classes, generator=torch.Generator().manual_seed(count))


def _tally(logits: torch.Tensor, numbers: torch.Tensor, count: int) -> Tally:
    tally = Tally(
        Moments.of(logits), NumberedRows(), NumberedRows(), class_sums(logits[numbers], numbers, count)
    )
    return Tally.from_bytes(tally.to_bytes())


@pytest.mark.parametrize(("count", "ranks"), [(16, 1), (103, 2), (500, 3)])
def test_parts_give_torch_fidelitys_number(count: int, ranks: int) -> None:
    logits = _logits(count)
    parts = [_tally(logits, torch.arange(rank, count, ranks), count) for rank in range(ranks)]
    expected = isc_features_to_metric(logits)[KEY_METRIC_ISC_MEAN]
    assert inception_score(merged(reversed(parts)).sums) == pytest.approx(expected, rel=1e-9)


def test_probabilities_that_are_zero_count_nothing() -> None:
    logits, numbers = torch.full((40, 4), -1e4), torch.arange(40)
    logits[:, 0] = 0
    assert inception_score(class_sums(logits, numbers, 40)) == pytest.approx(1)
    logits = 1e4 * torch.eye(4).repeat(10, 1)
    assert 1 < (inception_score(class_sums(logits, numbers, 40)) or 0) <= 4


def test_real_digits_score_higher_than_noise() -> None:
    data = load_data(DataSpec(name="digits"))
    evaluator = prepare(EvaluationSpec(num_samples=len(data), features=0), data)
    assert evaluator.names == ("fid", "inception_score")
    real = evaluator.score(to_uint8(data.stored))
    # Its labels were smoothed in training, so that it is never certain: 7.7 of 10.
    assert 7 < real["inception_score"] < 10
    noise = torch.randint(0, 256, data.stored.shape, dtype=torch.uint8)
    assert evaluator.score(noise)["inception_score"] < real["inception_score"]
    raw = prepare(EvaluationSpec(num_samples=16, features=0, extractor="random-cnn"), data)
    assert raw.names == ("fid",)
