"""Settings that do not apply are refused, and a fingerprint stands for all of a protocol."""

from __future__ import annotations

from typing import Any

import pytest

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.evaluation import EvaluationSpec
from curriculum_ray.evaluation.spec import fingerprint


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        (
            {"weights": "file.pth"},
            "weights needs the extractor inception-v3 or dinov2, but extractor is auto",
        ),
        (
            {"weights": "file.pth", "extractor": "digits-cnn"},
            "weights needs the extractor inception-v3 or dinov2",
        ),
        ({"sha256": "0" * 64, "extractor": "inception-v3"}, "sha256 needs a file given as weights"),
        ({"sha256": "abc", "extractor": "inception-v3", "weights": "x"}, "sha256"),
        ({"num_samples": 0}, "num_samples"),
        ({"steps": 0}, "steps"),
        ({"sampler": "magic"}, "sampler"),
        ({"resize": 32}, "resize is not a known key"),
        ({"guidance": [1.5, 1.5]}, "guidance must be scales of at least 0, all different"),
        ({"guidance": []}, "guidance must be scales"),
        ({"guidance": -1}, "guidance must be scales of at least 0"),
        ({"guidance_interval": [0.3, 3]}, "guidance_interval needs a guidance other than 1"),
        ({"guidance": 2, "guidance_interval": [3, 0.3]}, "guidance_interval must rise"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(EvaluationSpec, settings, "evaluation")
    assert rule in str(error.value)
    assert "\n" not in str(error.value)


def test_the_first_of_several_scales_is_an_evaluation_of_its_own() -> None:
    both = EvaluationSpec(guidance=(1.0, 2.0), guidance_interval=(0.3, 3.0))
    first = both.at_first_scale()
    assert (first.guidance, first.guidance_interval) == (1.0, None)
    assert parse(EvaluationSpec, first.model_dump(mode="json"), "evaluation") == first
    guided = EvaluationSpec(guidance=(2.0, 1.0), guidance_interval=(0.3, 3.0)).at_first_scale()
    assert (guided.guidance, guided.guidance_interval) == (2.0, (0.3, 3.0))


def test_fingerprint_depends_on_every_value_and_on_no_order() -> None:
    protocol = {"steps": 20, "ema": True, "weights": "abc"}
    assert fingerprint(protocol) == fingerprint(dict(reversed(protocol.items())))
    changed = [{**protocol, "steps": 21}, {**protocol, "ema": False}, {**protocol, "weights": "abd"}]
    assert len({fingerprint(each) for each in (protocol, *changed)}) == 4
