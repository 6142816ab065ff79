"""Trial records and results for the tests of a study, and how a search writes them to MLflow."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.result import RunResult
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord
from tuning.study.config import FRESH_SEEDS
from tuning.study.trial_spec import TrialSpec
from tuning.tracking import Tracker

FINGERPRINT = "f00dcafe"
EXPERIMENT = "digits/ddpm-epsilon"


def schedule(count: int = 20, direction: str = "easy_to_hard") -> dict[str, Any]:
    """A schedule as its file holds it."""
    if direction == "none":
        return {"version": 1, "clusters": {"by": "uniform", "count": count}, "order": {"direction": "none"}}
    return {
        "version": 1,
        "base": {"kind": "uniform"},
        "clusters": {"by": "uniform", "count": count},
        "order": {"by": "noise_level", "direction": direction},
        "pacing": {"rule": "plateau", "patience": 20},
        "active": {"set": "cumulative", "floor": 0.0},
    }


def record(fid: float | None = 10.0, **changes: Any) -> TrialRecord:
    """A trial's record; without `fid` one that failed."""
    values = {
        "trial": 0,
        "key": "search-000",
        "name": "a schedule",
        "role": "searched",
        "control": None,
        "seed": 0,
        "schedule": schedule(),
        "images": 76800,
        "total_images": 76800,
        "metrics": {} if fid is None else {**metrics(fid), "loss": 0.1},
        "fingerprint": FINGERPRINT,
        "status": "failed" if fid is None else "finished",
        "seconds": 30.0,
        **changes,
    }
    values.setdefault("schedule_id", f"id-{values['schedule']['clusters']['count']}-{values['control']}")
    values.setdefault("arm_id", values["schedule_id"])
    return TrialRecord(**values)


UNIFORM: dict[str, Any] = {
    "role": "control",
    "control": "uniform",
    "schedule": schedule(1, "none"),
    "key": TrialKey.uniform(),
}
"""What makes a record that of uniform sampling in the search."""


def trials(*fids: float, **changes: Any) -> list[TrialRecord]:
    """Records of the search, each with as many clusters as its FID says."""
    return [
        record(fid, key=TrialKey.search(int(fid)), schedule=schedule(int(fid)), **changes) for fid in fids
    ]


def fresh(fids: Iterable[float], clusters: int, **changes: Any) -> list[TrialRecord]:
    """Confirmations of `trials(clusters)`, of uniform sampling with 1 cluster: one FID a seed."""
    key = TrialKey.uniform() if clusters == 1 else TrialKey.search(clusters)
    control = "uniform" if clusters == 1 else None
    return [
        record(
            fid,
            key=key.confirmation(seed),
            role="confirmation",
            control=control,
            seed=seed,
            schedule=schedule(clusters, "none" if clusters == 1 else "easy_to_hard"),
            **changes,
        )
        for seed, fid in enumerate(fids, start=FRESH_SEEDS)
    ]


def named_runs(name: str, fids: Iterable[float | None], curriculum: bool = True) -> list[TrialRecord]:
    """Runs on fresh seeds of a named arm, or of "uniform"; None for one that failed."""
    plain = name == "uniform"
    key = TrialKey.uniform() if plain else TrialKey.arm(name)
    return [
        record(
            fid,
            key=key.confirmation(seed),
            role="confirmation",
            control="uniform" if plain else None,
            origin=key,
            seed=seed,
            arm_id=name,
            arm_name=name,
            schedule=schedule(20) if curriculum and not plain else schedule(1, "none"),
        )
        for seed, fid in enumerate(fids, start=FRESH_SEEDS)
    ]


def started(planned: TrialSpec, run: RunConfig) -> TrialRecord:
    """The record of a trial that a study has just begun."""
    return planned.begun(0, run, Path("nowhere"))


def metrics(fid: float) -> dict[str, float]:
    """What an evaluation measures."""
    return {"fid": fid, "kid": fid / 10, "precision": 0.5, "recall": 0.25}


def result(fid: float = 10.0, **changes: Any) -> RunResult:
    """What a run's worker hands back."""
    values = {
        "images": 76800,
        "metrics": metrics(fid),
        "fingerprint": FINGERPRINT,
        "protocol": {},
        "seconds": 30.0,
        "checkpoint": "nowhere",
        "resumed_at": 0,
        "loss": 0.1,
        **changes,
    }
    return RunResult(**values)


def write_trial(
    tracker: Tracker,
    study: str,
    values: TrialRecord,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    **tags: Any,
) -> str:
    """Store a record as a search does. settings: those of its run besides the schedule."""
    clusters = values.drawn_by.clusters.count
    run = tracker.trial(
        study,
        values.key,
        values.name,
        {**(settings or {}), "schedule": values.drawn_by.model_dump(mode="json")},
        {
            "role": values.role,
            "control": values.control,
            "seed": values.seed,
            "schedule_id": values.schedule_id,
            "schedule": f"{clusters} clusters",
            "arm_id": values.arm_id,
            "arm": values.arm_name,
            **tags,
        },
    )
    path = folder / values.key / "schedule.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"version: 1\nclusters: {{by: uniform, count: {clusters}}}\n")
    tracker.log(run, values.metrics, values.images)
    tracker.artifacts(run, [path])
    tracker.finish(run, "FINISHED" if values.status == "finished" else "FAILED")
    return run
