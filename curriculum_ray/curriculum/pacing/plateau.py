"""Plateau pacing (Kim et al. 2025): a stage ends when its loss stops improving, or at its deadline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum.pacing.base import (
    Images,
    Pacing,
    PacingRule,
    PacingState,
    Share,
    check_end,
    check_length,
    exactly_one,
    in_images,
    in_words,
    share_of,
    stages_fit,
)
from curriculum_ray.words import number_of

__all__ = ["NormalizedPlateau", "Plateau", "PlateauPacing"]

WINDOWS = (10, 5, 2, 1)
"""Steps of losses that several workers may exchange at once; each divides the first, the unit of log intervals."""


@dataclass(frozen=True)
class Plateau(Pacing):
    """Move on when the loss has not improved for `patience` (Kim et al. 2025).

    With l_i the mean loss of iteration i and s the smoothing, within one stage:

        m_1 = l_1,   m_i = s·m_{i-1} + (1 - s)·l_i
        improved_i  =  m_i < best - min_delta;   then best <- m_i and waited <- 0
        otherwise waited <- waited + 1 (or + the images of the iteration)
        waited >= patience:  stage <- stage + 1, best <- infinity, waited <- 0, m forgotten

    `best` must be forgotten, because the mean loss rises when a harder cluster joins. A loss that is not finite is no
    improvement and leaves m unchanged. In the last stage there is nothing left to decide.

    With N stages 0 .. N-1 and `finish` = f·B images, B the budget, each stage has a deadline: stage k ends at the
    latest at f·B·(k+1)/(N-1) images. A plateau may end it earlier, never later.
    """

    patience: int
    """Iterations, or images where `in_images`, without improvement that end a stage; at least 1."""
    last: int
    """The last stage."""
    in_images: bool = False
    """Whether `patience` counts images rather than iterations."""
    smoothing: float = 0.0
    """s in [0, 1): the weight of the past in the running mean; 0 reads the raw loss."""
    min_delta: float = 0.0
    """How much lower than `best` counts as an improvement, in units of the loss; at least 0."""
    first: int = 0
    """The stage to start from."""
    finish: int | None = None
    """f·B: images by which the last stage has started, whatever the losses; None for no deadlines."""
    window: int = 1
    """The largest of 10, 5, 2 and 1 steps that is at most a quarter of the patience, or 1."""

    reads_losses = True

    @property
    def ladder(self) -> Sequence[int]:
        """Every stage from the first to the last."""
        return range(self.first, self.last + 1)

    def init(self) -> PacingState:
        """The first stage, no loss seen."""
        return PacingState(stage=min(self.first, self.last))

    def advance(self, state: PacingState, images: int) -> PacingState:
        """Leave the stage k if images >= f·B·(k+1)/(N-1), its deadline."""
        if self.finish is None or state.stage >= self.last:
            return state
        if images * self.last < self.finish * (state.stage + 1):
            return state
        return self._next_stage(state)

    def update(self, state: PacingState, loss: Sequence[float], images: int) -> PacingState:
        """Read one iteration's mean loss, a row of one value."""
        return self._read(state, loss[0], images)

    def _read(self, state: PacingState, loss: float, images: int) -> PacingState:
        if state.stage >= self.last:
            return state
        smoothed = state.smoothed
        if math.isfinite(loss):
            smoothed = loss if smoothed is None else self.smoothing * smoothed + (1 - self.smoothing) * loss
            if state.best is None or smoothed < state.best - self.min_delta:
                return replace(state, best=smoothed, waited=0, smoothed=smoothed, seen=images)
        passed = images - (images if state.seen is None else state.seen) if self.in_images else 1
        if state.waited + passed >= self.patience:
            return self._next_stage(state)
        return replace(state, waited=state.waited + passed, smoothed=smoothed, seen=images)

    @staticmethod
    def _next_stage(state: PacingState) -> PacingState:
        return PacingState(stage=state.stage + 1, sums=state.sums, counts=state.counts)


