"""Scores mean what they should, and are those of one protocol."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Conditioning, Dataset, DataSpec, load_data, to_uint8
from curriculum_ray.diffusion import DDPMSpec, EDMSpec, FlowSpec, Process, build_process
from curriculum_ray.evaluation import (
    EvaluationSpec,
    Evaluator,
    extractors,
    prepare,
    reference,
)
from curriculum_ray.evaluation import (
    protocol as protocols,
)

COUNT = 400


@pytest.fixture(scope="module")
def digits() -> Dataset:
    data = load_data(DataSpec())
    assert data.condition is not None
    return Dataset("some digits", data.items[:COUNT], data.condition[:COUNT], data.class_names)


@pytest.fixture(scope="module")
def protocol(digits: Dataset) -> Evaluator:
    return prepare(EvaluationSpec(num_samples=COUNT, steps=2), digits)


def corrupted(digits: Dataset, strength: float) -> Tensor:
    noise = torch.randn(digits.items.shape, generator=torch.Generator().manual_seed(0))
    return to_uint8(digits.items + strength * noise)


class Flat(nn.Module):
    """A network that sees no noise anywhere."""

    def forward(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        return torch.zeros_like(x)


@pytest.fixture
def process() -> Process:
    return build_process(DDPMSpec(num_timesteps=10))


def test_a_set_is_at_no_distance_from_itself(protocol: Evaluator, digits: Dataset) -> None:
    metrics = protocol.score(to_uint8(digits.items))
    assert metrics["fid"] == pytest.approx(0, abs=1e-2)
    assert metrics["kid"] <= 0  # unbiased, so that equal sets come out below what independent ones do
    assert metrics["precision"] == metrics["recall"] == 1


def test_scores_get_worse_with_corruption(protocol: Evaluator, digits: Dataset) -> None:
    scores = [protocol.score(corrupted(digits, strength)) for strength in (0.1, 0.3, 0.6, 1.0)]
    for name, sign in (("fid", 1), ("kid", 1), ("precision", -1)):
        values = [sign * metrics[name] for metrics in scores]
        assert values == sorted(values)
        assert values[0] < values[-1]


def test_missing_modes_cost_recall_and_not_precision(protocol: Evaluator, digits: Dataset) -> None:
    assert digits.condition is not None
    ones = to_uint8(digits.items)[digits.condition == 1]
    samples = ones.repeat(COUNT // len(ones) + 1, 1, 1, 1)[:COUNT]
    metrics = protocol.score(samples)
    assert metrics["precision"] == 1
    assert metrics["recall"] < 0.2


def test_scores_do_not_depend_on_the_order_of_samples(protocol: Evaluator, digits: Dataset) -> None:
    samples = corrupted(digits, 0.5)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    shuffled, ordered = protocol.score(samples[order]), protocol.score(samples)
    # The mean over ten splits depends a little on which samples are in which.
    split = shuffled.pop("inception_score")
    assert split == pytest.approx(ordered.pop("inception_score"), rel=2e-2)
    assert shuffled == pytest.approx(ordered, rel=1e-3)


def test_halves_of_the_digits_are_as_near_as_documented() -> None:
    data = load_data(DataSpec(holdout_share=0))
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    half = prepare(EvaluationSpec(num_samples=898), Dataset("half", data.items[order[:898]]))
    metrics = half.score(to_uint8(data.items[order[898:1796]]))
    assert 1 < metrics["fid"] < 6
    assert -3 < metrics["kid"] < 3
    assert min(metrics["precision"], metrics["recall"]) > 0.8


def test_the_numbers_are_those_of_torch_fidelity(digits: Dataset) -> None:
    import torch_fidelity
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    samples = corrupted(digits, 0.5)
    evaluator = prepare(EvaluationSpec(num_samples=COUNT), digits)
    ours = evaluator.score(samples)
    theirs = [
        fid_features_to_statistics(evaluator.extractor.features(images, torch.device("cpu")).double())
        for images in (samples, to_uint8(digits.items))
    ]
    fid = fid_statistics_to_metric(*theirs, verbose=False)[torch_fidelity.KEY_METRIC_FID]
    assert ours["fid"] == pytest.approx(fid, rel=1e-9)


def test_the_reference_is_read_once(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    tally = reference.Reference.tally
    monkeypatch.setattr(reference.Reference, "tally", lambda *a: reads.append(a) or tally(*a))
    reference._extracted.clear()
    samples, spec = corrupted(digits, 0.5), EvaluationSpec(num_samples=COUNT)
    assert prepare(spec, digits).score(samples) == prepare(spec, digits).score(samples)
    assert len(reads) == 1


def test_another_reference_is_not_mistaken_for_the_last(protocol: Evaluator, digits: Dataset) -> None:
    samples = to_uint8(digits.items)
    noisy = Dataset("noisy", digits.items + 0.5 * torch.randn_like(digits.items))
    assert prepare(EvaluationSpec(num_samples=COUNT), noisy).score(samples)["fid"] > 1
    assert protocol.score(samples)["fid"] < 0.1


def test_scoring_leaves_the_global_random_state(protocol: Evaluator, digits: Dataset) -> None:
    before = torch.get_rng_state()
    protocol.score(to_uint8(digits.items))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "samples",
    [
        torch.zeros(COUNT - 1, 1, 8, 8, dtype=torch.uint8),
        torch.zeros(COUNT, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(COUNT, 1, 8, 8),
    ],
)
def test_samples_outside_the_protocol_are_refused(protocol: Evaluator, samples: Tensor) -> None:
    with pytest.raises(ValueError, match=r"samples must be torch.uint8 of shape \(400, 1, 8, 8\)"):
        protocol.score(samples)


def test_collapsed_samples_get_finite_bad_scores(protocol: Evaluator) -> None:
    metrics = protocol.score(torch.zeros(COUNT, 1, 8, 8, dtype=torch.uint8))
    assert all(torch.tensor(list(metrics.values())).isfinite())
    assert metrics["fid"] > 50


def test_evaluate_scores_what_it_generates(protocol: Evaluator, process: Process) -> None:
    metrics, samples = protocol.evaluate(process, Flat())
    drawn = protocol.generate(process, Flat())
    assert torch.equal(samples, drawn[:64])
    assert metrics == pytest.approx(protocol.score(drawn), rel=1e-9)
    assert metrics["fid"] > 50


def test_a_conditional_model_is_given_the_classes_of_the_reference(
    protocol: Evaluator, digits: Dataset, process: Process
) -> None:
    seen = []

    class Conditional(Flat):
        def forward(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
            assert condition is not None
            seen.append(condition)
            return super().forward(x, noise_cond)

    protocol.generate(process, Conditional(), Conditioning("class", 10))
    assert digits.condition is not None
    assert torch.equal(torch.cat(seen).bincount(), digits.condition.bincount() * protocol.spec.steps)
    with pytest.raises(ConfigError, match="a model conditioned on 4 classes"):
        protocol.generate(process, Conditional(), Conditioning("class", 4))


@pytest.mark.parametrize(
    "change",
    [
        {"num_samples": COUNT + 1},
        {"steps": 3},
        {"sampler": "ancestral"},
        {"seed": 1},
        {"ema": False},
    ],
)
def test_fingerprint_changes_with_the_protocol(
    protocol: Evaluator, digits: Dataset, change: dict[str, Any]
) -> None:
    spec = protocol.spec.model_copy(update=change)
    assert prepare(spec, digits).fingerprint != protocol.fingerprint


def test_fingerprint_changes_with_reference_weights_and_version(
    protocol: Evaluator, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Dataset(digits.name, digits.items.flip(0), digits.condition, digits.class_names)
    assert prepare(protocol.spec, other).fingerprint != protocol.fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(protocols, "version", lambda _: "0.0.0")
        assert prepare(protocol.spec, digits).fingerprint != protocol.fingerprint
    network, sha256 = extractors._digits_cnn()
    monkeypatch.setattr(extractors, "_digits_cnn", lambda: (network, sha256[::-1]))
    assert prepare(protocol.spec, digits).fingerprint != protocol.fingerprint


def test_other_sigmas_of_edm_are_part_of_the_fingerprint_and_the_usual_ones_are_not(digits: Dataset) -> None:
    spec = EvaluationSpec(num_samples=40, steps=2)
    usual, other = (prepare(spec, digits, build_process(each)) for each in (EDMSpec(), EDMSpec(rho=3)))
    assert "sigmas" not in usual.protocol
    assert other.protocol == {**usual.protocol, "sigmas": [0.002, 80.0, 3]}
    assert usual.fingerprint != other.fingerprint


def test_fingerprint_ignores_what_does_not_change_the_numbers(protocol: Evaluator, digits: Dataset) -> None:
    named = Dataset("another name", digits.items)
    spec = protocol.spec.model_copy(update={"batch_size": 7, "extractor": "digits-cnn"})
    assert prepare(spec, named).fingerprint == protocol.fingerprint


def test_ancestral_sampling_depends_on_the_batch_size(digits: Dataset) -> None:
    prints = {
        prepare(EvaluationSpec(sampler="ancestral", batch_size=size), digits).fingerprint for size in (10, 20)
    }
    assert len(prints) == 2


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 16, 16), (1, 8, 16)])
def test_the_digits_extractor_refuses_other_images(shape: tuple[int, ...]) -> None:
    data = Dataset("others", torch.zeros(20, *shape))
    with pytest.raises(ConfigError, match=r"digits-cnn takes 1x8x8 images, but those of others are"):
        prepare(EvaluationSpec(extractor="digits-cnn"), data)


def test_too_few_images_are_refused(digits: Dataset) -> None:
    few = Dataset("few", digits.items[:15])
    with pytest.raises(ConfigError, match="at least 16 real items and 16 samples, but few has 15"):
        prepare(EvaluationSpec(), few)
    with pytest.raises(ConfigError, match="num_samples is 15"):
        prepare(EvaluationSpec(num_samples=15), digits)


def test_a_sampler_that_the_process_does_not_have_is_refused(digits: Dataset, process: Process) -> None:
    with pytest.raises(ConfigError, match="steps must be at most 10, the number of timesteps, but got 11"):
        prepare(EvaluationSpec(steps=11), digits, process)
    flow = build_process(FlowSpec())
    with pytest.raises(ConfigError, match=r"sampler must be one of heun, euler for .*, but got ddim"):
        prepare(EvaluationSpec(sampler="ddim"), digits, flow)


def test_the_protocol_names_the_sampler_that_auto_stands_for(digits: Dataset, process: Process) -> None:
    auto, named = EvaluationSpec(steps=5), EvaluationSpec(steps=5, sampler="ddim")
    assert prepare(auto, digits, build_process(FlowSpec())).protocol["sampler"] == "heun"
    assert prepare(auto, digits, process).fingerprint == prepare(named, digits, process).fingerprint
    assert prepare(auto, digits).fingerprint == prepare(named, digits).fingerprint


def test_the_reference_is_what_was_trained_on_and_the_protocol_says_so() -> None:
    data, whole = load_data(DataSpec()), load_data(DataSpec(holdout_share=0))
    spec = EvaluationSpec(num_samples=20)
    split, unsplit = prepare(spec, data), prepare(spec, whole)
    assert split.protocol["reference"] == data.fingerprint != unsplit.protocol["reference"]
    assert (split.protocol["reference_items"], unsplit.protocol["reference_items"]) == (len(data), 1797)
    assert split.fingerprint != unsplit.fingerprint
    held = {item.numpy().tobytes() for item in data.heldout.items}  # type: ignore[union-attr]
    assert not held & {item.numpy().tobytes() for item in data.items}
