"""Packs the folder of a study into a bundle: settings, records and logs, without this machine's paths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from curriculum_ray.config import ConfigError, load_yaml, parse
from curriculum_ray.config.plain_yaml import write_yaml
from curriculum_ray.runs.folder import CONFIG_FILE, LOG_FILE, SAMPLED_FILE, SCHEDULE_FILE
from curriculum_ray.runs.log import logged
from curriculum_ray.runs.sampled_file import read_sampled
from curriculum_ray.training.checkpoint import find_checkpoints, recorded_digests
from tuning.bundle.archive import archived, bundle_of
from tuning.bundle.names import ANSWER_FILE, WEIGHTS_FILE
from tuning.bundle.optuna_journal import journal_lines
from tuning.bundle.packed_study import PackedStudy
from tuning.bundle.portable import Portable, paths_in
from tuning.bundle.study_files import StudyIdentity, StudySettings, check_record, ranked
from tuning.evidence.answer import answer
from tuning.evidence.arms import Arm, Ranking
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord, damaged_records, load_records
from tuning.evidence.winner import choose
from tuning.folder.environment import Environments
from tuning.folder.layout import (
    ENVIRONMENT_FILE,
    IDENTITY_FILE,
    JOURNAL_FILE,
    RECORD_FILE,
    REPORT_FILE,
    STATUS_FILE,
    STUDY_FILE,
    SUMMARY_FILE,
    TIME_FILE,
    TRIALS,
)
from tuning.folder.status import read_status
from tuning.folder.time_used import TimeUsed

__all__ = ["Packed", "pack_study"]

_PATIENCE_S = 3.0


@dataclass(frozen=True)
class Packed:
    """A bundle's bytes, and what to say about them."""

    content: bytes
    trials: int
    answer: str
    ended: bool
    """Whether all of the study is in it, and not only the trials that have ended so far."""


def pack_study(folder: Path, report: bool = True) -> Packed:
    """Pack the study in `folder`; ConfigError, one line, where there is none, it is running, or a file is damaged.

    report: whether its page with the figures is packed, most of the bytes.
    """
    try:
        return _packed(folder, report)
    except OSError as error:
        raise ConfigError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from None


def _packed(folder: Path, report: bool) -> Packed:
    stored = _identity(folder)
    identity = parse(StudyIdentity, stored, str(folder / IDENTITY_FILE))
    records = load_records(folder)
    if not records:
        raise ConfigError(f"no trial in {folder} has ended: run the search first, by the same command")
    state = read_status(folder, _PATIENCE_S).state if (folder / STATUS_FILE).is_file() else None
    if state == "running":
        raise ConfigError(f"{folder} is being searched at this moment: stop it, or pack it when it has ended")
    _check_whole(folder, records, ended=state == "finished")
    environments = _environments(folder / ENVIRONMENT_FILE)
    ranking = ranked(records.values(), identity, environments, str(folder))
    shown = _shown(ranking)
    values = {
        IDENTITY_FILE: stored,
        STUDY_FILE: _settings(folder / STUDY_FILE),
        ENVIRONMENT_FILE: environments.to_json(),
        ANSWER_FILE: _answer(ranking, shown),
        **({} if shown is None else {SCHEDULE_FILE: shown.records[0].schedule}),
        **(_summary(folder / SUMMARY_FILE) if (folder / SUMMARY_FILE).is_file() else {}),
    }
    if (time_used := TimeUsed.read(folder / TIME_FILE)) is not None:
        values[TIME_FILE] = time_used.to_json()
    for record in records.values():
        values |= {f"{TRIALS}/{record.key}/{name}": value for name, value in _trial(record).items()}
    named = {path for name, value in values.items() for path in paths_in(value, _place(name))}
    portable = Portable([folder, *_searched_in(folder, records)], named)
    files = {name: _written(name, portable.value(value, _place(name))) for name, value in values.items()}
    page = folder / REPORT_FILE
    if report and page.is_file():
        files[REPORT_FILE] = portable.page(_text(page)).encode()
    if (journal := folder / JOURNAL_FILE).is_file():
        plain = [portable.value(line) for line in journal_lines(_text(journal), str(journal))]
        files[JOURNAL_FILE] = "".join(json.dumps(line) + "\n" for line in plain).encode()
    for record in records.values():
        lines = "".join(line.to_json() + "\n" for line in logged(record.ran_in))
        files[f"{TRIALS}/{record.key}/{LOG_FILE}"] = lines.encode()
    content = archived(folder.resolve().name, identity.id, files)
    # Nothing is packed that `verify` would refuse.
    PackedStudy(bundle_of(content, str(folder)))
    ended = state == "finished" or (state is None and page.is_file())
    return Packed(content, len(records), answer(ranking), ended)


