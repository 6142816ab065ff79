"""Runs a study: Ray Tune drives the trials of the plan through slots, and every event is recorded as it happens."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import threading
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from optuna.storages import BaseStorage
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial

from curriculum_ray.addresses import without_secrets
from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import one_line
from curriculum_ray.distributed.board import create_board
from curriculum_ray.distributed.fit import TrainingFailed
from curriculum_ray.distributed.ingest import share_stream
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.distributed.slots import Slots
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.folder import ERROR_FILE
from curriculum_ray.runs.jobs import JobStatus
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training.packed import pack_key
from curriculum_ray.words import number_of
from tuning.evidence.keys import TrialKey
from tuning.evidence.metrics import DIRECTIONS
from tuning.evidence.records import begun_trials
from tuning.folder.layout import TRIALS, TUNE
from tuning.search.pace import Pace
from tuning.search.ray_tune.board_trial import BoardTrial
from tuning.search.ray_tune.errors import past_tune, unwrapped
from tuning.search.ray_tune.searcher import TuneSearcher
from tuning.search.ray_tune.trial_place import RESTARTS, trial_resources
from tuning.search.samplers import study_name
from tuning.search.study_search import StudySearch
from tuning.study.config import StudyConfig
from tuning.study.controls import Controls
from tuning.study.ledger import StudyLedger
from tuning.study.plan import StudyPlan
from tuning.study.pruning import Judge
from tuning.study.space import SearchSpace
from tuning.study.trial_spec import TrialSpec

__all__ = ["SearchFailed", "search"]


# By default Tune saves a trial at its end, from the node of its actor into a folder of the driver's disk.
_NO_CHECKPOINTS = tune.CheckpointConfig(checkpoint_at_end=False)


_LOG = logging.getLogger(__name__)


class SearchFailed(TrainingFailed):
    """A search cannot continue; the message is the reason in one line."""


def search(
    config: StudyConfig,
    space: SearchSpace,
    study: StudyLedger,
    concurrent: int,
    rivals: Mapping[str, Mapping[str, Any]],
    storage: BaseStorage,
    pace: Pace,
    resources: ResourceSpec,
    copy: WorkingCopy | None = None,
) -> None:
    """Run the remaining trials of `study`, `concurrent` trials or packs at a time, inside a connection to Ray.

    pace: the study's clock, and the time that is left, if it is limited. resources: of a trial, within the study's
    share. copy: where the study's folder is in the working copy of a bucket.

    Raises KeyboardInterrupt on Ctrl-C after asking the trials to stop, and SearchFailed if anything other than a trial
    fails; the same call resumes later.
    """
    plan = StudyPlan(
        config,
        dict(study.records),
        rivals=rivals,
        plain_twin=Controls.of(len(rivals), space, config.run).plain_twin,
        time=pace.budget,
        closed=set(pace.clock.used.closed),
        begun=begun_trials(study.folder, study.records),
    )
    study.progress.expect(plan.total, plan.total_images)
    pace.note_left_out(plan)
    if plan.complete:
        return
    _keep_keys_here()
    board_name = f"board-{study.name}-{uuid.uuid4().hex[:8]}"
    board = create_board(board_name, _judge(config, study))

    def make_job(planned: TrialSpec, run: RunConfig) -> dict[str, Any]:
        pace.note_left_out(plan)
        pace.started(planned)
        job = study.begin(planned, run)
        return {
            "board": board_name,
            "job": replace(job, pack=pack_key(run.train)) if config.pack > 1 else job,
        }

    def ended(planned: TrialSpec, result: RunResult | None) -> None:
        study.arrived(planned.key)
        pace.ended(planned, result, study.folder / TRIALS / planned.key)
        if result is not None:
            record = study.finished(planned.key, result)
        else:
            status: JobStatus | None = ray.get(board.status.remote()).get(planned.key)
            if status is not None and status.state == "stopped" and status.reason:
                record = study.pruned(planned.key, status.reason)
            else:
                reason = None if status is None else status.reason
                record = study.failed(planned.key, reason or "its trial ended without a result")
        algorithm.ended(record)
        pace.note_left_out(plan)
        study.progress.expect(plan.total, plan.total_images)

    # Before any slot starts, so that errors in the storage are raised at once.
    name = study_name(config.storage, study.name, study.identity)
    algorithm = StudySearch(config, space, plan, storage, name, study.identity)
    if lost := algorithm.forgotten:
        study.progress.note(
            f"Optuna's study lacks {number_of(lost, 'schedule')} that this study has tried: further ones are suggested "
            "without regard to those"
        )
    tunes_own = study.folder / TUNE
    tuner = tune.Tuner(
        tune.with_resources(BoardTrial, trial_resources()),
        tune_config=tune.TuneConfig(
            metric=config.metric,
            mode=DIRECTIONS[config.metric],
            search_alg=TuneSearcher(algorithm, make_job, ended),
            num_samples=-1,
            max_concurrent_trials=concurrent * config.pack,
            reuse_actors=True,
            trial_dirname_creator=_trial_folder,
            trial_name_creator=_trial_folder,
        ),
        run_config=tune.RunConfig(
            name=TUNE,
            storage_path=str(tunes_own),
            callbacks=[Events(study, pace)],
            failure_config=RESTARTS,
            checkpoint_config=_NO_CHECKPOINTS,
            verbose=0,
        ),
    )
    with (
        _removed_at_the_end(tunes_own),
        Slots(
            board,
            study.slot_folders(concurrent),
            resources,
            share_stream(config.run),
            config.pack,
            copy,
            # Of the range that was asked for, so that all trials draw the same noise, whatever the study's share is.
            config.resources.pieces,
        ),
        _said_in_one_line(study.folder, config.storage),
        unwrapped(),
        _own_signals(),
    ):
        tuner.fit()
    pace.note_left_out(plan)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put back the handlers that Tune replaces: left by another way than Ctrl-C, it would swallow the next Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _removed_at_the_end(folder: Path) -> Iterator[None]:
    """Remove Ray Tune's own folder: it holds a pickle, and nothing reads it, as a study resumes from its records."""
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _said_in_one_line(folder: Path, storage: str | None) -> Iterator[None]:
    """Raise SearchFailed for errors that end Tune's run, e.g. of a lost storage server; the traceback goes to `folder`.

    ConfigError, and an OSError that names its path, are raised as they are. storage: the address of Optuna's storage,
    whose secrets an error may quote.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ConfigError) or (isinstance(error, OSError) and error.filename is not None):
            raise
        reason = without_secrets(one_line(f"{type(error).__name__}: {error}"), storage)
        path = folder / ERROR_FILE
        where = f" (the traceback is in {path})"
        try:
            path.write_text(without_secrets(traceback.format_exc(), storage))
        except OSError:  # the error may be that the disk is full
            where = ""
        raise SearchFailed(f"the search cannot go on: {reason}{where}") from error


def _keep_keys_here() -> None:
    """Do not pass AWS keys to the trials' actors, which do not need them: Ray's agents log what Tune passes on.

    Tune has no setting for that: it reads this table, which is not part of its documented interface. The keys must stay
    in the environment for the clients of MLflow and of the data.
    """
    class_cache.ENV_VARS_TO_PROPAGATE -= {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SECURITY_TOKEN",
        "AWS_SESSION_TOKEN",
    }


def _judge(config: StudyConfig, study: StudyLedger) -> Judge | None:
    """The judge that stops trials early, with the looks logged so far; None without one."""
    if config.halving.rule != "after_last_stage":
        return None
    lower = DIRECTIONS[config.metric] == "min"
    judge = Judge(config.halving, config.metric, config.run.total_images, lower)
    judge.remember((study.folder / TRIALS).glob("search-*"))
    return judge


class Events(tune.Callback):
    """Passes Tune's reports of trials on to the study."""

    def __init__(self, study: StudyLedger, pace: Pace) -> None:
        self._study, self._pace = study, pace

    def __getstate__(self) -> dict[str, Any]:
        """Nothing for Tune to pickle: a study resumes from its records."""
        return {}

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial's actor failed, and is started again: its run is not, but whoever waits should know."""
        said = str(trial.get_error() or "no reason is known").strip().splitlines()[-1]
        _LOG.warning(
            "%s: Ray Tune starts the trial's actor again, because it failed: %s",
            trial.config["job"].key,
            without_secrets(one_line(said, 300)),
        )

    @past_tune()
    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        """Workers took a trial, or it reported progress."""
        self._pace.clock.tick()
        key = TrialKey(trial.config["job"].key)
        if "attempt" in result:
            self._study.started(key)
        if "images" in result:
            self._study.progressed(
                key,
                result["images"],
                result["loss"],
                result["stage"],
                result["num_stages"],
                json.loads(result["points"]),
            )


def _trial_folder(trial: Any) -> str:
    return f"{trial.config['job'].key}-{trial.trial_id}"
