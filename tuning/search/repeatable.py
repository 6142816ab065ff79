"""Optuna's samplers without memory: what is suggested for trial k depends on the seed, k and the trials so far.

Optuna's own hold a random generator that begins anew with each process, so that a search that was interrupted would
be handed the schedules of its first trials again.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from curriculum_ray.config import ConfigError

__all__ = ["OrderedNSGAII", "PlainCmaEs", "Repeatable"]


class Repeatable(BaseSampler):
    """The sampler that `make(seed)` returns, made anew for each draw with a seed of that draw's own.

    A draw is that of all parameters that a trial has in common with earlier ones, or of any other by its name: a trial
    that a kill left with some of its parameters gets the others as if nothing had happened.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._relative: tuple[int, BaseSampler] | None = None

    def _for(self, trial: FrozenTrial, draw: str) -> BaseSampler:
        digest = hashlib.sha256(f"{self._seed}/{trial.number}/{draw}".encode()).digest()
        return self._make(int.from_bytes(digest[:4]))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        sampler = self._for(trial, "relative")
        self._relative = (trial.number, sampler)
        return sampler.infer_relative_search_space(_others(study, trial), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        # The same one for both: some keep what they inferred.
        assert self._relative is not None
        number, sampler = self._relative
        assert number == trial.number
        return sampler.sample_relative(_others(study, trial), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        sampler = self._for(trial, f"independent {param_name}")
        return sampler.sample_independent(_others(study, trial), trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._for(trial, "before").before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._for(trial, "after").after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Nothing: there is no generator that two processes could share."""


class _Others:
    """A study without one of its trials: everything else is the study's own."""

    def __init__(self, study: optuna.Study, number: int) -> None:
        self._study, self._number = study, number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(self, *given: Any, **named: Any) -> list[FrozenTrial]:
        return self._without(self._study.get_trials(*given, **named))

    def _get_trials(self, *given: Any, **named: Any) -> list[FrozenTrial]:
        return self._without(self._study._get_trials(*given, **named))

    def _without(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        return [trial for trial in trials if trial.number != self._number]


def _others(study: optuna.Study, trial: FrozenTrial) -> Any:
    """What a sampler sees: the trial itself may hold what a kill left of it, which would count as a trial tried."""
    return _Others(study, trial.number)


class OrderedNSGAII(optuna.samplers.NSGAIISampler):
    """Optuna's NSGA-II with the parents of a generation in the order of their numbers.

    Optuna's own have another order when they are chosen than when they are read back from the storage.
    """

    def select_parent(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)


class PlainCmaEs(optuna.samplers.CmaEsSampler):
    """Optuna's CMA-ES, which keeps its state as a pickle in the study's storage; here one that holds numbers alone.

    A storage may come from elsewhere (a shared database, a copied folder), and unpickling runs what it names.
    """

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        for trial in reversed(completed_trials):
            parts = {
                key: value
                for key, value in trial.system_attrs.items()
                if key.startswith(self._attr_key_optimizer)
            }
            if parts:
                try:
                    return _Numbers(io.BytesIO(bytes.fromhex(self._concat_optimizer_attrs(parts)))).load()
                except (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError) as error:
                    raise ConfigError(f"the study's storage holds no state of CMA-ES: {error}") from None
        return None


class _Numbers(pickle.Unpickler):
    """Finds the classes of CMA-ES's state, and nothing else."""

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
