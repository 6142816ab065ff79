"""A study's ledger: records every event of its trials on disk, in MLflow, and on the display."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from curriculum_ray.addresses import without_secrets
from curriculum_ray.config import ConfigError, load_yaml
from curriculum_ray.files import replace_file
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.folder import CONFIG_FILE, SCHEDULE_FILE
from curriculum_ray.runs.jobs import Job
from curriculum_ray.runs.log import logged
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training.checkpoint import SAMPLED_FROM, find_checkpoints, prune
from tuning.evidence import previews
from tuning.evidence.arms import Ranking
from tuning.evidence.heldout import as_history
from tuning.evidence.keys import TrialKey
from tuning.evidence.metrics import MARGIN, metric_name
from tuning.evidence.records import TrialRecord, load_records
from tuning.evidence.winner import Registered, registered
from tuning.folder.identity import Content, Identity, claim
from tuning.folder.in_bucket import Kept
from tuning.folder.journal import mend_journal
from tuning.folder.layout import JOURNAL_FILE, RECORD_FILE, SLOT_PREFIX, SLOTS, STUDY_FILE, TRIALS
from tuning.folder.status import State, StatusFile
from tuning.study.conclusion import conclude
from tuning.study.config import StudyConfig
from tuning.study.pruning import rung_scores
from tuning.study.publish import publish
from tuning.study.trial_spec import TrialSpec
from tuning.terminal.display import Display
from tuning.tracking import Tracker
from tuning.tracking.registry import model_name, own_model, register

__all__ = ["StudyLedger", "open_folder"]

_LOG = logging.getLogger(__name__)

# MLflow's word for the status of a trial that has ended.
_MLFLOW = {"finished": "FINISHED", "failed": "FAILED", "pruned": "KILLED"}
# The state of a study whose MLflow run ends with that status.
_STATES: dict[str, State] = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}


def open_folder(folder: Path, config: StudyConfig, content: Content) -> Identity:
    """Make the study's folder, or check that the study in it has the same content; ConfigError otherwise."""
    identity = claim(folder, content, "study")
    try:
        (folder / TRIALS).mkdir(parents=True, exist_ok=True)
        mend_journal(folder / JOURNAL_FILE)
        _write(folder / STUDY_FILE, config.decisive())
    except OSError as error:
        raise ConfigError(f"--output {folder} cannot be written: {error.strerror}") from None
    return identity


def _write(path: Path, data: Any) -> None:
    replace_file(path, json.dumps(data, indent=1))


def _images_logged(folder: Path) -> int:
    """Images at the last line of the log of the run in `folder`; 0 without one."""
    lines = logged(folder)
    return lines[-1].images if lines else 0


