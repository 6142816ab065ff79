"""Runs a study from the command to the report: checks everything, connects, searches, and returns the outcome."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from curriculum_ray.addresses import presentable
from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.capacity import Capacity, packs_of, room, room_line, within_share, workers_in
from curriculum_ray.distributed.connection import connected, waiting_line
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.evaluation.visited import unvisited_line
from curriculum_ray.runs.folder import DRIVER_LOG
from curriculum_ray.words import number_of
from tuning.evidence.records import TrialRecord, begun_trials, damaged_records, load_records
from tuning.folder.environment import note_environment, this_environment
from tuning.folder.identity import content_of
from tuning.folder.in_bucket import Kept, kept
from tuning.folder.lock import held
from tuning.folder.names import checked_name
from tuning.folder.time_used import StudyClock
from tuning.report import StudyFacts, build_report
from tuning.report.parameters import read_parameters
from tuning.search.pace import Pace, first_guess
from tuning.search.preflight import check_code_of, check_study, study_rivals
from tuning.search.ray_tune.run import search
from tuning.search.samplers import open_storage, study_name
from tuning.study.check_run import experiment_name, with_pinned_weights
from tuning.study.config import StudyConfig
from tuning.study.controls import Controls
from tuning.study.data_summary import keep_summary, show_summary
from tuning.study.giving_up import given_up
from tuning.study.ledger import StudyLedger, open_folder
from tuning.study.plan import StudyPlan
from tuning.study.ranges import with_batch_size
from tuning.study.space import SearchSpace
from tuning.terminal.display import Display
from tuning.tracking import Tracker, store_address
from tuning.tracking.finished import protocols
from tuning.tracking.node_load import node_load

__all__ = ["Outcome", "run_study"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a study."""

    name: str
    folder: Path
    records: list[TrialRecord]
    experiment: str
    report: Path
    """The path of report.html."""
    ui_command: str
    problems: list[str]
    """Writes that MLflow did not store, one line each."""
    left_out: str | None = None
    """What there was no time for, or why no more fresh seeds were run, in one sentence; None where all was run."""
    protocol: str | None = None
    """The fingerprint by which `best` tells this study from others of its name in the store; None where it is alone."""
    copy: WorkingCopy | None = None
    """Where the folder is in the working copy of a bucket."""

    @property
    def finished(self) -> bool:
        """Whether any trial finished."""
        return any(record.status == "finished" for record in self.records)

    def shown(self, path: Path) -> str:
        """Where people find what lies at `path`: there, or in the bucket of which it is a copy."""
        return str(path) if self.copy is None else self.copy.shown(path)