@dataclass(frozen=True)
class NormalizedPlateau(Plateau):
    """`Plateau` on losses divided by the running mean of their cluster, so that no cluster's scale matters.

    With S_c and n_c the sum and the number of all losses of cluster c so far, this iteration's included, and
    s_c the sum in this iteration:

        l_i = Σ_c s_c / (S_c / n_c)  /  (number of losses in the iteration)

    It starts near 1 for a cluster that joins, falls while a cluster is being learnt, and returns to 1 as the running
    mean catches up with a constant loss.
    """

    per_cluster = True

    def update(self, state: PacingState, loss: Sequence[float], images: int) -> PacingState:
        """Read one iteration's row: for each of N clusters the sum and the number of its losses, interleaved."""
        if not all(map(math.isfinite, loss)):
            return self._read(state, math.nan, images)
        now, number = loss[0::2], loss[1::2]
        none = (0.0,) * len(now)
        sums = tuple(a + b for a, b in zip(state.sums or none, now, strict=True))
        counts = tuple(a + b for a, b in zip(state.counts or none, number, strict=True))
        scaled = [
            # A cluster whose losses are all 0 is at its mean.
            part * count / total if total > 0 else drawn
            for part, drawn, total, count in zip(now, number, sums, counts, strict=True)
        ]
        return self._read(replace(state, sums=sums, counts=counts), sum(scaled) / sum(number), images)


