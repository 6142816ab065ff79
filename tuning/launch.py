"""From a command to a finished study: check everything, connect, search, and say what came out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import Dataset
from curriculum_ray.distributed.cluster import concurrency, connected
from curriculum_ray.distributed.config import RunConfig
from curriculum_ray.evaluation import Evaluator
from tuning.config import StudyConfig
from tuning.progress import Progress
from tuning.search import search
from tuning.space import IntRange, SearchSpace
from tuning.study import Study, open_folder
from tuning.tracking import Tracker
from tuning.train import check_run, experiment_name

__all__ = ["Outcome", "check_study", "run_study"]


@dataclass(frozen=True)
class Outcome:
    """What a study left behind."""

    name: str
    folder: Path
    records: list[dict[str, Any]]
    experiment: str
    ui_command: str
    problems: list[str]
    """What MLflow did not take, one line each."""


def check_study(config: StudyConfig, space: SearchSpace) -> tuple[RunConfig, Dataset, Evaluator]:
    """Everything that can be wrong with a study is found here, before anything is started.

    The fixed settings, every start point and every corner of the whole-number ranges must give a run that can be
    trained and evaluated. ConfigError says what does not.
    """
    base = config.run.model_dump(mode="json")
    fixed = parse(RunConfig, {**space.apply(base, {}), "seed": config.seed}, f"space {space.name}, fixed")
    data, evaluator = check_run(fixed, config.resources.num_workers)
    assert evaluator is not None
    corners = [
        {key: value}
        for key, span in space.search.items()
        if isinstance(span, IntRange)
        for value in (span.low, span.high)
    ]
    for point in itertools.chain(space.start, corners):
        shown = ", ".join(f"{key} = {value}" for key, value in point.items())
        source = f"space {space.name} with {shown}"
        run = parse(RunConfig, space.apply(base, point), source)
        try:
            check_run(run, config.resources.num_workers)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None
    return fixed, data, evaluator


def run_study(
    config: StudyConfig,
    output: Path,
    name: str | None,
    mlflow_uri: str | None,
    concurrent: int | None,
    console: Console,
) -> Outcome:
    """Run a study to its end, or go on with one that was interrupted."""
    space = SearchSpace.load(config.space)
    run, data, evaluator = check_study(config, space)
    experiment = experiment_name(data, run)
    name = name or f"search-{experiment.replace('/', '-')}-{space.name}-seed{config.seed}"
    folder = output / name
    open_folder(folder, config)
    process = experiment.partition("/")[2]
    tags = {"data": data.name, "process": process, "fingerprint": evaluator.fingerprint}
    params = config.decisive()
    runs = concurrency(concurrent, config.resources, config.maximum_trials)
    progress = Progress(config.maximum_trials, run.total_images, console, config.metric)
    with ThreadPoolExecutor(1) as opener:
        opening = opener.submit(Tracker.open, mlflow_uri, output, experiment)
        with connected(runs, config.resources), opening.result() as tracker, progress:
            study = Study(name, folder, tracker, progress, tags, params)
            if study.records:
                progress.earlier(study.records.values())
            try:
                search(config, space, study, runs)
            except KeyboardInterrupt:
                running = study.interrupted()
                study.close("KILLED")
                progress.note(
                    f"stopped with {len(running)} trials running; the same command goes on with them"
                )
                raise
            except BaseException:
                study.interrupted()
                study.close("FAILED")
                raise
            study.close("FINISHED")
        return Outcome(
            name=name,
            folder=folder,
            records=list(study.records.values()),
            experiment=experiment,
            ui_command=tracker.ui_command(),
            problems=[*study.problems, *tracker.problems],
        )


def study_facts(config: StudyConfig, outcome: Outcome) -> Mapping[str, Any]:
    """What the report says of the study beside its trials."""
    return {
        "name": outcome.name,
        "experiment": outcome.experiment,
        "metric": config.metric,
        "settings": config.model_dump(mode="json"),
    }
