"""The searched trials of a study, rung by rung: the next rung is known once all runs of the previous one have ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tuning.evidence.keys import TrialKey
from tuning.evidence.metrics import DIRECTIONS
from tuning.evidence.records import TrialRecord
from tuning.study.config import StudyConfig
from tuning.study.halving import promoted
from tuning.study.trial_spec import TrialSpec

__all__ = ["rungs"]


def rungs(
    config: StudyConfig, records: Mapping[TrialKey, TrialRecord], eliminated: set[TrialKey]
) -> Iterator[list[TrialSpec]]:
    """The rungs of all brackets in order; the next one may be taken when all earlier trials are in `records`.

    A bracket of which no trial is in `records` was left out.

    Adds to `eliminated`, by Optuna's key, the schedules dropped at a smaller budget: they get no run at the full one.
    With the full budget only, there is one rung with all trials.
    """
    size = config.halving.bracket(config.trials)
    for start in range(0, config.trials, size):
        yield from _bracket(config, records, range(start, min(start + size, config.trials)), eliminated)


def _bracket(
    config: StudyConfig, records: Mapping[TrialKey, TrialRecord], indices: range, eliminated: set[TrialKey]
) -> Iterator[list[TrialSpec]]:
    budgets = config.halving.budgets(config.run.total_images)
    survivors = config.halving.survivors(len(indices))
    rung = [_first(config, index, None if len(budgets) == 1 else budgets[0]) for index in indices]
    yield rung
    for level in range(1, len(budgets)):
        top = level == len(budgets) - 1
        rung = [trial for trial in rung if trial.key in records]
        below, keep = rung, _best(config, records, rung, survivors[level])
        eliminated |= {trial.optuna for trial in below if trial.optuna and trial.optuna not in keep}
        rung = [
            _repeat(config, records[trial.key], trial, level, None if top else budgets[level])
            for trial in below
            if trial.optuna in keep
        ]
        yield rung


def _best(
    config: StudyConfig, records: Mapping[TrialKey, TrialRecord], rung: list[TrialSpec], keep: int
) -> list[TrialKey]:
    """Optuna's keys of the schedules of a rung that are promoted."""
    scores = {
        trial.optuna: records[trial.key].metrics[config.metric]
        for trial in rung
        if trial.optuna is not None and records[trial.key].measured(config.metric)
    }
    return promoted(scores, keep, DIRECTIONS[config.metric] == "min")


def _first(config: StudyConfig, index: int, images: int | None) -> TrialSpec:
    """A schedule that the sampler has yet to choose; `images` is None at the full budget."""
    key = TrialKey.search(index)
    return TrialSpec(
        key=key if images is None else key.at_rung(0),
        role="searched" if images is None else "rung",
        seed=config.seed,
        optuna=key,
        images=images,
    )


def _repeat(
    config: StudyConfig, record: TrialRecord, below: TrialSpec, level: int, images: int | None
) -> TrialSpec:
    """The same schedule at the next budget; `images` is None at the full one."""
    assert below.optuna is not None
    return TrialSpec(
        key=below.optuna if images is None else below.optuna.at_rung(level),
        role="searched" if images is None else "rung",
        seed=config.seed,
        optuna=below.optuna,
        images=images,
        schedule=record.drawn_by,
        settings=record.settings,
    )
