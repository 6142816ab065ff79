"""Two runs side by side: the settings that differ, and the metrics if both have the same protocol."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError, flatten, load_yaml
from curriculum_ray.runs.folder import CONFIG_FILE, HELDOUT_FILE, RESULT_FILE, SAMPLED_FILE
from curriculum_ray.runs.heldout_file import read_heldout
from curriculum_ray.runs.result import HeldoutLosses, History, Measured, RunResult
from curriculum_ray.runs.sampled_file import SampledLevels, read_sampled
from tuning.evidence import previews
from tuning.evidence.heldout import LevelGain, beside
from tuning.evidence.metrics import DIRECTIONS, in_order, is_metric
from tuning.evidence.records import TrialRecord
from tuning.evidence.scale import gain
from tuning.folder.layout import RECORD_FILE, TRIALS
from tuning.tracking.fields import param_values, quoted, tag
from tuning.tracking.store import open_store

__all__ = ["RunComparison", "Side", "compare", "find_run"]

_OF_LEVELS = ("schedule.", "process.", "weighting.")


@dataclass(frozen=True)
class Side:
    """One run, wherever it was found."""

    name: str
    source: str
    """Its folder, or "MLflow run …"."""
    settings: dict[str, Any]
    """Dotted keys."""
    metrics: dict[str, float]
    images: int | None
    fingerprint: str
    """Evaluation protocol; empty for a run that was not evaluated."""
    stage_starts: list[list[int]] = field(default_factory=list)
    """(images seen, stage) at the start of each stage."""
    stages_walked: str | None = None
    """Out of those asked for, e.g. "8/8"."""
    images_in_stage: list[int] = field(default_factory=list)
    """For each stage that the schedule asks for."""
    history: History = ()
    """(images seen, metrics by name) of each preview."""
    heldout: HeldoutLosses | None = None
    """None where the held-out loss was not measured."""
    as_params: bool = False
    """Whether its settings are MLflow's parameters: texts, under the keys that MLflow allows."""


@dataclass(frozen=True)
class RunComparison:
    """The differences between two runs."""

    a: Side
    b: Side
    settings: dict[str, tuple[Any, Any]]
    """Dotted keys whose values differ; None where a run has no such key."""
    metrics: dict[str, dict[str, float | None]]
    """For each metric that both have: "a", "b" and "gain", percent by which b is better, None for the training losses
    of runs that draw or weigh noise levels differently; empty for two protocols."""
    refusal: str | None
    """Why metrics are not compared; None where they are."""
    heldout: LevelGain | str | None
    """The held-out losses by noise level, or why they are not compared; None where neither run has any."""

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        sides = {
            name: {**asdict(side), "heldout": side.heldout and side.heldout.model_dump(mode="json")}
            for name, side in (("a", self.a), ("b", self.b))
        }
        return {**asdict(self), **sides}


def compare(a: Side, b: Side) -> RunComparison:
    """Compare two runs; metrics of different fingerprints are never compared."""
    changed = _changed(a, b)
    refusal = None
    unmeasured = [side.name for side in (a, b) if not side.fingerprint]
    if unmeasured:
        have = "has" if len(unmeasured) == 1 else "have"
        refusal = f"metrics are not compared: {' and '.join(unmeasured)} {have} no evaluation"
    elif a.fingerprint != b.fingerprint:
        refusal = f"metrics are not compared: the protocols differ ({a.fingerprint} and {b.fingerprint})"
    # What decides which noise levels a training loss is of, and their weights.
    alike = _last_stage(a) == _last_stage(b) and not any(key.startswith(_OF_LEVELS) for key in changed)
    metrics = {
        key: {
            "a": a.metrics[key],
            "b": b.metrics[key],
            "gain": gain([b.metrics[key]], [a.metrics[key]], key) if key != "loss" or alike else None,
        }
        for key in in_order(a.metrics)
        if refusal is None and key in a.metrics and key in b.metrics
    }
    return RunComparison(a, b, changed, metrics, refusal, beside(a.heldout, b.heldout))


def _changed(a: Side, b: Side) -> dict[str, tuple[Any, Any]]:
    """The settings that differ; as MLflow writes them where one side has them from there alone."""
    of_a, of_b = (_params(side) if a.as_params or b.as_params else side.settings for side in (a, b))
    pairs = {key: (of_a.get(key), of_b.get(key)) for key in dict.fromkeys([*of_a, *of_b])}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _params(side: Side) -> dict[str, str]:
    """The settings as MLflow has them, without those that are null."""
    return {key: value for key, value in param_values(side.settings).items() if value != "null"}