class StudyLedger:
    """Records the events of a study's trials in their folders, in MLflow, and on the display."""

    def __init__(
        self,
        name: str,
        folder: Path,
        tracker: Tracker,
        progress: Display,
        tags: Mapping[str, Any],
        params: Mapping[str, Any],
        identity: Identity,
        margin: float = MARGIN,
        kept: Kept | None = None,
        metric: str | None = None,
    ) -> None:
        """kept: where the folder is in the working copy of a bucket. metric: without which no trial has finished."""
        self._kept, self._metric = kept, metric
        self.name, self.folder, self.tracker, self.progress, self.tags = name, folder, tracker, progress, tags
        self.identity, self.margin = identity, margin
        tracker.keep_in(folder)
        self.run = tracker.study(name, params, tags, identity)
        self.records = load_records(folder)
        self._runs: dict[TrialKey, str] = {}
        self._open: dict[TrialKey, TrialRecord] = {}
        self.problems: list[str] = []
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._published: list[Future[None]] = []
        self._publish_what_is_missing()
        self._status = StatusFile(folder, name, progress.snapshot)

    def slot_folders(self, count: int) -> list[Path]:
        """The folders in which slots keep the checkpoints of their current trials."""
        return [self.folder / SLOTS / f"{SLOT_PREFIX}{slot}" for slot in range(count)]

    def begin(self, planned: TrialSpec, run: RunConfig) -> Job:
        """Open a trial's record and its MLflow run; returns the job for the board."""
        folder = self.folder / TRIALS / planned.key
        earlier = [*self.records.values(), *self._open.values()]
        number = 1 + max((each.trial for each in earlier), default=-1)
        record = planned.begun(number, run, folder, {each.arm_id: each.arm for each in earlier})
        self._open[planned.key] = record
        self._open_run(record, run.model_dump(mode="json"))
        self.progress.queued(record, _images_logged(folder))
        slots = set((self.folder / SLOTS).glob(f"{SLOT_PREFIX}*"))
        if self._kept is None:
            return Job.of(planned.key, run, folder, sorted(slots))
        # Its parameters must be there before any of its checkpoints.
        self._kept.send_all()
        return Job.of(planned.key, run, folder, sorted({*slots, *self._kept.slots}), copy=self._kept.copy)

    def arrived(self, key: TrialKey) -> None:
        """A trial has ended, wherever it ran: its files are brought here."""
        if self._kept is not None:
            self._kept.bring(self.folder / TRIALS / key)

    def started(self, key: TrialKey) -> None:
        """Workers took a trial, for the first time or after they were lost."""
        if (record := self._open.get(key)) is not None:
            _LOG.info("trial %s starts: %s", key, record.name)
            self.progress.started(record)

    def _open_run(self, record: TrialRecord, params: Mapping[str, Any]) -> None:
        """Open the trial's MLflow run, the same one at each start of the study."""
        tags = {
            "role": record.role,
            "control": record.control,
            "schedule_id": record.schedule_id,
            "arm_id": record.arm_id,
            "arm": record.arm,
            "seed": record.seed,
            "schedule": record.description or record.drawn_by.describe(),
        }
        self._runs[record.key] = self.tracker.trial(self.run, record.key, record.name, params, tags)

    def _publish_what_is_missing(self) -> None:
        """Store trials that have a record but no finished MLflow run, e.g. after a kill, or in a new store."""
        for key, record in self.records.items():
            status = _MLFLOW[record.status]
            if self.tracker.has_ended(self.run, key, status):
                continue
            settings = record.ran_in / CONFIG_FILE
            self._open_run(record, load_yaml(settings) if settings.exists() else {})
            if status == "FINISHED":
                self._publish_soon(record)
            else:
                self.tracker.finish(self._runs[key], status, record.reason)

    def progressed(
        self,
        key: TrialKey,
        images: int,
        loss: float,
        stage: int,
        num_stages: int,
        points: Sequence[tuple[int, Mapping[str, float]]],
    ) -> None:
        """A trial reported its loss and stage. points: (images, metrics) of its log lines since the previous report."""
        record = self._open.get(key)
        if record is None:
            return
        self.tracker.log_history(self._runs[key], points)
        self.progress.update(record.trial, images, stage, num_stages, loss)

    def finished(self, key: TrialKey, result: RunResult) -> TrialRecord:
        """A trial reached its budget and was evaluated; it failed where the study's metric is not a finite number."""
        record = self._open[key].finished(result, self._rungs(self._open[key]))
        if self._metric is not None and not record.measured(self._metric):
            return self.failed(key, f"{metric_name(self._metric)} is {record.metrics.get(self._metric)}")
        del self._open[key]
        self._end(record)
        _LOG.info("trial %s finished: %s", key, record.metrics)
        self.progress.finished(record)
        self._publish_soon(record)
        return record

    def failed(self, key: TrialKey, reason: str) -> TrialRecord:
        """A trial could not be finished."""
        reason = without_secrets(reason)
        record = self._open.pop(key).failed(reason)
        self._end(record)
        _LOG.info("trial %s failed: %s", key, reason)
        self.progress.failed(record)
        self.tracker.finish(self._runs[key], "FAILED", reason)
        return record

    def pruned(self, key: TrialKey, reason: str) -> TrialRecord:
        """A trial was stopped early for its score; its checkpoints are deleted, since it will not be resumed."""
        record = self._open.pop(key)
        record = record.pruned(reason, _images_logged(record.ran_in), self._rungs(record))
        self._end(record)
        for slot in (self.folder / SLOTS).glob(f"{SLOT_PREFIX}*"):
            prune(slot, key, keep=0)
        if self._kept is not None:
            self._kept.forget(key)
        self.progress.finished(record)
        self.tracker.finish(self._runs[key], _MLFLOW["pruned"], reason)
        return record

    def _rungs(self, record: TrialRecord) -> list[tuple[int, float]]:
        """The scores of a searched trial's looks, for Optuna: (images, metric) each."""
        if record.role != "searched":
            return []
        return rung_scores(record.ran_in, self.progress.metric, record.total_images)

    def _end(self, record: TrialRecord) -> None:
        record.ran_in.mkdir(parents=True, exist_ok=True)
        _write(record.ran_in / RECORD_FILE, record.to_json())
        self.records[record.key] = record
        if self._kept is not None:
            self._kept.send()

    def _publish_soon(self, record: TrialRecord) -> None:
        self._published.append(self._publisher.submit(self._publish, record, self._runs[record.key]))

    def _publish(self, record: TrialRecord, run: str) -> None:
        """Store a finished trial's metrics and artifacts; runs beside the next trials."""
        for images, metrics in record.history:
            self.tracker.log(run, previews.as_metrics(metrics), images)
        self.tracker.log_history(run, as_history(record))
        publish(self.tracker, run, record.ran_in, record)

    def interrupted(self) -> list[str]:
        """Mark the trials that are still running as stopped, here and in MLflow; they resume with the study."""
        self.progress.stopped()
        for key in self._open:
            self.tracker.finish(self._runs[key], "KILLED", "interrupted; the same command resumes it")
        return sorted(self._open)

    def conclude(self, report: Path) -> None:
        """Store the study's answer and its report, which is in its folder, in its MLflow run."""
        conclude(self.tracker, self.run, self.ranking, report)

    @property
    def ranking(self) -> Ranking:
        return Ranking.of(self.records.values(), self.progress.metric, self.margin)

    def close(self, status: str) -> None:
        """Wait for pending publications, and end the study's MLflow run."""
        self._status.close(_STATES[status])
        self._publisher.shutdown(wait=True)
        self.problems = [
            f"a trial's results were not stored: {type(error).__name__}: {error}"
            for future in self._published
            if (error := future.exception()) is not None
        ]
        answers = registered(self.ranking) if status == "FINISHED" else []
        if answers:
            self._store_model(answers[0])
        self.tracker.finish(self.run, status)
        if self.tracker.flush():
            self._register(answers)

    def _store_model(self, found: Registered) -> None:
        """Store what the study stands for as a model: the averaged weights of the run's last checkpoint."""
        record = self.records[found.key]
        if self._kept is not None:
            self._kept.bring_checkpoint(record.ran_in, found.key)
        last = next(iter(find_checkpoints(record.ran_in, found.key)), None)
        files = [] if last is None else [path for name in SAMPLED_FROM if (path := last / name).exists()]
        if len(files) < len(SAMPLED_FROM):
            return
        files += [record.ran_in / name for name in (CONFIG_FILE, SCHEDULE_FILE)]
        params = {
            "images": record.images,
            "seed": record.seed,
            "schedule": record.description or record.drawn_by.describe(),
            **record.metrics,
        }
        tags = {"verdict": found.verdict, "answer": found.description, "arm_id": record.arm_id}
        # A model's name must not hold dots.
        name = model_name(self.name).replace(".", "-")
        run = self.tracker.handle(self.run, found.key)
        self.tracker.model(run, name, [path for path in files if path.exists()], params, tags)

    def _register(self, answers: Sequence[Registered]) -> None:
        """Register the study's answer under its name in MLflow's registry; a store without one is a problem."""
        for found in answers:
            run = self.tracker.run_id(self.tracker.handle(self.run, found.key))
            if run is None:
                continue
            tags = {"verdict": found.verdict, "metric": self.progress.metric, "trial": found.key}
            try:
                store = self.tracker.store
                name = own_model(store, self.name, self.identity.id)
                register(store, name, run, found.alias, found.description, tags)
            except Exception as error:  # every kind of store fails in its own way
                reason = self.tracker.store.redacted(str(error))
                self.problems.append(f"the alias {found.alias} was not registered: {reason}")
