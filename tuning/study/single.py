"""Training one model outside a study: its folder, its MLflow run, and a line of progress."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError, differences, load_yaml
from curriculum_ray.data import DataInfo, Dataset, data_info, load_data
from curriculum_ray.data.summary import quiet
from curriculum_ray.diffusion import build_process
from curriculum_ray.distributed.connection import connected
from curriculum_ray.distributed.fit import fit
from curriculum_ray.distributed.slots import ResourceSpec
from curriculum_ray.evaluation import Evaluator, prepare
from curriculum_ray.evaluation.visited import unvisited_line
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.folder import CONFIG_FILE, RESULT_FILE
from curriculum_ray.runs.jobs import Event, Progress, Started
from curriculum_ray.runs.result import RunResult
from curriculum_ray.training.heldout import check_heldout
from tuning.evidence import previews
from tuning.evidence.heldout import as_history, as_metrics
from tuning.folder.identity import Identity, claim, content_of
from tuning.folder.lock import held
from tuning.folder.names import checked_name
from tuning.study.data_summary import keep_summary, show_summary
from tuning.study.publish import publish
from tuning.terminal.text import make_console
from tuning.tracking import Tracker, store_address

__all__ = ["Display", "check_run", "experiment_name", "train_run"]


def experiment_name(data: Dataset | DataInfo, config: RunConfig) -> str:
    """The MLflow experiment of a data set and process, e.g. "digits/ddpm-epsilon"."""
    return f"{data.name}/{build_process(config.process).name}"


def check_run(config: RunConfig, resources: ResourceSpec) -> tuple[Dataset | DataInfo, Evaluator | None]:
    """Everything that can be wrong with a run is found here, before anything is started; ConfigError says what."""
    from curriculum_ray.curriculum import TimestepSampler
    from curriculum_ray.models import build_model

    _check_resources(config, resources)
    data: Dataset | DataInfo
    # What `DataWarning` says stands in the summary, which every command prints.
    with quiet():
        if config.data.streamed and config.evaluation is None:
            data, evaluator = data_info(config.data), None
        else:
            data = load_data(config.data)
    process = build_process(config.process, config.weighting)
    if isinstance(data, Dataset):
        evaluator = None if config.evaluation is None else prepare(config.evaluation, data, process)
    TimestepSampler(
        config.schedule, levels=process.levels, total_images=config.total_images, rank=0, world_size=1
    )
    build_model(config.model, data.shape, data.conditioning)
    check_heldout(config, data)
    return data, evaluator


def _check_resources(config: RunConfig, resources: ResourceSpec) -> None:
    """Every number of workers must be able to share the batch, and have the device that the precision needs."""
    least, most = resources.workers
    multiple, counted = 1, least - 1
    while counted < most and multiple <= config.batch_size:
        counted += 1
        multiple = math.lcm(multiple, counted)
    if config.batch_size % multiple:
        each = f"{multiple} for {least} to {counted} workers" if least < most else f"--num-workers {least}"
        raise ConfigError(f"batch_size must be a multiple of {each}, but got {config.batch_size}")
    for workers in range(least, most + 1):
        share = config.batch_size // workers
        if share % config.accumulate:
            raise ConfigError(
                f"accumulate must divide each worker's share of the batch, {share} with --num-workers {workers}, "
                f"but got {config.accumulate}"
            )
    if config.precision == "fp16" and not resources.use_gpu:
        raise ConfigError("precision fp16 needs a GPU: add --use-gpu, or use bf16 or fp32")
    if config.parallel == "fsdp" and most == 1:
        raise ConfigError("parallel fsdp shards a model over several workers, but --num-workers is 1")


class Display:
    """Progress of one run: a live line on a terminal, else a line per log entry; nothing when `quiet`."""

    def __init__(self, config: RunConfig, quiet: bool = False) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = make_console(quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self._task = self._bar.add_task(
            config.schedule.describe(), total=config.total_images, state="starting"
        )

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def note(self, line: str) -> None:
        """Print a line."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def problems(self, lines: Iterable[str]) -> None:
        """Say what MLflow did not take, on stderr: also where the output is JSON."""
        for line in lines:
            print(f"MLflow: {line}", file=sys.stderr, flush=True)

    def __call__(self, event: Event) -> None:
        """Show an event of the board."""
        if isinstance(event, Progress):
            state = (
                f"{event.images:,} images  stage {event.stage + 1}/{event.num_stages}  "
                f"loss {event.loss:.4f}  {event.images_per_second:,.0f} images/s"
            )
            self._bar.update(self._task, completed=event.images, state=state)
            if not self.console.is_terminal:
                self.console.print(state)
        elif isinstance(event, Started) and event.attempt > 1:
            self.console.print(f"workers lost; going on from the newest checkpoint, try {event.attempt}")


