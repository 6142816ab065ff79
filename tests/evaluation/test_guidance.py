"""A conditional model is scored at the scales of guidance of the protocol, each on its own samples."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn

from curriculum_ray.config import ConfigError
from curriculum_ray.data import NO_CONDITIONING, Conditioning, Dataset, DataSpec, load_data
from curriculum_ray.diffusion import DDPMSpec, Process, build_process
from curriculum_ray.evaluation import EvaluationSpec, Evaluator, prepare
from curriculum_ray.evaluation.guidance import check_guidance
from curriculum_ray.evaluation.together import evaluate_together
from curriculum_ray.models import UNetSpec
from curriculum_ray.training.exchange import StoreExchange
from curriculum_ray.training.world import World
from tests.training.test_exchange import ranks

CLASSES = Conditioning("class", 10)
NAMES = ("fid", "kid", "precision", "recall", "inception_score")


class ByClass(nn.Module):
    """Removes more of what it sees the higher the class, and less without one."""

    def forward(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        share = 0.7 if condition is None else (0.8 + 0.02 * condition).view(-1, 1, 1, 1)
        return x * share


@pytest.fixture(scope="module")
def process() -> Process:
    return build_process(DDPMSpec(num_timesteps=10))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    data = load_data(DataSpec())
    assert data.condition is not None
    return Dataset("some digits", data.stored[:120], data.condition[:120], data.class_names)


def scored(digits: Dataset, process: Process, **settings: Any) -> tuple[dict[str, float], Tensor]:
    return evaluator(digits, process, **settings).evaluate(process, ByClass(), CLASSES)


def evaluator(digits: Dataset, process: Process, **settings: Any) -> Evaluator:
    spec = EvaluationSpec.model_validate({"num_samples": 80, "steps": 3, **settings})
    return prepare(spec, digits, process)


def test_each_scale_has_the_numbers_of_an_evaluation_of_its_own(digits: Dataset, process: Process) -> None:
    both, samples = scored(digits, process, guidance=[1.0, 2.5])
    plain, first = scored(digits, process)
    guided, _ = scored(digits, process, guidance=2.5)
    assert both == plain | {f"{name}_at_2.5": value for name, value in guided.items()}
    assert samples.equal(first)
    assert plain["fid"] != guided["fid"]
    assert evaluator(digits, process, guidance=[1.0, 2.5]).names == (
        *NAMES,
        *(f"{name}_at_2.5" for name in NAMES),
    )


def test_ranks_together_score_every_scale(digits: Dataset, process: Process) -> None:
    several = evaluator(digits, process, guidance=[0.5, 2.0])
    alone, _ = several.evaluate(process, ByClass(), CLASSES)

    def work(exchange: StoreExchange, rank: int) -> tuple[dict[str, float], Tensor] | None:
        return evaluate_together(several, process, ByClass(), CLASSES, World(rank, 2, exchange=exchange))

    found, other = ranks(2, work)
    assert other is None
    assert found[0] == pytest.approx(alone, rel=1e-6)


def test_an_interval_guides_less(digits: Dataset, process: Process) -> None:
    everywhere, _ = scored(digits, process, guidance=2.5)
    nowhere, _ = scored(digits, process, guidance=2.5, guidance_interval=[1e6, 1e7])
    somewhere, _ = scored(digits, process, guidance=2.5, guidance_interval=[0.2, 2.0])
    assert nowhere == scored(digits, process)[0]
    assert somewhere["fid"] not in (everywhere["fid"], nowhere["fid"])


def test_guidance_is_part_of_the_protocol_and_changes_no_other(digits: Dataset, process: Process) -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"guidance": 2.0},
        {"guidance": [2.0, 1.0]},
        {"guidance": 2.0, "guidance_interval": [0.2, 2.0]},
    ]
    assert len({evaluator(digits, process, **each).fingerprint for each in settings}) == len(settings)
    assert "guidance" not in evaluator(digits, process, guidance=1.0).protocol


@pytest.mark.parametrize(
    ("conditioning", "dropout", "rule"),
    [
        (NO_CONDITIONING, 0.1, "needs a conditional model, but digits has neither class nor caption"),
        (CLASSES, 0.0, "needs a model trained with label_dropout, but label_dropout of digits is 0"),
    ],
)
def test_what_cannot_be_guided_is_refused(conditioning: Conditioning, dropout: float, rule: str) -> None:
    model = UNetSpec(label_dropout=dropout)
    with pytest.raises(ConfigError, match=f"evaluation.guidance {rule}"):
        check_guidance((1.0, 2.0), conditioning, model, subject="digits")
    check_guidance((1.0,), conditioning, model)
    with pytest.raises(ConfigError, match=r"needs a conditional model, but model\.conditional is false"):
        check_guidance((2.0,), CLASSES, UNetSpec(conditional=False))
    check_guidance((2.0,), CLASSES, UNetSpec(label_dropout=0.1))
