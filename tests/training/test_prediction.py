"""The default prediction of DDPM follows the data."""

from __future__ import annotations

from typing import Any

import pytest

from curriculum_ray.config import parse
from curriculum_ray.data import DataSpec
from curriculum_ray.diffusion import DDPMSpec
from curriculum_ray.training.config import TrainConfig
from curriculum_ray.training.difficulty.probe import ProbeSpec


@pytest.mark.parametrize("spec", [TrainConfig, ProbeSpec])
@pytest.mark.parametrize("given", [{}, {"num_timesteps": 20}, {"kind": "ddpm"}])
@pytest.mark.parametrize(
    ("data", "prediction"),
    [
        ({}, "epsilon"),
        ({"name": "shapes"}, "epsilon"),
        ({"name": "a-folder"}, "epsilon"),
        ({"name": "mixture2d"}, "v"),
        ({"name": "mixture2d", "set_size": 8}, "v"),
        ({"name": "tones"}, "v"),
        ({"name": "a-folder", "format": "latents"}, "v"),
    ],
)
def test_only_clipped_data_are_predicted_by_their_noise(
    spec: type[TrainConfig] | type[ProbeSpec], given: dict[str, Any], data: dict[str, Any], prediction: str
) -> None:
    settings = {"data": data, **({"process": given} if given else {})}
    process = parse(spec, settings, "settings").process
    assert isinstance(process, DDPMSpec)
    assert process.prediction == prediction
    assert process.num_timesteps == given.get("num_timesteps", 1000)


def test_what_is_given_stays() -> None:
    tones = {"data": {"name": "tones"}}
    given = parse(TrainConfig, {**tones, "process": {"prediction": "epsilon"}}, "settings")
    assert given.process == DDPMSpec(prediction="epsilon")
    assert parse(TrainConfig, given.model_dump(mode="json"), "settings") == given
    assert parse(TrainConfig, {**tones, "process": {"kind": "flow"}}, "settings").process.kind == "flow"
    made = TrainConfig(data=DataSpec(name="tones"), process=DDPMSpec(num_timesteps=20))
    assert made.process == DDPMSpec(num_timesteps=20)
    assert TrainConfig(data=DataSpec(name="tones")).process == DDPMSpec(prediction="v")


def test_zero_terminal_snr_needs_no_prediction_where_it_is_v_anyway() -> None:
    config = parse(
        TrainConfig, {"data": {"name": "tones"}, "process": {"zero_terminal_snr": True}}, "settings"
    )
    assert config.process == DDPMSpec(prediction="v", zero_terminal_snr=True)
