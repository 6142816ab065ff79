"""A study that is interrupted: its trials are shown as such, and go on from where they were."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.log import LoggedLine, append_line
from curriculum_ray.training.checkpoint import checkpoint_name
from tests.tuning.studies import EXPERIMENT, result
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import load_records
from tuning.folder.identity import Identity
from tuning.folder.layout import SLOTS, TRIALS
from tuning.folder.status import read_status
from tuning.study.ledger import StudyLedger
from tuning.study.trial_spec import TrialSpec
from tuning.terminal.display import Display
from tuning.tracking import Tracker

RUN = RunConfig(images=1024, batch_size=64)
UNIFORM = TrialSpec(
    key=TrialKey.uniform(), role="control", control="uniform", seed=0, schedule=CurriculumSchedule.uniform()
)


def test_an_interrupted_trial_is_no_running_one_and_counts_with_what_it_had_seen(output: Path) -> None:
    folder, identity = output / "mine", Identity("0" * 32, "1" * 64)
    with Tracker.open(None, output, EXPERIMENT) as tracker:

        def ledger() -> StudyLedger:
            shown = Display(2, RUN.total_images, Console(file=io.StringIO(), _environ={}))
            return StudyLedger("mine", folder, tracker, shown, {}, {}, identity)

        folder.mkdir()
        study = ledger()
        job = study.begin(UNIFORM, RUN)
        study.started(UNIFORM.key)
        job.folder.mkdir(parents=True)
        for images in (256, 512):
            append_line(job.folder, LoggedLine(images=images, loss=0.5))
            study.progressed(UNIFORM.key, images, 0.5, 0, 1, [])
        (folder / SLOTS / "slot-0" / checkpoint_name(UNIFORM.key, 256)).mkdir(parents=True)
        assert study.interrupted() == [UNIFORM.key]
        assert study.progress.snapshot().running == ()
        study.close("KILLED")
        (trial,) = read_status(folder).progress.interrupted
        assert (trial.key, trial.images, trial.resumes_at) == (UNIFORM.key, 512, 256)
        assert read_status(folder).progress.running == ()

        again = ledger()
        assert again.begin(UNIFORM, RUN).folder == folder / TRIALS / UNIFORM.key
        assert again.progress.snapshot().images == 512
        again.close("KILLED")


def test_a_trial_whose_metric_is_no_number_has_failed(output: Path) -> None:
    folder, identity = output / "mine", Identity("0" * 32, "1" * 64)
    with Tracker.open(None, output, EXPERIMENT) as tracker:
        folder.mkdir()
        shown = Display(2, RUN.total_images, Console(file=io.StringIO(), _environ={}))
        study = StudyLedger("mine", folder, tracker, shown, {}, {}, identity, metric="kid")
        study.begin(UNIFORM, RUN).folder.mkdir(parents=True)
        ended = study.finished(UNIFORM.key, result(metrics={"fid": 10.0, "kid": math.nan}))
        study.close("FINISHED")
    assert (ended.status, ended.reason) == ("failed", "KID is nan")
    assert load_records(folder)[UNIFORM.key].status == "failed"


def test_after_a_kill_no_two_trials_have_the_same_number(output: Path) -> None:
    folder, identity = output / "mine", Identity("0" * 32, "1" * 64)
    seeds = [replace(UNIFORM, key=UNIFORM.key.confirmation(seed), seed=seed) for seed in range(1000, 1003)]
    with Tracker.open(None, output, EXPERIMENT) as tracker:

        def ledger() -> StudyLedger:
            shown = Display(3, RUN.total_images, Console(file=io.StringIO(), _environ={}))
            return StudyLedger("mine", folder, tracker, shown, {}, {}, identity)

        folder.mkdir()
        killed = ledger()
        for planned in seeds[:2]:
            killed.begin(planned, RUN)
        killed.finished(seeds[1].key, result())
        killed.close("KILLED")

        again = ledger()
        for planned in (seeds[0], seeds[2]):
            again.begin(planned, RUN)
            again.finished(planned.key, result())
        again.close("FINISHED")
    assert sorted(record.trial for record in load_records(folder).values()) == [1, 2, 3]
