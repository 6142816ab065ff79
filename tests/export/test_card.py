"""The model card is for others: it says what the model is, and not where things lay on the machine that trained it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from curriculum_ray.data import DataSpec
from curriculum_ray.diffusion import build_process
from curriculum_ray.evaluation.trained import Trained
from curriculum_ray.export.card import model_card
from curriculum_ray.training.config import TrainConfig

ROOT = Path(__file__).parents[2]
CURVES = {
    "version": 1,
    "clusters": {"by": "convergence", "count": 4, "difficulty": "/home/somebody/convergence.json"},
    "order": {"direction": "easy_to_hard", "by": "/home/somebody/snr.json"},
    "pacing": {"rule": "fixed", "finish_by": 0.5},
}


def card(more: dict[str, Any] | None = None, **data: Any) -> str:
    config = TrainConfig.model_validate({"data": DataSpec(**data), **(more or {})})
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


def test_files_of_a_schedule_and_of_initial_weights_are_named_without_their_paths() -> None:
    text = card({"schedule": CURVES, "init_from": "/home/somebody/base"})
    assert "somebody" not in text
    assert "  difficulty: convergence.json\n" in text
    assert "  by: snr.json\n" in text
    assert '"path": "base"' in text


def test_every_setting_of_a_run_that_names_a_file_is_known() -> None:
    """Those of the evaluation are no settings of training."""
    named = {
        match[1]
        for path in (ROOT / "curriculum_ray").rglob("*.py")
        for match in re.finditer(r"^    (\w+): (?:LocalPath|FilePath)\b", path.read_text(), re.MULTILINE)
        if path.parent.name != "evaluation"
    }
    assert named == {"text_encoder", "vae", "path", "difficulty", "by"}


def test_embedded_sets_keep_their_name() -> None:
    assert '"name": "digits"' in card()


def test_images_seen_are_not_taken_for_the_size_of_the_data() -> None:
    assert "for 1,000 images seen, each counted every time" in card(name="digits")
