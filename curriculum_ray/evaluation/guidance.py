"""Which models can be guided without a classifier: those that have learnt to do without their condition."""

from __future__ import annotations

from collections.abc import Sequence

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Conditioning
from curriculum_ray.models import ModelSpec

__all__ = ["check_guidance"]


def check_guidance(
    scales: Sequence[float],
    conditioning: Conditioning,
    model: ModelSpec,
    setting: str = "evaluation.guidance",
    subject: str = "the data",
) -> None:
    """Refuse a scale other than 1 for a model that sees no condition, or was trained with it always.

    setting, subject: what the scales and whoever has the condition are called in the one line of the `ConfigError`.
    """
    if all(scale == 1 for scale in scales):
        return
    if not conditioning:
        raise ConfigError(f"{setting} needs a conditional model, but {subject} has neither class nor caption")
    if getattr(model, "conditional", None) is False:
        raise ConfigError(f"{setting} needs a conditional model, but model.conditional is false")
    if not getattr(model, "label_dropout", 1.0):
        raise ConfigError(
            f"{setting} needs a model trained with label_dropout, but label_dropout of {subject} is 0"
        )
