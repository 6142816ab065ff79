"""`best`: ask MLflow, and nothing else, for the best schedule and for what uniform sampling did beside it."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curriculum_ray.config import ConfigError, load_yaml
from curriculum_ray.own_files import write_own
from curriculum_ray.runs.folder import CONFIG_FILE, SCHEDULE_FILE
from curriculum_ray.shell import tune_command
from tuning.evidence.answer import answer
from tuning.evidence.arms import Ranking, side_by_side
from tuning.evidence.differences import Difference, against_uniform
from tuning.evidence.metrics import DIRECTIONS, direction, metric_name
from tuning.evidence.records import TrialRecord
from tuning.tracking.fields import TAG_PREFIX, quoted, tag
from tuning.tracking.store import Store, open_store

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["BestRun", "best"]


@dataclass(frozen=True)
class BestRun:
    """The best schedule of a study, and where uniform sampling stands."""

    experiment: str
    study: str
    trial: str
    run_id: str
    data: str
    process: str
    fingerprint: str
    """Evaluation protocol of all numbers here."""
    metric: str
    value: float
    """Mean over the fresh seeds where the schedule was confirmed, else the search's own value."""
    uniform: float | None
    """The same for uniform sampling of the same study; None where it has no finished run."""
    seeds: int
    """Number of seeds behind `value`."""
    metrics: dict[str, float]
    """Metrics of the run `run_id`, at its end."""
    images: int
    seed: int
    control: str | None
    """Set when the best schedule is one of the study's controls, e.g. "reversed"."""
    description: str
    """The schedule in words."""
    schedule: dict[str, Any]
    schedule_text: str
    """The run's artifact schedule.yaml."""
    settings_text: str | None
    """The run's artifact config.yaml, with which `train --config` repeats it; None where it is gone."""
    confirmation: list[Difference]
    """Differences from uniform sampling on fresh seeds, the largest gain first; or empty."""
    uniform_is_best: bool
    sentence: str
    """The answer in one sentence, with its interval where the study has fresh seeds."""

    def write(self, path: Path, *, force: bool = False) -> Path | None:
        """Write the schedule file, headed by where it comes from; see `write_own` for what is kept aside."""
        return write_own(path, self._head() + self.schedule_text, force=force)

    def write_settings(self, path: Path, *, force: bool = False) -> Path | None:
        """Write the settings that repeat the run, if it has any, with the same heading."""
        if self.settings_text is None:
            return None
        return write_own(path, self._head() + self.settings_text, force=force)

    def _head(self) -> str:
        source = (
            f"best curriculum of the study {self.study} by {metric_name(self.metric)} ({self.experiment})"
        )
        lines = [f"# {' '.join(text.split())}\n" for text in (source, self.sentence)]
        return "".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return all fields, ready for `json.dumps`."""
        fields = asdict(self)
        del fields["schedule_text"], fields["settings_text"]
        return {**fields, "confirmation": [difference.to_json() for difference in self.confirmation]}


@dataclass(frozen=True)
class _Stored:
    """A finished trial in MLflow."""

    record: TrialRecord
    run_id: str
    experiment: str
    """Its id."""
    parent: str
    """The run of its study."""
    study: str
    data: str
    process: str


def best(
    output: Path,
    uri: str | None = None,
    *,
    metric: str = "fid",
    experiment: str | None = None,
    data: str | None = None,
    process: str | None = None,
    study: str | None = None,
    fingerprint: str | None = None,
    confirmed: bool = False,
) -> BestRun:
    """Return the best schedule among the finished trials that the filters leave.

    The store is found as `Tracker.open` finds it, but never made. The best trial by `metric` (equal ones by
    images seen) names the study; if that study has confirmation runs, its best schedule on fresh seeds is
    returned; with `confirmed` only studies with such runs count. Raises `ConfigError` when there is no store or
    no finished trial, and when the trials were measured by more than one protocol (`fingerprint`, or its start,
    picks one).
    """
    upward = direction(metric) == "max"
    store = open_store(uri, output, create=False)
    names = _experiments(store, experiment)
    filters = {"data": data, "process": process, "study": study}
    conditions = [f"tags.`{tag('kind')}` = 'trial'"]
    conditions += [f"tags.`{tag(key)}` = {_quoted(key, value)}" for key, value in filters.items() if value]
    order = [f"metrics.`{metric}` {'DESC' if upward else 'ASC'}", "metrics.images ASC"]
    runs = store.search_runs(list(names), " and ".join(conditions), order)
    finished = [run for run in runs if run.info.status == "FINISHED" and metric in run.data.metrics]
    if not finished:
        raise ConfigError(_nothing_finished(runs, metric, store))
    finished = _one_fingerprint(finished, fingerprint)
    stored = [_stored(place, run, store) for place, run in enumerate(finished)]
    curricula = [each for each in stored if each.record.has_curriculum and each.record.role != "rung"]
    if confirmed:
        tested = {each.parent for each in curricula if each.record.role == "confirmation"}
        curricula = [each for each in curricula if each.parent in tested]
        if not curricula:
            raise ConfigError(f"no schedule in {store.shown} that fits was confirmed on fresh seeds")
    if not curricula:
        raise ConfigError(
            f"only uniform sampling has finished in {store.shown}: there is no schedule to choose yet"
        )
    top = next((each for each in curricula if each.record.role != "confirmation"), curricula[0])
    study_of = {each.record.key: each for each in stored if each.parent == top.parent}
    ranking = Ranking.of((each.record for each in study_of.values()), metric)
    winner = ranking.best
    assert winner is not None
    record = winner.records[0]
    found = study_of[record.key]
    differences = against_uniform(ranking) if winner.confirmed else []
    value, beside, seeds = side_by_side(winner, ranking.uniform, metric)
    is_best = beside is not None and (beside > value if upward else beside < value)
    text, schedule = _schedule(store, found.run_id)
    settings = _artifact(store, found.run_id, CONFIG_FILE)
    return BestRun(
        experiment=names[found.experiment],
        study=found.study,
        trial=record.key,
        run_id=found.run_id,
        data=found.data,
        process=found.process,
        fingerprint=record.fingerprint or "",
        metrics=record.metrics,
        images=record.images,
        seed=record.seed,
        metric=metric,
        value=value,
        uniform=beside,
        seeds=seeds,
        control=winner.control,
        description=winner.name,
        schedule=schedule,
        schedule_text=text,
        settings_text=settings,
        confirmation=differences,
        uniform_is_best=is_best,
        sentence=answer(ranking),
    )


def _experiments(store: Store, name: str | None) -> dict[str, str]:
    """Return names by id of all experiments, or of the one asked for."""
    names = {found.experiment_id: found.name for found in store.client.search_experiments()}
    if name is None:
        return names
    chosen = {key: value for key, value in names.items() if value == name}
    if not chosen:
        known = ", ".join(sorted(value for value in names.values() if value != "Default")) or "none"
        raise ConfigError(f"there is no experiment {name!r} in {store.shown}: there is {known}")
    return chosen


def _quoted(key: str, value: str) -> str:
    if "'" in value and '"' in value:
        raise ConfigError(f"--{key} must not hold both kinds of quotes, but got {value!r}")
    return quoted(value)


def _nothing_finished(runs: list[Run], metric: str, store: Store) -> str:
    if not runs:
        return f"there is no trial in {store.shown} that fits: run `{tune_command('search')}` first"
    states = Counter(run.info.status.lower() for run in runs)
    listed = ", ".join(f"{number} {state}" for state, number in states.items())
    return f"there is no finished trial with the metric {metric} in {store.shown} that fits ({listed})"


def _one_fingerprint(runs: list[Run], wanted: str | None) -> list[Run]:
    numbers = Counter(run.data.tags.get(tag("fingerprint"), "") for run in runs)
    listed = ", ".join(f"{key or 'none'} ({number} trials)" for key, number in numbers.most_common())
    if wanted is not None:
        chosen = [key for key in numbers if key.startswith(wanted)] if wanted else []
        if len(chosen) != 1:
            raise ConfigError(f"--fingerprint must name one protocol, but got {wanted!r}: there are {listed}")
        return [run for run in runs if run.data.tags.get(tag("fingerprint"), "") == chosen[0]]
    if len(numbers) > 1:
        raise ConfigError(
            f"the finished trials were measured by different protocols and cannot be compared: {listed}; "
            f"pick one with --fingerprint"
        )
    return runs


def _stored(place: int, run: Run, store: Store) -> _Stored:
    """Check a finished run's tags and metrics; ConfigError for a run that no study of this project wrote."""
    tags = {
        key.removeprefix(TAG_PREFIX): value
        for key, value in run.data.tags.items()
        if key.startswith(TAG_PREFIX)
    }
    metrics = dict(run.data.metrics)
    images = int(metrics.pop("images", 0))
    schedule_id = tags.get("schedule_id", run.info.run_id)
    data = {
        "version": 1,
        "trial": place,
        "key": tags.get("trial"),
        "name": str(run.info.run_name),
        "role": tags.get("role", "searched"),
        "control": tags.get("control"),
        "seed": int(tags.get("seed", 0)),
        "schedule": None,
        "schedule_id": schedule_id,
        "arm_id": tags.get("arm_id", schedule_id),
        "description": tags.get("schedule", run.info.run_name),
        "total_images": images,
        "images": images,
        "metrics": {key: value for key, value in metrics.items() if key in DIRECTIONS},
        "fingerprint": tags.get("fingerprint"),
        "status": "finished",
    }
    return _Stored(
        record=TrialRecord.from_json(data, f"the run {run.info.run_id} in {store.shown}"),
        run_id=run.info.run_id,
        experiment=run.info.experiment_id,
        parent=run.data.tags.get("mlflow.parentRunId", ""),
        study=tags.get("study", ""),
        data=tags.get("data", ""),
        process=tags.get("process", ""),
    )


def _schedule(store: Store, run_id: str) -> tuple[str, dict[str, Any]]:
    """Fetch the run's schedule.yaml: its text and what it says."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = Path(store.client.download_artifacts(run_id, SCHEDULE_FILE, folder))
        except Exception:  # each artifact store fails in its own way
            reason = f"the run {run_id} in {store.shown} has no readable artifact {SCHEDULE_FILE}"
            raise ConfigError(reason) from None
        return path.read_text(encoding="utf-8"), load_yaml(path)


def _artifact(store: Store, run_id: str, name: str) -> str | None:
    """The text of the run's artifact, None where it has none."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(store.client.download_artifacts(run_id, name, folder)).read_text(encoding="utf-8")
        except Exception:  # each artifact store fails in its own way
            return None
