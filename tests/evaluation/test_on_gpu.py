"""Evaluation on a GPU is that of a CPU, within the rounding of its kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from curriculum_ray.data import Dataset, DataSpec, load_data, to_uint8
from curriculum_ray.diffusion import DDPMSpec, EDMSpec, FlowSpec, Process, build_process
from curriculum_ray.evaluation import EvaluationSpec, prepare
from curriculum_ray.evaluation.sampling import draw_samples
from curriculum_ray.models import UNetSpec, build_model

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
PROCESSES = {"ddim": DDPMSpec(num_timesteps=100), "heun of edm": EDMSpec(), "heun of flow": FlowSpec()}


@pytest.fixture(autouse=True)
def _full_float32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("name", ["digits", "shapes", "tones"])
def test_features_and_scores_are_those_of_a_cpu(cuda: torch.device, name: str) -> None:
    data = load_data(DataSpec(name=name))
    few = Dataset(name, data.items[:200])
    noise = torch.randn(few.items.shape, generator=torch.Generator().manual_seed(0))
    items = few.items + 0.3 * noise
    samples = to_uint8(items) if name != "tones" else items
    evaluator = prepare(EvaluationSpec(num_samples=200, steps=2), few)
    wanted = evaluator.extractor.features(samples, CPU)
    got = evaluator.extractor.features(samples, cuda)
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)
    on_cpu = evaluator.score(samples, CPU)
    state = torch.cuda.get_rng_state(cuda)
    on_gpu = evaluator.score(samples, cuda)
    assert torch.equal(torch.cuda.get_rng_state(cuda), state)
    assert on_gpu["fid"] == pytest.approx(on_cpu["fid"], rel=1e-2)
    assert on_gpu["kid"] == pytest.approx(on_cpu["kid"], rel=2e-2, abs=1e-3)
    for metric in ("precision", "recall"):
        assert on_gpu[metric] == pytest.approx(on_cpu[metric], abs=0.02)


@pytest.mark.parametrize("spec", PROCESSES.values(), ids=PROCESSES)
def test_sample_i_starts_from_the_same_noise_on_a_gpu(
    cuda: torch.device, spec: DDPMSpec | EDMSpec | FlowSpec
) -> None:
    process: Process = build_process(spec)
    torch.manual_seed(0)
    model = build_model(UNetSpec(base_channels=16), (1, 8, 8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    evaluation = EvaluationSpec(num_samples=24, steps=5, batch_size=24)
    wanted = draw_samples(evaluation, process, model, (1, 8, 8))
    other = evaluation.model_copy(update={"batch_size": 7})
    got = draw_samples(other, process.to(cuda), model.to(cuda), (1, 8, 8), device=cuda)
    # Rounding to a byte may fall on either side.
    assert (got.int() - wanted.int()).abs().max() <= 1
    assert (got == wanted).float().mean() > 0.98


@pytest.mark.parametrize("sampler", ["ancestral", "stochastic"])
def test_the_seed_determines_what_a_gpu_draws_on_the_way(cuda: torch.device, sampler: str) -> None:
    spec = EDMSpec.model_validate({"churn": 10}) if sampler == "stochastic" else DDPMSpec(num_timesteps=100)
    process = build_process(spec).to(cuda)
    model = build_model(UNetSpec(base_channels=16), (1, 8, 8)).to(cuda)

    def draw(seed: int) -> torch.Tensor:
        spec = EvaluationSpec.model_validate({"num_samples": 8, "steps": 4, "sampler": sampler, "seed": seed})
        return draw_samples(spec, process, model, (1, 8, 8), device=cuda)

    drawn = draw(0)
    assert torch.equal(drawn, draw(0))
    assert not torch.equal(drawn, draw(1))
    process, model, cuda = process.to(CPU), model.to(CPU), CPU
    assert (drawn.int() - draw(0).int()).abs().max() <= 1, "a CPU adds other noise"
