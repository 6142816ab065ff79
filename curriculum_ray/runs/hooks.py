"""The hooks of a run, which write its folder and report to the board and to Ray Train."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from curriculum_ray.data import DataInfo, Dataset
from curriculum_ray.evaluation import save_grid
from curriculum_ray.evaluation.together import evaluate_together
from curriculum_ray.evaluation.visited import unvisited_line
from curriculum_ray.files import replace_file
from curriculum_ray.runs.folder import (
    RESULT_FILE,
    SAMPLES_FILE,
    SNAPSHOTS,
)
from curriculum_ray.runs.heldout_file import HeldoutFile
from curriculum_ray.runs.jobs import Assignment, Progress
from curriculum_ray.runs.log import LoggedLine, append_line, cut_log, logged
from curriculum_ray.runs.prepared import cached_evaluator
from curriculum_ray.runs.preview import Preview, Previews
from curriculum_ray.runs.result import RunResult
from curriculum_ray.runs.resume import resume
from curriculum_ray.runs.run_copy import RunCopy
from curriculum_ray.runs.written import gather_corrupt, read_corrupt, write_files, write_sampled
from curriculum_ray.training import checkpoint as checkpoints
from curriculum_ray.training.ema_posthoc import write_snapshot
from curriculum_ray.training.hooks import NoHooks
from curriculum_ray.training.stages import stages_walked
from curriculum_ray.training.trainer import LogLine, Trainer

__all__ = ["Announce", "Report", "RunHooks", "Warned"]

_LOG = logging.getLogger(__name__)

_GRACE_S = 10.0
"""Seconds that a run which stops gives the Ray tasks of its previews, once its checkpoint is written."""

Report = Callable[[Progress], bool]
"""Reports progress to the board; returns whether the run should stop."""
Announce = Callable[[Path | None, dict[str, Any]], None]
"""Reports to Ray Train, on every rank, the path of a checkpoint, or None where none could be written."""
Warned = Callable[[], bool]
"""Whether a checkpoint is due because a node will be lost; called at each log line but the last, with one answer on all
ranks."""


class RunHooks(NoHooks):
    """Resumes a run, writes its folder, and reports to the board and to Ray Train.

    Every rank must call its methods. Only rank 0 writes and reports. packed: how many runs train in the same steps.
    """

    def __init__(
        self,
        job: Assignment,
        trainer: Trainer,
        data: Dataset | DataInfo,
        report: Report,
        announce: Announce,
        warned: Warned,
        packed: int = 1,
    ) -> None:
        self._start, self._packed = time.perf_counter(), packed
        config = job.config
        self._evaluator = cached_evaluator(config)
        self.job, self.config, self.trainer = job, config, trainer
        self._report, self._announce, self._warned = report, announce, warned
        self._lead = trainer.world.rank == 0
        self._folder = job.folder
        self._copy = None if job.copy is None else RunCopy(job, job.copy, config.checkpoint.keep, self._lead)
        self._resumed_at = resume(trainer, job, self._copy)
        trainer.devices = sorted({*trainer.devices, *trainer.world.device_kinds()})
        _LOG.info(
            "%s starts at %d of %d images on %s",
            job.key,
            self._resumed_at,
            config.total_images,
            trainer.world.device,
        )
        if self._lead:
            self._folder.mkdir(parents=True, exist_ok=True)
            cut_log(self._folder, self._resumed_at)
            write_files(self._folder, config)
        self._heldout = HeldoutFile(self._folder, trainer.heldout, self._resumed_at) if self._lead else None
        self._shape = data.shape
        self._last: LoggedLine | None = None
        self._shown: Progress | None = None
        self._saved: int | None = None
        self._urgent = False
        self._previews = Previews(config, data, self._folder, job.key, self._lead)

    def catch_up(self) -> None:
        """Make the preview that was due where the run resumed, if it was lost in flight, and name earlier ones."""
        trainer, every = self.trainer, self.config.preview_steps
        if every and self._lead:
            self._previews.admit_lost(every * self.config.batch_size, trainer.images)
        over = trainer.steps == self.config.total_steps
        if every and trainer.steps and (over or trainer.steps % every == 0) and self._previews.lacks(trainer):
            last = LoggedLine(images=trainer.images)
            for line in logged(self._folder):
                if line.preview is None:
                    last = line.model_copy(update={"images": trainer.images})
            self._tell(self._previews.make(trainer, last))

    def on_log(self, line: LogLine) -> bool:
        """Write the log line and report to the board; returns whether the run should stop."""
        self._last = last = LoggedLine.of(line)
        stop = False
        if self._lead:
            append_line(self._folder, last)
            if self._copy is not None:
                self._copy.changed()
            assert self._heldout is not None
            self._shown = Progress.of(line, self.config.total_images, self._heldout.news())
            stop = self._report(self._shown)
            stop = self._tell(self._previews.collect()) or stop
        return stop

    def _tell(self, made: list[Preview]) -> bool:
        stop = False
        for line, metrics in made:
            append_line(self._folder, line.model_copy(update={"preview": metrics}))
            if self._shown is not None:
                stop = self._report(self._shown.with_preview(line.images, metrics)) or stop
        return stop

    def _await_previews(self, before: int, longest_s: float = math.inf) -> None:
        """Keep and report the previews due before `before` images; every rank must call it, and waits for them."""
        self._tell(self._previews.await_due(before, self.trainer.world.exchange, longest_s))

    def on_preview(self, trainer: Trainer) -> bool:
        """Draw samples and score them; returns whether the run should stop."""
        assert self._last is not None, "previews are drawn at log lines"
        return self._tell(self._previews.make(trainer, self._last))

    def on_heldout(self, trainer: Trainer) -> None:
        """Measure the held-out loss and keep it; the next log line reports it to the board."""
        assert trainer.heldout is not None
        losses = trainer.heldout.measure(trainer)
        if self._heldout is not None:
            self._heldout.add(trainer.images, losses)

    def on_snapshot(self, trainer: Trainer) -> None:
        """Save the power-function averages; on a full disk this snapshot is skipped."""
        assert trainer.power is not None
        tensors = trainer.snapshot()
        if self._lead:
            try:
                write_snapshot(self._folder / SNAPSHOTS, trainer.power.spec, tensors, trainer.images)
            except OSError as error:
                _LOG.warning(
                    "the snapshot after %d images was not written: %s", trainer.images, error.strerror
                )

    def wants_checkpoint(self) -> bool:
        """Whether a node will be lost."""
        self._urgent = self._warned()
        return self._urgent

    def on_checkpoint(self, trainer: Trainer) -> None:
        """Save the current state, once; a full disk is no error, as there may be room the next time."""
        urgent, self._urgent = self._urgent, False
        if not urgent:
            # A resumed run repeats the preview that is due now, but no earlier one: those must be in the log.
            self._await_previews(trainer.images)
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if self._saved == trainer.images:
            return
        self._saved = trainer.images
        root, key = self.job.checkpoints, self.job.key
        path = root / checkpoints.checkpoint_name(key, trainer.images)
        state = trainer.checkpoint()
        written: Path | None = path
        if self._lead:
            try:
                checkpoints.write(path, state)
            except checkpoints.CheckpointNotWritten as error:
                _LOG.warning("%s", error)
                written = None
        _LOG.debug("checkpoint %s", written)
        if self._copy is None:
            self._announce(written, self._metrics())
            if self._lead and written:
                checkpoints.prune(root, key, self.config.checkpoint.keep, written.name)
            return
        if self._lead and written:
            self._copy.checkpoint(written)
        # Ray Train keeps no account of it, since it may not be in the bucket yet.
        self._announce(None, self._metrics())

    def end(self, whole: bool) -> RunResult | None:
        """Write the last checkpoint and, if the budget was spent, evaluate; returns the result on rank 0, else None."""
        trainer, job, evaluator = self.trainer, self.job, self._evaluator
        copy = self._copy
        if self.config.data.streamed:
            gather_corrupt(self._folder, trainer.world.exchange)
        if not whole:
            self._save(trainer)
            self._await_previews(trainer.images, _GRACE_S)
            if copy is not None:
                copy.flush()
            return None
        final = self._folder / checkpoints.checkpoint_name(job.key, trainer.images)
        self._await_previews(trainer.images)
        state = trainer.checkpoint()
        result = None
        model = trainer.whole_model(evaluator is None or evaluator.spec.ema)
        if self._lead:
            checkpoints.write(final, state)
        # Only the preview of this moment, which a resumed run repeats.
        self._await_previews(trainer.images + 1)
        trained = time.perf_counter()
        scored = None
        if evaluator is not None:
            scored = evaluate_together(evaluator, trainer.process, model, trainer.conditioning, trainer.world)
        if self._lead:
            metrics, samples = scored or ({}, None)
            _LOG.info("evaluated in %.1f s: %s", time.perf_counter() - trained, metrics)
            if samples is not None:
                save_grid(samples, self._folder / SAMPLES_FILE)
            result = self._result(metrics, final)
            if copy is not None:
                copy.send_final(final)
            replace_file(self._folder / RESULT_FILE, json.dumps(result.to_json(), indent=1))
            if copy is not None:
                copy.finish(final)
        if self._folder == job.checkpoints:
            self._announce(final if copy is None else None, self._metrics())
        if self._lead and copy is None:
            for root in job.roots:
                checkpoints.prune(root, job.key, self.config.checkpoint.keep if root == self._folder else 0)
        return result

    def close(self) -> None:
        """Leave the run, finished or not."""
        if self._copy is not None:
            self._copy.close()

    def _metrics(self) -> dict[str, Any]:
        """The last log line, for Ray Train to keep with a checkpoint."""
        return {} if self._last is None else self._last.model_dump(mode="json", exclude_none=True)

    def _result(self, metrics: dict[str, float], final: Path) -> RunResult:
        """The result with the `metrics` of the evaluation; `final` is the last checkpoint."""
        trainer = self.trainer
        walked = stages_walked(trainer.sampler.ladder, trainer.stage_starts, trainer.images)
        write_sampled(self._folder, trainer, walked)
        return RunResult(
            images=trainer.images,
            metrics=metrics,
            fingerprint=None if self._evaluator is None else self._evaluator.fingerprint,
            protocol=None if self._evaluator is None else self._evaluator.protocol,
            devices=tuple(trainer.devices),
            seconds=time.perf_counter() - self._start,
            packed=self._packed,
            checkpoint=self.job.shown(final),
            stage_starts=_pairs(trainer.stage_starts),
            num_stages=trainer.sampler.num_stages,
            stages_asked=walked.stages_asked,
            stages_walked=walked.stages_walked,
            images_in_stage=tuple(walked.images_in_stage),
            history=tuple(self._previews.history),
            heldout=None if self._heldout is None else self._heldout.content,
            unvisited=unvisited_line(self.config, self._shape),
            resumed_at=self._resumed_at,
            loss=trainer.loss,
            skipped_updates=None if trainer.guard is None else trainer.guard.skipped,
            corrupt_images=tuple(sorted(set(read_corrupt(self._folder)))),
        )


def _pairs(stage_starts: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((images, stage) for images, stage in stage_starts)
