"""The share of the training that sampling never visits, and the line that says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from curriculum_ray.config import parse
from curriculum_ray.data import load_data
from curriculum_ray.diffusion import build_process
from curriculum_ray.evaluation import EvaluationSpec, prepare
from curriculum_ray.evaluation.visited import never_visited, unvisited_line
from curriculum_ray.training.config import TrainConfig

POINT, IMAGE = (2,), (1, 8, 8)


def settings(process: dict[str, Any], base: dict[str, Any] | None = None) -> TrainConfig:
    schedule = {"schedule": {"version": 1, "base": base}} if base else {}
    return parse(TrainConfig, {"process": process, **schedule}, "settings")


def test_predicted_noise_of_what_is_not_clipped_leaves_the_noisiest_timesteps_out() -> None:
    config = settings({"prediction": "epsilon", "betas": "linear"})
    assert never_visited(config, POINT) == pytest.approx((999 - 768) / 1000, abs=1e-4)
    line = unvisited_line(config, POINT)
    assert line is not None
    assert line.startswith("sampling starts at t = 768, and 23.1% of the training draws are noisier")
    assert "process.prediction v" in line
    assert unvisited_line(config, IMAGE) is None


@pytest.mark.parametrize(
    ("process", "base"),
    [
        ({"prediction": "v"}, None),
        ({"prediction": "x0", "betas": "linear"}, None),
        ({"prediction": "v", "zero_terminal_snr": True}, None),
        ({"kind": "edm"}, None),
        ({"kind": "flow"}, {"kind": "beta", "alpha": 4.0}),
    ],
)
@pytest.mark.parametrize("shape", [POINT, IMAGE])
def test_all_that_others_train_is_visited(
    process: dict[str, Any], base: dict[str, Any] | None, shape: tuple[int, ...]
) -> None:
    config = settings(process, base)
    assert never_visited(config, shape) < 1e-4
    assert unvisited_line(config, shape) is None


def test_the_share_goes_by_the_base_distribution() -> None:
    # P(ln sigma > ln 2) for ln sigma ~ N(0, 1) is 0.2441.
    config = settings(
        {"kind": "edm", "sigma_max": 2.0}, {"kind": "log_normal_sigma", "mean": 0.0, "std": 1.0}
    )
    assert never_visited(config, POINT) == pytest.approx(0.2441, abs=2e-4)
    assert unvisited_line(config, POINT) == (
        "sampling starts at sigma = 2, and 24.4% of the training draws are noisier, never visited"
    )


def test_a_base_that_changes_counts_for_as_long_as_it_lasts() -> None:
    base = {"kind": "changing", "first": {"kind": "uniform"}, "then": {"kind": "beta", "alpha": 1e-3}}
    for change, share in (({"at_share": 0.25}, 0.25), ({"at_share": 0.0, "blend_share": 1.0}, 0.5)):
        config = settings({"prediction": "epsilon", "betas": "linear"}, {**base, **change})
        # Beta times with alpha 1e-3 are hardly ever above 0.769: 1 - 0.769^0.001.
        expected = share * 0.231 + (1 - share) * 0.00026
        assert never_visited(config, POINT) == pytest.approx(expected, abs=3e-4)


def test_noisiest_is_the_level_of_the_first_call() -> None:
    for spec in (
        {"betas": "linear", "prediction": "epsilon"},
        {"prediction": "v", "zero_terminal_snr": True},
        {"kind": "edm"},
        {"kind": "flow"},
    ):
        process = build_process(settings(spec).process)
        for clip in (False, True):
            seen: list[float] = []

            def model(
                x: torch.Tensor, cond: torch.Tensor, condition: object = None, seen: list[float] = seen
            ) -> torch.Tensor:
                seen.append(float(cond[0]))
                return x

            process.generate(model, torch.zeros(1, 2), steps=3, clip=clip)
            level = torch.tensor([process.noisiest(clip)])
            level = level.long() if process.levels.kind == "timestep" else level.float()
            _, expected, _ = process.corrupt(torch.zeros(1, 2), level, torch.zeros(1, 2))
            assert seen[0] == pytest.approx(float(expected[0]), rel=1e-6)


@pytest.mark.parametrize(
    ("data", "process", "start"),
    [
        # As published: what is clipped, and what needs no other start, keeps its protocol.
        ("digits", {}, {}),
        ("digits", {"kind": "edm"}, {}),
        ("mixture2d", {"kind": "flow"}, {}),
        ("mixture2d", {"prediction": "v", "zero_terminal_snr": True}, {}),
        ("mixture2d", {"prediction": "v"}, {"start": "pure noise"}),
        ("mixture2d", {"kind": "edm"}, {"start": "pure noise"}),
        (
            "mixture2d",
            {"prediction": "epsilon", "betas": "linear"},
            {"start": "pure noise", "noisiest_timestep": 768},
        ),
    ],
)
def test_the_protocol_says_from_what_sampling_starts(
    data: str, process: dict[str, Any], start: dict[str, Any]
) -> None:
    config = parse(TrainConfig, {"data": {"name": data}, "process": process}, "settings")
    protocol = prepare(EvaluationSpec(), load_data(config.data), build_process(config.process)).protocol
    assert {key: protocol[key] for key in ("start", "noisiest_timestep") if key in protocol} == start
