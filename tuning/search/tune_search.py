"""Running a study: Ray Tune drives the plan's trials through slots, and everything is written down as it happens."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import ray
from optuna.storages import BaseStorage
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial

from curriculum_ray.distributed.board import create_board
from curriculum_ray.distributed.slots import Slots
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.training.packed import pack_key
from tuning.evidence.records import DIRECTIONS
from tuning.folder.layout import TRIALS, TUNE
from tuning.search.board_trial import BoardTrial
from tuning.search.samplers import study_name
from tuning.search.study_search import StudySearch
from tuning.study.config import StudyConfig
from tuning.study.ledger import StudyLedger
from tuning.study.plan import StudyPlan
from tuning.study.pruning import Judge
from tuning.study.space import SearchSpace
from tuning.study.trial_spec import TrialSpec

__all__ = ["search"]


def search(
    config: StudyConfig,
    space: SearchSpace,
    study: StudyLedger,
    concurrent: int,
    rivals: Mapping[str, Mapping[str, Any]],
    storage: BaseStorage,
) -> None:
    """Run what is left of `study`, `concurrent` trials or packs of them at a time, inside a connection to Ray.

    Raises KeyboardInterrupt on Ctrl-C after the trials were told to stop; the same call goes on later.
    """
    plan = StudyPlan(config, dict(study.records), rivals=rivals)
    if plan.complete:
        return
    _keep_keys_here()
    board_name = f"board-{study.name}-{uuid.uuid4().hex[:8]}"
    board = create_board(board_name, _judge(config, study))

    def make_job(planned: TrialSpec, run: RunConfig) -> dict[str, Any]:
        packs = {"pack": pack_key(run.train)} if config.pack > 1 else {}
        return {"board": board_name, "job": {**study.begin(planned, run), **packs}}

    def ended(planned: TrialSpec, result: Mapping[str, Any] | None) -> None:
        if result is not None:
            record = study.finished(planned.key, result)
        else:
            status = ray.get(board.status.remote()).get(planned.key, {})
            reason = status.get("reason") or "its trial ended without a result"
            stopped = status.get("state") == "stopped" and status.get("reason")
            record = (study.pruned if stopped else study.failed)(planned.key, reason)
        plan.ended(record)
        study.progress.total_trials = plan.total

    # Before any slot starts: what is wrong with what the storage holds is said at once.
    name = study_name(config.storage, study.name, study.identity)
    algorithm = StudySearch(config, space, plan, storage, make_job, ended, name, study.identity)
    with Slots(board, study.slot_folders(concurrent), config.resources, pack=config.pack):
        tune.Tuner(
            tune.with_resources(BoardTrial, tune.PlacementGroupFactory([{"memory": 1.0}])),
            tune_config=tune.TuneConfig(
                metric=config.metric,
                mode=DIRECTIONS[config.metric],
                search_alg=algorithm,
                num_samples=-1,
                max_concurrent_trials=concurrent * config.pack,
                reuse_actors=True,
                trial_dirname_creator=_trial_folder,
                trial_name_creator=_trial_folder,
            ),
            run_config=tune.RunConfig(
                name=TUNE, storage_path=str(study.folder / TUNE), callbacks=[Events(study)], verbose=0
            ),
        ).fit()


def _keep_keys_here() -> None:
    """Hand no keys of AWS to the trials' actors, which do not need them: Ray's agents log what Tune hands on."""
    class_cache.ENV_VARS_TO_PROPAGATE -= {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SECURITY_TOKEN",
        "AWS_SESSION_TOKEN",
    }


def _judge(config: StudyConfig, study: StudyLedger) -> Judge | None:
    """Who stops trials on the way, with what the study's trials have logged so far; None where nobody does."""
    if config.fidelity.rule != "after_last_stage":
        return None
    lower = DIRECTIONS[config.metric] == "min"
    judge = Judge(config.fidelity, config.metric, config.run.total_images, lower)
    judge.remember((study.folder / TRIALS).glob("search-*"))
    return judge


class Events(tune.Callback):
    """Passes on to the study what Tune hears from its trials."""

    def __init__(self, study: StudyLedger) -> None:
        self._study = study

    def __getstate__(self) -> dict[str, Any]:
        """Nothing for Tune to pickle: a study resumes from its own records."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        """A trial reported progress."""
        self._study.progressed(trial.config["job"]["key"], result)


def _trial_folder(trial: Any) -> str:
    return f"{trial.config['job']['key']}-{trial.trial_id}"
