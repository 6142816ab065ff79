"""Runs a study from the command to the report: checks everything, connects, searches, and returns the outcome."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from curriculum_ray.addresses import presentable
from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.config import ConfigError, Spec, flatten, parse
from curriculum_ray.curriculum import TimestepSampler
from curriculum_ray.data import DataInfo, Dataset
from curriculum_ray.diffusion import build_process
from curriculum_ray.distributed.capacity import packs_of, room, room_line, within_share, workers_in
from curriculum_ray.distributed.connection import connected, waiting_line
from curriculum_ray.evaluation import Evaluator
from curriculum_ray.evaluation.visited import unvisited_line
from curriculum_ray.models import check_model, check_named_code, code_named
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.folder import DRIVER_LOG
from curriculum_ray.training.optimizers import check_optimizer
from curriculum_ray.training.packed import check_packable
from tuning.evidence.records import TrialRecord
from tuning.folder.environment import note_environment, this_environment
from tuning.folder.identity import content_of
from tuning.folder.in_bucket import kept
from tuning.folder.lock import held
from tuning.folder.names import checked_name
from tuning.folder.time_used import StudyClock
from tuning.report import StudyFacts, build_report
from tuning.report.parameters import read_parameters
from tuning.search.pace import Pace, first_guess
from tuning.search.ray_tune.run import search
from tuning.search.samplers import check_sampler, open_storage, study_name
from tuning.study.check_run import check_run, experiment_name, with_pinned_weights
from tuning.study.comparable import check_comparable
from tuning.study.config import StudyConfig
from tuning.study.data_summary import keep_summary, show_summary
from tuning.study.giving_up import given_up
from tuning.study.ledger import StudyLedger, open_folder
from tuning.study.named_arms import check_arms
from tuning.study.overlay import lay_over
from tuning.study.plan import plain_schedule
from tuning.study.ranges import check_ranges, with_batch_size
from tuning.study.space import SearchSpace
from tuning.terminal.display import Display
from tuning.tracking import Tracker, store_address
from tuning.tracking.finished import protocols
from tuning.tracking.node_load import node_load

__all__ = ["Outcome", "check_code_of", "check_study", "run_study", "study_rivals"]


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

    def shown(self, path: Path) -> str:
        """Where people find what lies at `path`: there, or in the bucket of which it is a copy."""
        return str(path) if self.copy is None else self.copy.shown(path)


def check_study(config: StudyConfig, space: SearchSpace) -> tuple[RunConfig, Dataset | DataInfo, Evaluator]:
    """Check everything that can be wrong with a study, before anything is started.

    The fixed settings, every start point, every choice, both ends of every range and every rival must give a run that
    can be trained and evaluated; otherwise raises ConfigError.
    """
    rivals = study_rivals(config, space)
    check_comparable(config, space, rivals)
    check_arms(config, plain_schedule(config))
    base = config.run.model_dump(mode="json")
    fixed = parse(RunConfig, {**space.apply(base, {}), "seed": config.seed}, f"space {space.name}, fixed")
    if fixed.evaluation is None:
        raise ConfigError("a search compares schedules by their evaluation, but run.evaluation is null")
    data, evaluator = check_run(fixed, config.resources)
    assert evaluator is not None
    if config.metric not in evaluator.names:
        raise ConfigError(
            f"metric must be one that the evaluation gives, {', '.join(evaluator.names)}, but got {config.metric}"
        )
    checked: list[Spec] = [fixed.model, fixed.optimizer]
    for point in itertools.chain(space.start, space.probes()):
        shown = ", ".join(f"{key} = {value}" for key, value in point.items())
        _check_point(config, space.apply(base, point), data, f"space {space.name} with {shown}", checked)
    check_ranges(space, fixed, config.halving.budgets(fixed.total_images))
    for name, keys in rivals.items():
        settings = lay_over({**space.apply(base, {}), "schedule": {"version": 1}}, keys, f"rivals.{name}")
        _check_point(config, settings, data, f"rivals.{name}", checked)
    for name, keys in config.arms.items():
        whole = {**base, "schedule": plain_schedule(config).model_dump(mode="json")}
        _check_point(config, lay_over(whole, flatten(keys), f"arms.{name}"), data, f"arms.{name}", checked)
    check_sampler(config, space)
    _check_looks(config, fixed)
    return fixed, data, evaluator


def check_code_of(space: SearchSpace, config: StudyConfig, trusted: bool) -> None:
    """Refuse code that the space's file names, unless the study's own settings name it too, or it is `trusted`."""
    own = code_named(config.run.model_dump(mode="json"))
    check_named_code(space.model_dump(mode="json"), f"space {config.space}", trusted=trusted, allowed=own)


def _check_looks(config: StudyConfig, run: RunConfig) -> None:
    """Refuse looks that come too late to stop a run, which stops at the log line after a look."""
    rule = config.halving
    if rule.rule != "after_last_stage":
        return
    looks = parse(
        RunConfig, {**run.model_dump(mode="json"), "preview": rule.preview(run.total_images)}, "run"
    )
    assert looks.preview_steps is not None
    if looks.preview_steps + looks.log_steps >= looks.total_steps:
        raise ConfigError(
            f"halving: no look of after_last_stage comes early enough to stop a run of {run.total_images:,} images: "
            f"lower run.log_every_images, which is {run.log_every_images}"
        )


def study_rivals(config: StudyConfig, space: SearchSpace) -> dict[str, dict[str, Any]]:
    """The one-line rivals of the space and of the settings, by name."""
    return {**space.rivals, **config.rivals}


def _check_point(
    config: StudyConfig,
    settings: Mapping[str, Any],
    data: Dataset | DataInfo,
    source: str,
    checked: list[Spec],
) -> None:
    """Check that the settings give a run whose schedule, process and model can be built.

    checked: networks and optimisers that need no check any more, to which those of these settings are added.
    """
    run = parse(RunConfig, settings, source)
    try:
        process = build_process(run.process, run.weighting)
        TimestepSampler(
            run.schedule, levels=process.levels, total_images=run.total_images, world_size=1, rank=0
        )
        if run.model not in checked:
            check_model(run.model, data.shape, data.conditioning)
        if run.optimizer not in checked:
            check_optimizer(run.optimizer)
        checked += [run.model, run.optimizer]
        if config.pack > 1:
            check_packable([run.train])
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    pacing = run.schedule.pacing
    if config.halving.rule == "compressed" and pacing is not None:
        given = next(iter(pacing.absolute_lengths()), None)
        if given is not None:
            raise ConfigError(
                f"{source}: schedule.pacing.{given} cannot be compressed: give a share of the budget"
            )


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
    most = config.maximum_trials(len(rivals))
    progress = Display(most, run.total_images, console, config.metric)
    slots = None if concurrent is None else packs_of(concurrent, config.pack, config.share)
    content = content_of(
        {key: value for key, value in params.items() if key != "space"},
        run.data,
        data,
        evaluator,
        space.model_dump(mode="json", exclude={"name"}),
    )
    guess = first_guess(config, run, data, folder, len(rivals), slots)
    place = output if copy is None else copy.bucket
    in_bucket = nullcontext() if copy is None else kept(copy, folder, progress.note, study=True)
    with held(folder), in_bucket as keeper, ThreadPoolExecutor(1) as opener:
        identity = open_folder(folder, config, content)
        if keeper is not None:
            keeper.send_all()
        note_environment(folder, this_environment(config.resources, config.pack, config.asked()))
        clock = StudyClock(folder, config.hours)
        storage = open_storage(config.storage, folder)
        opening = opener.submit(Tracker.open, mlflow_uri, output, experiment)
        with (
            connected(slots or 1, config.resources, place, progress.note, folder / DRIVER_LOG) as cluster,
            opening.result() as tracker,
            progress,
        ):
            workers = workers_in(config.resources, cluster, config.share)
            slots = slots or room(config.resources, most, cluster, config.pack, config.share)
            resources = within_share(config.resources, slots, workers, config.share)
            progress.room = room_line(resources, slots, workers, config.share)
            progress.note(waiting_line(resources) or resources.starting_line(slots))
            study = StudyLedger(
                name, folder, tracker, progress, tags, params, identity, config.margin, keeper
            )
            tracker.artifacts(study.run, [keep_summary(summary, folder)])
            tracker.dataset(study.run, summary, data.fingerprint)
            if line := unvisited_line(run, data.shape):
                progress.note(line)
            if study.records:
                progress.earlier(study.records.values())
            pace = Pace(config, clock, slots * config.pack, guess, progress.note)
            try:
                with node_load(tracker, study.run) if system_metrics else nullcontext():
                    search(config, space, study, slots, rivals, storage, pace, resources, copy)
                left_out = pace.left_out or given_up(config, study.ranking)
                facts = StudyFacts(
                    name=name,
                    experiment=experiment,
                    metric=config.metric,
                    margin=config.margin,
                    settings=_presentable(config),
                    left_out=left_out,
                    searched=read_parameters(storage, study_name(config.storage, name, identity)),
                    address=None if copy is None else copy.bucket.shown(),
                )
                report = build_report(list(study.records.values()), facts, folder)
                study.conclude(report)
            except KeyboardInterrupt:
                running = study.interrupted()
                _close(study, "KILLED")
                progress.note(f"stopped with {len(running)} trials running; the same command resumes them")
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


def _presentable(config: StudyConfig) -> dict[str, Any]:
    """The settings without the secrets that a database's address may hold."""
    storage = None if config.storage is None else presentable(config.storage)
    return {**config.model_dump(mode="json"), "storage": storage}
