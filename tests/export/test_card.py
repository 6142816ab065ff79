"""The model card is for others: it says what the model is, and not where things lay on the machine that trained it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from curriculum_ray.data import DataSpec
from curriculum_ray.diffusion import build_process
from curriculum_ray.evaluation.trained import Trained
from curriculum_ray.export.card import model_card
from curriculum_ray.training.config import TrainConfig


def card(**data: Any) -> str:
    config = TrainConfig(data=DataSpec(**data))
    trained = SimpleNamespace(
        config=config,
        process=build_process(config.process),
        shape=(3, 8, 8),
        images=1000,
        path=Path("/home/somebody/runs/checkpoint-1"),
    )
    return model_card(cast(Trained, trained), needs_package=False)


def test_folders_are_named_without_their_paths() -> None:
    text = card(
        name="/home/somebody/cats", conditioning="text", text_encoder="/home/somebody/clip", image_size=8
    )
    assert "somebody" not in text
    assert "on cats\n" in text
    assert '"name": "cats"' in text
    assert '"text_encoder": "clip"' in text


def test_embedded_sets_keep_their_name() -> None:
    assert '"name": "digits"' in card()
