"""Training one model outside a study: its folder and its MLflow run, from start to end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from curriculum_ray.buckets.copy import WorkingCopy
from curriculum_ray.buckets.store import Bucket
from curriculum_ray.config import ConfigError, differences, load_yaml
from curriculum_ray.distributed.capacity import Capacity, check_resources
from curriculum_ray.distributed.connection import connected, waiting_line
from curriculum_ray.distributed.fit import TrainingFailed, fit
from curriculum_ray.distributed.in_process import trains_in_process
from curriculum_ray.distributed.preemption import heeded
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.evaluation.visited import unvisited_line
from curriculum_ray.logs import written_to
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.folder import CONFIG_FILE, DRIVER_LOG, PROFILES, RESULT_FILE
from curriculum_ray.runs.jobs import Event, Progress
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training.profile_spec import ProfiledSteps
from tuning.evidence import previews
from tuning.evidence.heldout import as_history, as_metrics
from tuning.folder.identity import Identity, claim, content_of, without_paths
from tuning.folder.in_bucket import Kept, kept
from tuning.folder.lock import held
from tuning.folder.names import checked_name
from tuning.study.check_run import check_run, experiment_name, with_pinned_weights
from tuning.study.data_summary import keep_summary, show_summary
from tuning.study.publish import publish
from tuning.terminal.run_display import RunDisplay
from tuning.tracking import Tracker, store_address
from tuning.tracking.node_load import node_load

__all__ = ["room_to_train", "train_run"]


def train_run(
    config: RunConfig,
    resources: ResourceSpec,
    output: Path,
    name: str | None,
    mlflow_uri: str | None,
    display: RunDisplay,
    profile: ProfiledSteps | None = None,
    system_metrics: bool = False,
    copy: WorkingCopy | None = None,
) -> RunResult:
    """Train, evaluate and log one run into `output`/name; resumes where an earlier start stopped.

    profile: the steps that are recorded into its folder. system_metrics: whether the load of the nodes is stored too.
    copy: where `output` is the working copy of a bucket.
    """
    store_address(mlflow_uri)
    if profile is not None and profile.last > config.total_steps:
        raise ConfigError(
            f"--profile must end within the run's {config.total_steps:,} steps, but got "
            f"{profile.start}-{profile.last}"
        )
    if line := config.batch_size_line():
        display.note(line)
    data, evaluator = check_run(config, resources)
    config = with_pinned_weights(config)
    summary = show_summary(config.data, data, display.console)
    experiment = experiment_name(data, config)
    name = checked_name(name, f"train-{data.name}-{config.schedule.schedule_id}-seed{config.seed}")
    folder = output / name
    params = config.model_dump(mode="json")
    content = content_of({**params, "parallel": None}, config.data, data, evaluator)
    tags = {
        "data": data.name,
        "process": experiment.partition("/")[2],
        "schedule_id": config.schedule.schedule_id,
        "schedule": config.schedule.describe(),
        "seed": config.seed,
        "fingerprint": evaluator.fingerprint if evaluator else None,
    }
    holding: AbstractContextManager[Kept | None] = (
        held(folder) if copy is None else kept(copy, folder, display.note, study=False)
    )
    with holding as keeper, ThreadPoolExecutor(1) as opener:
        _check_folder(folder, config)
        identity = claim(folder, content, "run")
        if keeper is not None:
            keeper.send_all()
        if (done := RunResult.read(folder / RESULT_FILE)) is not None:
            shown = folder if copy is None else copy.shown(folder)
            display.note(f"{shown} is finished; choose another --name to train anew")
            _store_what_is_missing(
                done, folder, (mlflow_uri, output, experiment), (name, params, tags, identity), display
            )
            return done
        if line := unvisited_line(config, data.shape):
            display.note(line)
        opening = opener.submit(Tracker.open, mlflow_uri, output, experiment)
        place = output if copy is None else copy.bucket
        with room_to_train(config, resources, place, folder, display), opening.result() as tracker:
            try:
                tracker.keep_in(folder)
                run = tracker.train(name, params, tags, identity)
                tracker.artifacts(run, [keep_summary(summary, folder)])
                tracker.dataset(run, summary, data.fingerprint)
                with node_load(tracker, run) if system_metrics else nullcontext():
                    return _train(config, folder, resources, tracker, run, display, profile, keeper)
            finally:
                tracker.close()
                display.problems(tracker.problems)


@contextmanager
def room_to_train(
    config: RunConfig, resources: ResourceSpec, output: Path | Bucket, folder: Path, display: RunDisplay
) -> Iterator[None]:
    """Where the run in `folder` can train: this process, or a connection to Ray."""
    if trains_in_process(config, resources):
        check_resources(1, resources)
        with heeded(), written_to(folder / DRIVER_LOG):
            yield
        return
    with connected(1, resources, output, display.note, folder / DRIVER_LOG) as cluster:
        _check_previews(config, resources, cluster)
        display.note(waiting_line(resources) or resources.starting_line())
        yield


def _train(
    config: RunConfig,
    folder: Path,
    resources: ResourceSpec,
    tracker: Tracker,
    run: str,
    display: RunDisplay,
    profile: ProfiledSteps | None,
    keeper: Kept | None,
) -> RunResult:
    """Train to the end, with the display and MLflow kept up to date."""
    live: set[int] = set()
    measured: set[int] = set()

    def on_event(event: Event) -> None:
        display(event)
        if not isinstance(event, Progress):
            return
        tracker.log(run, event.metrics(), event.images)
        for images, losses in event.heldout:
            measured.add(images)
            tracker.log(run, as_metrics(losses), images)
        if (preview := event.preview) is not None:
            live.add(preview.images)
            tracker.log(run, previews.as_metrics(preview.metrics), preview.images)

    try:
        copy = None if keeper is None else keeper.copy
        result = fit(config, folder, resources, on_event, profile=profile, copy=copy)
    except KeyboardInterrupt:
        tracker.finish(run, "KILLED", "interrupted; the same command resumes it")
        raise
    except Exception as error:
        tracker.finish(run, "FAILED", str(error))
        raise
    if keeper is not None:
        _bring(keeper, folder, tracker, run)
    for images, metrics in result.history:
        if images > result.resumed_at and images not in live:
            tracker.log(run, previews.as_metrics(metrics), images)
    missed = (point for point in as_history(result) if point[0] not in measured)
    tracker.log_history(run, missed)
    tracker.artifacts(run, sorted((folder / PROFILES).glob("*")), PROFILES)
    publish(tracker, run, folder, result)
    return result


def _bring(keeper: Kept, folder: Path, tracker: Tracker, run: str) -> None:
    """Bring the files of the run, which has ended, here; raises TrainingFailed, after which MLflow waits for them."""
    try:
        keeper.bring_all(folder)
    except TrainingFailed as error:
        tracker.finish(run, "KILLED", str(error))
        raise


def _store_what_is_missing(
    done: RunResult,
    folder: Path,
    store: tuple[str | None, Path, str],
    run: tuple[str, Mapping[str, Any], Mapping[str, Any], Identity],
    display: RunDisplay,
) -> None:
    """Store what a kill between a run's end and MLflow's last write left out; an unreachable store is no error."""
    try:
        with Tracker.open(*store) as tracker:
            tracker.keep_in(folder)
            handle = tracker.train(*run)
            if not tracker.is_finished(handle):
                for images, metrics in done.history:
                    tracker.log(handle, previews.as_metrics(metrics), images)
                tracker.log_history(handle, as_history(done))
                publish(tracker, handle, folder, done)
    except ConfigError as error:
        display.problems([str(error)])
        return
    display.problems(tracker.problems)


def _check_previews(config: RunConfig, resources: ResourceSpec, cluster: Capacity) -> None:
    """Refuse previews that would wait for a GPU for ever."""
    asked = config.preview.num_gpus if config.preview else 0
    taken = resources.workers[0] * resources.per_worker.get("GPU", 0)
    there = cluster.amount("GPU")
    if asked and asked + taken > there:
        raise ConfigError(
            f"preview.num_gpus must leave the workers their {taken:g} of the cluster's {there:g} GPUs, "
            f"but got {asked:g}"
        )


def _check_folder(folder: Path, config: RunConfig) -> None:
    """Refuse a folder whose run has other settings, except `parallel`: checkpoints hold whole tensors."""
    path = folder / CONFIG_FILE
    if not path.exists():
        return
    before, now = without_paths(load_yaml(path)), without_paths(config.model_dump(mode="json"))
    if changed := differences({**before, "parallel": now["parallel"]}, now):
        raise ConfigError(
            f"{folder} holds a run with other settings ({changed}): choose another --name or --output"
        )
