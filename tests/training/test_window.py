"""A window of losses is refused where a plateau could not be seen in it, and where the run ends before it does."""

from __future__ import annotations

from typing import Any

import pytest

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.training.config import TrainConfig

PLATEAU = {"rule": "plateau", "patience": 20}
PACED: dict[str, Any] = {
    "clusters": {"by": "uniform", "count": 3},
    "order": {"direction": "easy_to_hard"},
    "pacing": PLATEAU,
}


def _config(window: int, **pacing: Any) -> TrainConfig:
    schedule = {**PACED, "pacing": pacing} if pacing else {}
    settings = {"batch_size": 16, "images": 1_600, "window": window, "schedule": schedule}
    return parse(TrainConfig, settings, {"": "settings", "window": f"--set window={window}"})


@pytest.mark.parametrize(
    ("most", "pacing"),
    [
        (20, PLATEAU),
        (20, {"rule": "plateau", "patience_images": 320}),
        (1, {"rule": "plateau", "patience": 1}),
        (100, {"rule": "linear", "full_share": 0.5}),
        (100, {}),
    ],
)
def test_a_window_is_at_most_the_patience_and_the_whole_run(most: int, pacing: dict[str, Any]) -> None:
    assert _config(most, **pacing).window == most
    assert _config(0, **pacing).window == 0
    with pytest.raises(
        ConfigError, match=f"^--set window={most + 1}: window must be at most the (patience, )?{most} step"
    ):
        _config(most + 1, **pacing)


def test_the_numbers_are_said() -> None:
    with pytest.raises(ConfigError, match=r"at most the patience, 20 steps by .* 20, but got 21$"):
        _config(21, **PLATEAU)
    with pytest.raises(ConfigError, match=r"window must be at most the 100 steps of the run, but got 10000$"):
        _config(10_000)