def run_study(
    config: StudyConfig,
    output: Path,
    name: str | None,
    mlflow_uri: str | None,
    concurrent: int | None,
    console: Console,
    trust_code: bool = False,
    system_metrics: bool = False,
    copy: WorkingCopy | None = None,
) -> Outcome:
    """Run a study to its end, or resume an interrupted one; writes report.html into its folder at the end.

    trust_code: whether code that the space's file names may be imported. system_metrics: whether the load of the nodes
    is stored in MLflow too. copy: where `output` is the working copy of a bucket.
    """
    store_address(mlflow_uri)
    if copy is not None and config.storage == "sqlite":
        raise ConfigError(
            f"storage sqlite is a file in the study's folder, which {copy.bucket.shown()} cannot hold: null keeps a "
            "journal there, and a database URL a database elsewhere"
        )
    space = SearchSpace.of_arms() if config.arms else SearchSpace.load(config.space)
    check_code_of(space, config, trust_code)
    config, chosen = with_batch_size(config, space)
    if chosen is not None:
        console.print(chosen, markup=False, highlight=False, soft_wrap=True)
    run, data, evaluator = check_study(config, space)
    config = config.model_copy(update={"run": with_pinned_weights(config.run)})
    summary = show_summary(run.data, data, console)
    experiment = experiment_name(data, run)
    name = checked_name(name, f"search-{experiment.replace('/', '-')}-{space.name}-seed{config.seed}")
    folder = output / name
    process = experiment.partition("/")[2]
    tags = {
        "data": data.name,
        "process": process,
        "fingerprint": evaluator.fingerprint,
        "margin": config.margin,
    }
    params, rivals = config.decisive(), study_rivals(config, space)
    controls = Controls.of(len(rivals), space, config.run)
    most = config.maximum_trials(controls)
    progress = Display(most, run.total_images, console, config.metric)
    slots = None if concurrent is None else packs_of(concurrent, config.pack, config.share)
    content = content_of(
        {key: value for key, value in params.items() if key != "space"},
        run.data,
        data,
        evaluator,
        space.model_dump(mode="json", exclude={"name"}),
    )
    guess = first_guess(config, run, data, folder, controls, slots, copy)
    place = output if copy is None else copy.bucket
    holding: AbstractContextManager[Kept | None] = (
        held(folder) if copy is None else kept(copy, folder, progress.note, study=True)
    )
    with holding as keeper, ThreadPoolExecutor(1) as opener:
        identity = open_folder(folder, config, content)
        if keeper is not None:
            keeper.send_all()
        note_environment(folder, this_environment(config.resources, config.pack, config.asked()))
        clock = StudyClock(folder, config.hours)
        before = load_records(folder)
        ended = StudyPlan(
            config,
            dict(before),
            rivals=rivals,
            plain_twin=controls.plain_twin,
            closed=set(clock.used.closed),
            begun=begun_trials(folder, before),
        )
        storage = open_storage(config.storage, folder)
        opening = opener.submit(Tracker.open, mlflow_uri, output, experiment)
        # A study that is complete needs no cluster.
        reached: AbstractContextManager[Capacity | None] = (
            nullcontext()
            if ended.complete
            else connected(slots or 1, config.resources, place, progress.note, folder / DRIVER_LOG)
        )
        with reached as cluster, opening.result() as tracker, progress:
            slots, resources = _placed(config, cluster, slots, most, progress)
            study = StudyLedger(
                name, folder, tracker, progress, tags, params, identity, config.margin, keeper, config.metric
            )
            tracker.artifacts(study.run, [keep_summary(summary, folder)])
            tracker.dataset(study.run, summary, data.fingerprint)
            if line := unvisited_line(run, data.shape):
                progress.note(line)
            for path in damaged_records(folder):
                progress.note(f"{path} is damaged: its trial counts as not ended, and runs again")
            if study.records:
                progress.earlier(study.records.values())
            pace = Pace(config, clock, slots * config.pack, guess, progress.note)
            try:
                if cluster is None:
                    pace.note_left_out(ended)
                    progress.expect(ended.total, ended.total_images)
                else:
                    theirs = None if keeper is None else keeper.copy
                    with node_load(tracker, study.run) if system_metrics else nullcontext():
                        search(config, space, study, slots, rivals, storage, pace, resources, theirs)
                left_out = pace.left_out or given_up(config, study.ranking)
                facts = StudyFacts(
                    name=name,
                    experiment=experiment,
                    config=config,
                    left_out=left_out,
                    searched=read_parameters(storage, study_name(config.storage, name, identity)),
                    address=None if copy is None else copy.bucket.shown(),
                    mlflow_uri=None if mlflow_uri is None else presentable(mlflow_uri),
                    trusted=trust_code,
                )
                report = build_report(list(study.records.values()), facts, folder)
                study.conclude(report)
            except KeyboardInterrupt:
                running = study.interrupted()
                _close(study, "KILLED")
                progress.note(
                    f"stopped with {number_of(len(running), 'trial')} running; the same command goes on"
                )
                raise
            except BaseException:
                study.interrupted()
                _close(study, "FAILED")
                raise
            finally:
                clock.tick(now=True)
            study.close("FINISHED")
        records = list(study.records.values())
        problems = [*study.problems, *tracker.problems]
        alone = not problems and _is_alone(tracker, name, evaluator.fingerprint)
        return Outcome(
            name=name,
            folder=folder,
            records=records,
            experiment=experiment,
            report=report,
            copy=copy,
            ui_command=tracker.ui_command(),
            problems=problems,
            left_out=left_out,
            protocol=None if alone else evaluator.fingerprint,
        )


def _placed(
    config: StudyConfig, cluster: Capacity | None, slots: int | None, most: int, progress: Display
) -> tuple[int, ResourceSpec]:
    """Slots, of those asked for or of the whole cluster, and what each trial takes; says so. None: no cluster."""
    if cluster is None:
        return slots or 1, config.resources
    workers = workers_in(config.resources, cluster, config.share)
    slots = slots or room(config.resources, most, cluster, config.pack, config.share)
    resources = within_share(config.resources, slots, workers, config.share)
    progress.room = room_line(resources, slots, workers, config.share)
    progress.note(waiting_line(resources) or resources.starting_line(slots))
    return slots, resources


def _is_alone(tracker: Tracker, study: str, fingerprint: str) -> bool:
    """Whether the store holds no trial of a study of this name that was measured by another protocol."""
    try:
        return protocols(tracker.store, study) <= {fingerprint}
    except Exception:  # every kind of store fails in its own way
        return False


def _close(study: StudyLedger, status: str) -> None:
    """End a study that did not finish, and print what MLflow did not store."""
    study.close(status)
    study.tracker.close()
    for problem in (*study.problems, *study.tracker.problems):
        study.progress.note(f"MLflow: {problem}")
