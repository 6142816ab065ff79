"""Optuna's suggestions as a function of the seed, the trial's index and the trials before it.

Optuna's samplers draw from a generator that restarts with each process, and some keep internal state. Here each
suggestion is made in a scratch study, which holds only the history, by a sampler with its own seed: an interrupted
search tries the same schedules as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from curriculum_ray.config import ConfigError
from tuning.evidence.metrics import DIRECTIONS
from tuning.search.samplers import TPE_LATEST, make_sampler
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace, SpaceFunction

__all__ = ["best_and_latest", "directions", "sampler_seed", "started_with", "suggest", "without_code"]

_BEST = 25
_CMA_STATE = "cma:optimizer"


def directions(config: StudyConfig) -> list[StudyDirection]:
    """Optuna's direction of each objective: of the metric and, with two objectives, of the images."""
    lower = DIRECTIONS[config.metric] == "min"
    metric = StudyDirection.MINIMIZE if lower else StudyDirection.MAXIMIZE
    return [metric, *([StudyDirection.MINIMIZE] if config.two_objectives else [])]


def sampler_seed(seed: int, index: int) -> int:
    """The seed, in [0, 2**32), of the sampler that chooses the trial at `index` in a study of this seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:4])


def suggest(
    config: StudyConfig,
    space: SearchSpace,
    index: int,
    history: Sequence[FrozenTrial],
    user_attrs: Mapping[str, Any] | None = None,
) -> FrozenTrial:
    """The running trial at `index`, from 0, among the study's searched trials, with all its parameters.

    history: the trials before it by number; those that are only queued do not count. The first trials are the
    start points of the space.
    """
    scratch = optuna.create_study(
        directions=directions(config),
        sampler=make_sampler(config, space, sampler_seed(config.seed, index)),
        pruner=optuna.pruners.NopPruner(),
    )
    scratch.add_trials(_relevant(config, [trial for trial in history if trial.state != TrialState.WAITING]))
    if index < len(space.start):
        scratch.enqueue_trial(space.start[index])
    SpaceFunction(space)(scratch.ask())
    return started_with(scratch.get_trials(deepcopy=False)[-1], user_attrs or {})


def started_with(trial: FrozenTrial, user_attrs: Mapping[str, Any]) -> FrozenTrial:
    """A running trial with the parameters of `trial`."""
    return create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={**user_attrs},
        # Attributes that the sampler will need later, e.g. the generation of this trial.
        system_attrs=trial.system_attrs,
    )


def _relevant(config: StudyConfig, history: list[FrozenTrial]) -> Iterable[FrozenTrial]:
    """The trials of the history on which the sampler's choice depends."""
    match config.sampler:
        case "random":
            return []
        case "tpe":
            return best_and_latest(history, lower=DIRECTIONS[config.metric] == "min")
        case "cmaes":
            return without_code(history)
        case _:
            return history


def best_and_latest(history: Sequence[FrozenTrial], lower: bool) -> list[FrozenTrial]:
    """The 25 best trials that are complete, the latest 250 that ended, and those that are running, by number.

    TPE compares at most the best 25 trials with all others, and weighs older ones less. With only the latest 250, a
    suggestion never costs more than with 275 trials.
    """
    ended = [trial for trial in history if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    complete = [
        (trial.value if lower else -trial.value, trial.number)
        for trial in ended
        if trial.state == TrialState.COMPLETE and trial.value is not None
    ]
    kept = {number for _, number in sorted(complete)[:_BEST]} | {
        trial.number for trial in ended[-TPE_LATEST:]
    }
    return [trial for trial in history if trial.state == TrialState.RUNNING or trial.number in kept]


def without_code(history: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials without text in their system attributes, except CMA-ES's latest state, if that holds only numbers.

    CMA-ES keeps its state as a pickle, in parts, in the study's storage. That may come from elsewhere (a shared
    database, a copied folder), and unpickling imports and calls whatever a pickle names. ConfigError where it names
    anything other than CMA-ES's own classes.
    """
    states = (
        (
            trial.number,
            {key: value for key, value in trial.system_attrs.items() if key.startswith(_CMA_STATE)},
        )
        for trial in reversed(history)
        if trial.state == TrialState.COMPLETE
    )
    latest, state = next(((number, state) for number, state in states if state), (None, {}))
    if state:
        _check_state([state.get(f"{_CMA_STATE}:{part}") for part in range(len(state))])
    return [
        create_trial(
            state=trial.state,
            values=trial.values,
            params=trial.params,
            distributions=trial.distributions,
            system_attrs={
                **{key: value for key, value in trial.system_attrs.items() if not isinstance(value, str)},
                **(state if trial.number == latest else {}),
            },
        )
        for trial in history
    ]


def _check_state(parts: list[Any]) -> None:
    """Load a state as Optuna will, with only the allowed classes."""
    try:
        _Numbers(io.BytesIO(bytes.fromhex("".join(parts)))).load()
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(f"the study's storage holds no state of CMA-ES: {error}") from None


class _Numbers(pickle.Unpickler):
    """Finds only the classes of CMA-ES's state."""

    _KNOWN: ClassVar = {
        ("cmaes._cma", "CMA"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._KNOWN:
            raise ConfigError(
                f"the study's storage holds a state of CMA-ES that names {module}.{name}, which is none of its own: "
                "choose another storage or --output"
            )
        return super().find_class(module, name)