class PlateauPacing(PacingRule):
    """The paper's rule: a stage ends when its loss stops improving; the formula is in `Plateau`."""

    absolute = ("patience", "patience_images")

    rule: Literal["plateau"] = "plateau"
    """A stage ends when its loss has not improved for a while."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """τ in iterations, as in the paper; its meaning depends on the batch size."""
    patience_images: Images | None = None
    """τ in images, at least one step."""
    patience_share: Share | None = None
    """τ as a share of the budget, in (0, 1], at least one step."""
    patience_stage_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """τ as a share of the longest stage, finish_by·B/(N-1) images, in (0, 1); one step where that is less."""
    finish_by: Share | None = None
    """f in (0, 1]: stage k of N ends at the latest at f·B·(k+1)/(N-1) of B images; null for no deadlines."""
    smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Weight of the past in the running mean of the loss, in [0, 1); 0 reads the raw loss."""
    min_delta: float = Field(default=0.0, ge=0.0)
    """How much lower counts as an improvement, in units of the loss."""
    normalize: bool = False
    """Divide each loss by the running mean of its cluster; needs per-sample losses."""

    @model_validator(mode="after")
    def _check(self) -> PlateauPacing:
        exactly_one(self, "patience", "patience_images", "patience_share", "patience_stage_share")
        if self.patience_stage_share is not None and self.finish_by is None:
            raise ValueError(
                "patience_stage_share is a share of a stage's longest length and needs finish_by"
            )
        return self

    def build(self, num_stages: int, total_images: int | None, step: int = 1) -> Plateau:
        """The state machine; its docstring has the decision's formula."""
        first, last = self._ends(num_stages)
        patience = self._patience(num_stages, total_images)
        steps = self._patience_steps(num_stages, total_images, step)
        return (NormalizedPlateau if self.normalize else Plateau)(
            patience=patience,
            last=last,
            in_images=self.patience is None,
            smoothing=self.smoothing,
            min_delta=self.min_delta,
            first=first,
            finish=self._finish(total_images),
            window=next((window for window in WINDOWS if 4 * window <= steps), WINDOWS[-1]),
        )

    def check(self, num_stages: int, total_images: int | None, step: int) -> None:
        """Refuse ladders that cannot be walked, a patience below one step, and one too long for every stage."""
        first, last = self._ends(num_stages)
        if first == last:
            return
        if self.patience is None and self.patience_stage_share is None:
            name = "patience_images" if self.patience_images is not None else "patience_share"
            check_length(
                name, self._patience(num_stages, total_images), step, total_images, self.patience_share
            )
        finish = self._finish(total_images)
        if finish is not None:
            self._check_deadlines(num_stages, finish, total_images, step)
        elif total_images is not None:
            each, steps = self._patience_steps(num_stages, total_images, step) + 1, total_images // step
            if (last - first) * each >= steps:
                raise ConfigError(
                    f"pacing: {num_stages} stages, each of at least {each} steps by {self._in_words()}, do not fit "
                    f"into the {steps} steps of {total_images:,} images: "
                    f"{stages_fit(first + (steps - 1) // each + 1)}, or a shorter patience, or finish_by"
                )

    def check_window(self, window: int, num_stages: int, total_images: int | None, step: int) -> None:
        """Refuse a window above the patience, after which a plateau is seen too late."""
        first, last = self._ends(num_stages)
        if first == last:
            return
        patience = self._patience_steps(num_stages, total_images, step)
        if window > patience:
            raise ConfigError(
                f"window must be at most the patience, {number_of(patience, 'step')} by pacing.{self._in_words()}, "
                f"but got {window}"
            )

    def _check_deadlines(self, num_stages: int, finish: int, total_images: int | None, step: int) -> None:
        last = num_stages - 1
        assert total_images is not None
        if finish < last * step:
            later = (
                f", or finish_by at least {share_of(last * step, total_images)}"
                if (last + 1) * step <= total_images
                else ""
            )
            each = f"{number_of(step, 'image')} each"
            raise ConfigError(
                f"pacing: {num_stages} stages need {last} steps before finish_by, but {self.finish_by:.6g} of "
                f"{total_images:,} images has {finish // step} of {each}: {stages_fit(finish // step + 1)}{later}"
            )
        check_end(f"finish_by {self.finish_by:.6g}", finish, step, total_images)
        # The stage that a run starts with is the longest, as it has the time of those that it leaves out. Patience
        # counts from a stage's first loss, its best so far.
        joined = self._ends(num_stages)[0] + 1
        longest = -(-finish * joined // (last * step)) - 2
        if (
            self.patience_stage_share is None
            and self._patience_steps(num_stages, total_images, step) > longest
        ):
            fits = (
                f"at most {number_of(longest, 'step')} ({number_of(longest * step, 'image')}, "
                f"{longest * step / total_images:.3g} of the budget) fit{'s' if longest == 1 else ''}"
                if longest
                else "fewer stages or a later finish_by leave it room"
            )
            raise ConfigError(
                f"pacing: {self._in_words()} never ends a stage, because finish_by {self.finish_by:.6g} ends each of "
                f"{num_stages} stages after at most {finish * joined // last} images: {fits}, or rule fixed with "
                "finish_by alone"
            )

    def earliest(self, num_stages: int, total_images: int | None, step: int) -> tuple[tuple[int, int], ...]:
        """Each stage lasts 1 + τ steps, its first loss being its best, or ends at its deadline."""
        wait = self._patience_steps(num_stages, total_images, step)
        begins = [(self._ends(num_stages)[0], 0)]
        for stage, deadline in self._deadlines(num_stages, total_images, step):
            ends = begins[-1][1] + (1 + wait) * step
            begins.append((stage + 1, ends if deadline is None else min(ends, deadline)))
        return tuple(begins)

    def latest(self, num_stages: int, total_images: int | None, step: int) -> tuple[tuple[int, int], ...]:
        """Each stage ends at its deadline; without one the first stage never ends."""
        deadlines = self._deadlines(num_stages, total_images, step)
        begins = [(stage + 1, deadline) for stage, deadline in deadlines if deadline is not None]
        return ((self._ends(num_stages)[0], 0), *begins)

    def _deadlines(
        self, num_stages: int, total_images: int | None, step: int
    ) -> list[tuple[int, int | None]]:
        """Each stage except the last, with the images of the first step that reaches its deadline."""
        first, last = self._ends(num_stages)
        finish = self._finish(total_images)
        return [
            (stage, None if finish is None else -(-finish * (stage + 1) // (last * step)) * step)
            for stage in range(first, last)
        ]

    def _finish(self, total_images: int | None) -> int | None:
        return None if self.finish_by is None else in_images(None, self.finish_by, total_images, "finish_by")

    def _patience(self, num_stages: int, total_images: int | None) -> int:
        """τ in images, or in iterations if it was given in these."""
        if self.patience is not None:
            return self.patience
        if self.patience_stage_share is None:
            return in_images(self.patience_images, self.patience_share, total_images, "patience_share")
        finish = self._finish(total_images)
        assert finish is not None
        return max(1, round(self.patience_stage_share * finish / max(num_stages - 1, 1)))

    def _patience_steps(self, num_stages: int, total_images: int | None, step: int) -> int:
        """τ in steps of `step` images, rounded up."""
        patience = self._patience(num_stages, total_images)
        return patience if self.patience is not None else -(-patience // step)

    def _in_words(self) -> str:
        if self.patience is not None:
            return f"patience {self.patience}"
        if self.patience_stage_share is not None:
            return f"patience {self.patience_stage_share:.3g} of a stage"
        return f"patience {in_words(self.patience_images, self.patience_share)}"

    def describe(self) -> str:
        """The patience, in the unit in which it was given, and by when the last stage starts at the latest."""
        end = "" if self.finish_by is None else f" (done by {self.finish_by:.3g} of the budget)"
        return f"plateau {self._in_words()}{end}"