def _last_stage(side: Side) -> int | None:
    return side.stage_starts[-1][1] if side.stage_starts else None


def find_run(what: str, output: Path | None, uri: str | None) -> Side:
    """Find a run by its folder, its trial's or run's key in `output`, or its MLflow run id; ConfigError otherwise."""
    if (folder := Path(what)).is_dir():
        return _from_folder(folder)
    if folder.is_absolute():
        raise ConfigError(f"A and B must name runs, but {what} is no folder")
    if output is None:
        return _from_mlflow(what, Path(), uri)
    folders = sorted({path.parent for path in output.glob(f"*/{TRIALS}/{_safe(what)}/{CONFIG_FILE}")})
    folders += sorted({path.parent for path in output.glob(f"{_safe(what)}/{CONFIG_FILE}")})
    if len(folders) > 1:
        raise ConfigError(
            f"{what!r} names {len(folders)} runs: give a folder, e.g. {folders[0]} or {folders[1]}"
        )
    return _from_folder(folders[0]) if folders else _from_mlflow(what, output, uri)


def _safe(key: str) -> str:
    import glob

    return glob.escape(key)


def _from_folder(folder: Path) -> Side:
    settings = folder / CONFIG_FILE
    if not settings.exists():
        raise ConfigError(f"{folder} holds no run: there is no {CONFIG_FILE} in it")
    record = TrialRecord.read(folder / RECORD_FILE)
    result: Measured | None = record or RunResult.read(folder / RESULT_FILE)
    return Side(
        name=folder.name if record is None else record.name,
        source=str(folder),
        settings=flatten(load_yaml(settings)),
        metrics={} if result is None else result.metrics,
        images=None if result is None else result.images,
        fingerprint=(result and result.fingerprint) or "",
        **({} if result is None else _stages(result)),
        history=() if result is None else result.history,
        heldout=(result and result.heldout) or read_heldout(folder),
    )


def _stages(run: Measured | SampledLevels) -> dict[str, Any]:
    """The stages of a result, or of the sampled noise levels."""
    return {
        "stage_starts": [list(start) for start in run.stage_starts],
        "stages_walked": f"{run.stages_walked}/{run.stages_asked}" if run.stages_asked else None,
        "images_in_stage": list(run.images_in_stage),
    }


def _from_mlflow(what: str, output: Path, uri: str | None) -> Side:
    store = open_store(uri, output, create=False)
    experiments = [found.experiment_id for found in store.client.search_experiments()]
    query = f"attributes.run_id = {quoted(what)}"
    runs = store.search_runs(experiments, query) if what.isalnum() else []
    if not runs:
        raise ConfigError(
            f"{what!r} is no run's folder, no trial's key in {output}, and no run of {store.shown}"
        )
    run = runs[0]
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name in (CONFIG_FILE, SAMPLED_FILE, HELDOUT_FILE):
            try:
                files[name] = Path(store.client.download_artifacts(what, name, folder))
            except Exception:  # each artifact store fails in its own way
                continue
        settings: Mapping[str, Any] = (
            flatten(load_yaml(files[CONFIG_FILE])) if CONFIG_FILE in files else run.data.params
        )
        sampled = read_sampled(Path(folder) / SAMPLED_FILE)
        heldout = read_heldout(Path(folder))
    metrics = dict(run.data.metrics)
    history: dict[int, dict[str, float]] = {}
    for name in DIRECTIONS:
        for key in previews.as_metrics({name: 0.0}).keys() & metrics.keys():
            for point in store.client.get_metric_history(what, key):
                history.setdefault(point.step, {})[name] = point.value
    return Side(
        name=str(run.info.run_name),
        source=f"MLflow run {what}",
        settings=dict(settings),
        metrics={key: value for key, value in metrics.items() if is_metric(key)},
        images=int(metrics["images"]) if "images" in metrics else None,
        fingerprint=run.data.tags.get(tag("fingerprint"), ""),
        **({} if sampled is None else _stages(sampled)),
        history=tuple(sorted(history.items())),
        heldout=heldout,
        as_params=CONFIG_FILE not in files,
    )
