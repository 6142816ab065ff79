"""Settings of a whole run: its training and its evaluation."""

from __future__ import annotations

from pydantic import model_validator

from curriculum_ray.evaluation import EvaluationSpec
from curriculum_ray.training.config import TrainConfig

__all__ = ["RunConfig"]


class RunConfig(TrainConfig):
    """A training run and its evaluation; the contents of `config.yaml` in a run's folder."""

    evaluation: EvaluationSpec | None = EvaluationSpec()
    """The evaluation at the end, or null for none."""

    @model_validator(mode="after")
    def _previews_can_be_scored(self) -> RunConfig:
        if self.preview and self.preview.metric and self.evaluation is None:
            raise ValueError("preview.metric is on, but evaluation is null: there is nothing to score by")
        return self

    @model_validator(mode="after")
    def _captions_reach_the_network(self) -> RunConfig:
        scored = self.evaluation is not None and self.evaluation.clip_score is not None
        if scored and getattr(self.model, "conditional", None) is False:
            raise ValueError(
                "evaluation.clip_score needs a network that takes captions, but model.conditional is false"
            )
        return self

    @property
    def train(self) -> TrainConfig:
        """The part that determines the weights."""
        return TrainConfig.model_validate(self.model_dump(exclude={"evaluation"}))
