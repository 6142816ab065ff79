"""Packs the folder of a study into a bundle: settings, records, logs and the report, without this machine's paths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum_ray.config import ConfigError, load_json, load_yaml
from curriculum_ray.config.plain_yaml import write_yaml
from curriculum_ray.runs.folder import CONFIG_FILE, LOG_FILE, SCHEDULE_FILE
from curriculum_ray.runs.log import logged
from curriculum_ray.training.checkpoint import find_checkpoints, recorded_digests
from tuning.bundle.archive import archived
from tuning.bundle.local_paths import Portable
from tuning.bundle.names import ANSWER_FILE, WEIGHTS_FILE
from tuning.evidence.answer import answer
from tuning.evidence.arms import Arm, Ranking
from tuning.evidence.keys import TrialKey
from tuning.evidence.metrics import MARGIN
from tuning.evidence.records import TrialRecord, damaged_records, load_records
from tuning.evidence.winner import choose
from tuning.folder.environment import Environments
from tuning.folder.layout import (
    ENVIRONMENT_FILE,
    IDENTITY_FILE,
    RECORD_FILE,
    REPORT_FILE,
    STATUS_FILE,
    STUDY_FILE,
    SUMMARY_FILE,
    TRIALS,
)
from tuning.folder.status import read_status

__all__ = ["Packed", "pack_study"]

_PATIENCE_S = 3.0


@dataclass(frozen=True)
class Packed:
    """A bundle's bytes, and what to say about them."""

    content: bytes
    trials: int
    answer: str


def pack_study(folder: Path) -> Packed:
    """Pack the ended study in `folder`; ConfigError, one line, where there is none."""
    identity = _identity(folder)
    records = load_records(folder)
    report = folder / REPORT_FILE
    if not records or not report.is_file():
        raise ConfigError(f"{folder} holds no report: run the search to its end first, by the same command")
    state = read_status(folder, _PATIENCE_S).state if (folder / STATUS_FILE).is_file() else None
    if state == "running":
        raise ConfigError(f"{folder} is being searched at this moment: pack it when it has ended")
    _check_whole(folder, records, ended=state == "finished")
    settings = identity["settings"]
    portable = Portable([folder, *_searched_in(folder, records)], settings["run"])
    metric = str(settings["metric"])
    environments = Environments.read(folder / ENVIRONMENT_FILE) or Environments()
    ranking = Ranking.of(records.values(), metric, environments.margin or MARGIN)
    shown = _shown(ranking)
    files = {
        IDENTITY_FILE: _json({**identity, "settings": _study_settings(settings, portable)}),
        STUDY_FILE: _json(_study_settings(load_json(folder / STUDY_FILE), portable)),
        ENVIRONMENT_FILE: _json(environments.to_json()),
        REPORT_FILE: portable.page(report.read_text(encoding="utf-8")).encode(),
        ANSWER_FILE: _json(_answer(ranking, shown)),
        **({} if shown is None else {SCHEDULE_FILE: _schedule(shown.records[0], portable)}),
    }
    if (folder / SUMMARY_FILE).is_file():
        summary = {**load_json(folder / SUMMARY_FILE), "path": ""}
        files[SUMMARY_FILE] = _json(portable.value(summary))
    for record in records.values():
        files |= {f"{TRIALS}/{record.key}/{name}": text for name, text in _trial(record, portable).items()}
    content = archived(folder.resolve().name, str(identity["id"]), files)
    return Packed(content, len(records), answer(ranking))


def _check_whole(folder: Path, records: Mapping[TrialKey, TrialRecord], ended: bool) -> None:
    """Refuse a study without the record of one of its trials, whose answer might be another one.

    ended: whether all of its trials have ended, so that each must have a record.
    """
    again = "a bundle holds every trial: run the search again first, by the same command"
    damaged = [str(path) for path in damaged_records(folder)]
    if damaged:
        raise ConfigError(f"{', '.join(damaged)} cannot be read, and {again}")
    trials = sorted(path for path in (folder / TRIALS).iterdir() if path.is_dir())
    missing = [str(path) for path in trials if path.name not in records]
    if ended and missing:
        raise ConfigError(f"there is no {RECORD_FILE} in {', '.join(missing)}, and {again}")


def _identity(folder: Path) -> dict[str, Any]:
    path = folder / IDENTITY_FILE
    if not path.is_file():
        raise ConfigError(f"{folder} is not the folder of a study: it holds no {IDENTITY_FILE}")
    found = load_json(path)
    if not isinstance(found, dict) or found.get("kind") != "study" or "settings" not in found:
        raise ConfigError(f"{folder} is not the folder of a study, by its {IDENTITY_FILE}")
    return found


def _searched_in(folder: Path, records: Mapping[TrialKey, TrialRecord]) -> set[Path]:
    """The folders in which the study was searched, by its records: it may have been moved since."""
    places = {str(load_json(folder / TRIALS / key / RECORD_FILE).get("folder") or folder) for key in records}
    return {Path(place).parents[1] for place in places if place.count("/") > 2}


def _study_settings(settings: Mapping[str, Any], portable: Portable) -> dict[str, Any]:
    run = portable.settings(settings["run"])
    return {**{key: portable.value(value) for key, value in settings.items()}, "run": run}


def _shown(ranking: Ranking) -> Arm | None:
    """The arm whose schedule the study stands for."""
    choice = choose(ranking)
    return ranking.uniform if choice is None else choice.arm


def _answer(ranking: Ranking, shown: Arm | None) -> dict[str, Any]:
    choice = choose(ranking)
    return {
        "answer": answer(ranking),
        "metric": ranking.metric,
        "margin": ranking.margin,
        "verdict": None if choice is None else choice.verdict,
        "stands_for": None if shown is None else shown.name,
        "arms": [
            {
                "arm_id": arm.arm_id,
                "name": arm.name,
                "searched": [record.key for record in arm.searched],
                "confirmed": [record.key for record in arm.confirmed],
            }
            for arm in ranking.arms
        ],
    }


def _schedule(record: TrialRecord, portable: Portable) -> bytes:
    return write_yaml(portable.settings({"schedule": record.schedule})["schedule"]).encode()


def _trial(record: TrialRecord, portable: Portable) -> dict[str, bytes]:
    """The files of a trial, by name."""
    folder = record.ran_in
    bare = record.model_copy(update={"folder": None, "checkpoint": None}).to_json()
    bare["schedule"] = portable.settings({"schedule": record.schedule})["schedule"]
    newest = find_checkpoints(folder, record.key)[:1]
    files = {
        RECORD_FILE: _json(portable.value(bare)),
        SCHEDULE_FILE: _schedule(record, portable),
        LOG_FILE: "".join(line.to_json() + "\n" for line in logged(folder)).encode(),
        WEIGHTS_FILE: _json(recorded_digests(newest[0]) if newest else {}),
    }
    settings = folder / CONFIG_FILE
    if settings.is_file():
        files[CONFIG_FILE] = write_yaml(portable.settings(load_yaml(settings))).encode()
    return files


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()
