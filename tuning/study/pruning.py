"""Stops trials early by `halving: {rule: after_last_stage}`, and keeps the scores of the looks so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from curriculum_ray.runs.jobs import Progress
from curriculum_ray.runs.log import logged
from tuning.evidence.keys import TrialKey
from tuning.evidence.metrics import count, metric_name, number
from tuning.study.halving import AfterLastStage, promoted

__all__ = ["Judge", "logged", "rung_scores"]


class Judge:
    """The rule, called with every report of every run; it lives on the board, where all reports arrive.

    Only searched trials are judged, by key. Controls, twins and confirmations are never stopped. Its scores can be read
    again from the runs' logs, so that a killed study resumes with the same ones.
    """

    def __init__(self, rule: AfterLastStage, metric: str, total_images: int, lower_is_better: bool) -> None:
        self.rule, self.metric, self.total_images = rule, metric, total_images
        self.lower_is_better = lower_is_better
        self.scores: dict[int, dict[str, float]] = {}
        """Scores of the looks that counted, by images and key."""
        self._last_since: dict[str, int] = {}

    def __call__(self, key: str, progress: Progress) -> str | None:
        """Record a report; returns why the run should stop, or None."""
        preview = {} if progress.preview is None else progress.preview.metrics
        return self._judge(key, progress.images, progress.stage, progress.num_stages, preview)

    def _judge(
        self, key: str, images: int, stage: int, num_stages: int, preview: Mapping[str, float]
    ) -> str | None:
        if not TrialKey.searches(key) or stage < num_stages - 1:
            return None
        since = min(images, self._last_since.get(key, images))
        self._last_since[key] = since
        score = preview.get(self.metric)
        settled = images - since >= self.rule.settle * self.total_images
        if score is None or not settled or images >= self.total_images:
            return None
        if not math.isfinite(score):
            score = math.inf if self.lower_is_better else -math.inf
        rung = self.scores.setdefault(images, {})
        rung[key] = score
        keep = -(-len(rung) // self.rule.reduction)
        ranked = promoted(rung, len(rung), self.lower_is_better)
        place = ranked.index(key) + 1
        if place <= keep:
            return None
        return (
            f"stopped in its last stage after {count(images)} images: {metric_name(self.metric)} {number(score)} is "
            f"number {place} of {len(rung)} at that point, where the best {keep} continue"
        )

    def remember(self, folders: Iterable[Path]) -> None:
        """Read the logs of the trials in these folders, which are named by their keys."""
        for folder in sorted(folders):
            for line in logged(folder):
                if line.stage is not None and line.num_stages is not None:
                    self._judge(folder.name, line.images, line.stage, line.num_stages, line.preview or {})


def rung_scores(folder: Path, metric: str, total_images: int) -> list[tuple[int, float]]:
    """[images, metric] of each look at a run before its end."""
    return [
        (line.images, line.preview[metric])
        for line in logged(folder)
        if line.preview is not None and metric in line.preview and line.images < total_images
    ]