def train_run(
    config: RunConfig,
    resources: ResourceSpec,
    output: Path,
    name: str | None,
    mlflow_uri: str | None,
    display: Display,
) -> RunResult:
    """Train, evaluate and log one run into `output`/name; goes on where an earlier start of it ended."""
    store_address(mlflow_uri)
    if line := config.batch_size_line():
        display.note(line)
    data, evaluator = check_run(config, resources)
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
    with held(folder):
        _check_folder(folder, config)
        identity = claim(folder, content, "run")
        if (done := RunResult.read(folder / RESULT_FILE)) is not None:
            display.note(f"{folder} is finished; choose another --name to train anew")
            _store_what_is_missing(
                done, folder, (mlflow_uri, output, experiment), (name, params, tags, identity), display
            )
            return done
        if line := unvisited_line(config, data.shape):
            display.note(line)
        with (
            connected(1, resources, output) as cluster,
            Tracker.open(mlflow_uri, output, experiment) as tracker,
        ):
            try:
                _check_previews(config, resources, cluster)
                tracker.keep_in(folder)
                run = tracker.train(name, params, tags, identity)
                tracker.artifacts(run, [keep_summary(summary, folder)])
                tracker.dataset(run, summary, data.fingerprint)
                return _train(config, folder, resources, tracker, run, display)
            finally:
                tracker.close()
                display.problems(tracker.problems)


def _train(
    config: RunConfig, folder: Path, resources: ResourceSpec, tracker: Tracker, run: str, display: Display
) -> RunResult:
    """Train to the end, shown and stored as it goes."""
    live: set[int] = set()
    measured: set[int] = set()

    def on_event(event: Event) -> None:
        display(event)
        if not isinstance(event, Progress):
            return
        speed = {"stage": float(event.stage), "images_per_second": event.images_per_second}
        tracker.log(run, {"loss": event.loss, **speed}, event.images)
        for images, losses in event.heldout:
            measured.add(images)
            tracker.log(run, as_metrics(losses), images)
        if (preview := event.preview) is not None:
            live.add(preview.images)
            tracker.log(run, previews.as_metrics(preview.metrics), preview.images)

    try:
        result = fit(config, folder, resources, on_event)
    except KeyboardInterrupt:
        tracker.finish(run, "KILLED", "interrupted; the same command goes on with it")
        raise
    except Exception as error:
        tracker.finish(run, "FAILED", str(error))
        raise
    for images, metrics in result.history:
        if images > result.resumed_at and images not in live:
            tracker.log(run, previews.as_metrics(metrics), images)
    missed = (point for point in as_history(result) if point[0] not in measured)
    tracker.log_history(run, missed)
    publish(tracker, run, folder, result)
    return result


def _store_what_is_missing(
    done: RunResult,
    folder: Path,
    store: tuple[str | None, Path, str],
    run: tuple[str, Mapping[str, Any], Mapping[str, Any], Identity],
    display: Display,
) -> None:
    """Store what a kill between a run's end and MLflow's last write left out; a store that is away is no error."""
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


def _check_previews(config: RunConfig, resources: ResourceSpec, cluster: Mapping[str, float]) -> None:
    """A task for which there is never a GPU would be waited for without end."""
    asked = config.preview.num_gpus if config.preview else 0
    taken = resources.workers[0] * resources.per_worker.get("GPU", 0)
    if asked and asked + taken > cluster.get("GPU", 0):
        raise ConfigError(
            f"preview.num_gpus must leave the workers their {taken:g} of the cluster's {cluster.get('GPU', 0):g} GPUs, "
            f"but got {asked:g}"
        )


def _check_folder(folder: Path, config: RunConfig) -> None:
    """Refuse a folder whose run has other settings, but for `parallel`: checkpoints hold whole tensors."""
    path = folder / CONFIG_FILE
    if not path.exists():
        return
    before, now = load_yaml(path), config.model_dump(mode="json")
    if changed := differences({**before, "parallel": now["parallel"]}, now):
        raise ConfigError(
            f"{folder} holds a run with other settings ({changed}): choose another --name or --output"
        )