def _check_whole(folder: Path, records: Mapping[TrialKey, TrialRecord], ended: bool) -> None:
    """Refuse a study without a sound record of one of its trials, whose answer might be another one.

    ended: whether all of its trials have ended, so that each must have a record.
    """
    again = "a bundle holds every trial: run the search again first, by the same command"
    damaged = [str(path) for path in damaged_records(folder)]
    if damaged:
        raise ConfigError(f"{', '.join(damaged)} cannot be read, and {again}")
    for key, record in records.items():
        check_record(record, str(folder / TRIALS / key / RECORD_FILE))
    trials = sorted(path for path in (folder / TRIALS).iterdir() if path.is_dir())
    missing = [str(path) for path in trials if path.name not in records]
    if ended and missing:
        raise ConfigError(f"there is no {RECORD_FILE} in {', '.join(missing)}, and {again}")


def _identity(folder: Path) -> dict[str, Any]:
    path = folder / IDENTITY_FILE
    if not path.is_file():
        raise ConfigError(f"{folder} is not the folder of a study: it holds no {IDENTITY_FILE}")
    found = load_yaml(path)
    if found.get("kind") != "study":
        raise ConfigError(f"{folder} is not the folder of a study, by its {IDENTITY_FILE}")
    return found


def _settings(path: Path) -> dict[str, Any]:
    found = load_yaml(path)
    parse(StudySettings, found, str(path))
    return found


def _summary(path: Path) -> dict[str, Any]:
    return {SUMMARY_FILE: {**load_yaml(path), "path": ""}}


def _environments(path: Path) -> Environments:
    return Environments.from_json(load_yaml(path), str(path)) if path.is_file() else Environments()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} cannot be read: it is not UTF-8") from None


def _searched_in(folder: Path, records: Mapping[TrialKey, TrialRecord]) -> set[Path]:
    """The folders in which the study was searched, by its records: it may have been moved since."""
    found = (TrialRecord.read(folder / TRIALS / key / RECORD_FILE) for key in records)
    ran_in = {record.folder for record in found if record is not None and record.folder is not None}
    return {place.parents[1] for place in ran_in if len(place.parents) > 2}


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


def _trial(record: TrialRecord) -> dict[str, Any]:
    """The values in the files of a trial, by name."""
    folder = record.ran_in
    settings = folder / CONFIG_FILE
    sampled = read_sampled(folder / SAMPLED_FILE)
    return {
        RECORD_FILE: record.model_copy(update={"folder": None, "checkpoint": None}).to_json(),
        SCHEDULE_FILE: record.schedule,
        WEIGHTS_FILE: _digests(record),
        **({CONFIG_FILE: load_yaml(settings)} if settings.is_file() else {}),
        **({} if sampled is None else {SAMPLED_FILE: sampled.model_dump(mode="json")}),
    }


def _digests(record: TrialRecord) -> dict[str, Any]:
    """Those of the last weights: of the checkpoint or, of a study that came from a bundle, as that has them."""
    newest = next(iter(find_checkpoints(record.ran_in, record.key)), None)
    if newest is not None:
        return dict(recorded_digests(newest))
    kept = record.ran_in / WEIGHTS_FILE
    return load_yaml(kept) if kept.is_file() else {}


def _place(name: str) -> tuple[str, ...]:
    """The key that leads to the value in a file: schedule.yaml holds the schedule of a run."""
    return (PurePosixPath(name).stem,)


def _written(name: str, value: Any) -> bytes:
    text = json.dumps(value, indent=1) if name.endswith(".json") else write_yaml(value)
    return text.encode()
