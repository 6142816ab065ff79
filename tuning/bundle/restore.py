"""Writes the study in a bundle into a folder, in which the search goes on as it would where it was packed."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum_ray.buckets.address import is_address
from curriculum_ray.config import YAML_SUFFIXES, ConfigError, parse
from curriculum_ray.config.plain_yaml import write_yaml
from curriculum_ray.files import replace_file
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.folder import HELDOUT_FILE, LOG_FILE, SAMPLED_FILE, SCHEDULE_FILE
from curriculum_ray.runs.log import lines_of
from curriculum_ray.runs.sampled_file import SampledLevels
from tuning.bundle.local_paths import (
    LOCAL,
    check_given,
    files_left_out,
    files_of,
    with_files,
    with_paths,
)
from tuning.bundle.names import WEIGHTS_FILE
from tuning.bundle.optuna_journal import journal_lines
from tuning.bundle.packed_study import PackedStudy
from tuning.evidence.records import TrialRecord
from tuning.folder.environment import Environments
from tuning.folder.identity import Content
from tuning.folder.layout import (
    ENVIRONMENT_FILE,
    IDENTITY_FILE,
    JOURNAL_FILE,
    RECORD_FILE,
    STUDY_FILE,
    SUMMARY_FILE,
    TIME_FILE,
    TRIALS,
)
from tuning.folder.names import check_name
from tuning.folder.time_used import TimeUsed
from tuning.search.samplers import open_storage
from tuning.study.config import StudyConfig
from tuning.study.overlay import lay_over
from tuning.study.space import SearchSpace

__all__ = ["Restored", "restore_study"]


_SPACE = "space"
"""Folder of the file of a space that does not ship with the package."""


@dataclass(frozen=True)
class Restored:
    """A study that was written into a folder."""

    folder: Path
    config: StudyConfig
    """Its settings, and what its last start asked for."""
    note: str | None
    """What the search lacks here, in a sentence; None where it goes on as it would have."""


def restore_study(study: PackedStudy, folder: Path, given: Mapping[str, tuple[str, str]]) -> Restored:
    """Write the study of a bundle into `folder`, which there must not be yet: all of it or, on an error, nothing.

    given: (option, path) by dotted key, for files that a bundle does not hold. ConfigError, one line, where the bundle
    cannot be read or the folder cannot be written.
    """
    files, config = _files(study, folder, given)
    if folder.exists() or folder.is_symlink():
        raise ConfigError(
            f"{folder} exists: choose another --name or --output, or go on with the study there"
        )
    try:
        partial = Path(tempfile.mkdtemp(prefix=".restored-", dir=folder.parent))
        try:
            for name, content in files.items():
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                replace_file(partial / name, content, durable=False)
            _check_journal(partial, study.bundle.source)
            partial.chmod(0o755)
            partial.rename(folder)
        except BaseException:
            with suppress(OSError):
                shutil.rmtree(partial)
            raise
    except OSError as error:
        raise ConfigError(f"--output {folder.parent} cannot be written: {error.strerror or error}") from None
    searched = any(record.role == "searched" for record in study.records.values())
    return Restored(
        folder=folder,
        config=config,
        note=None
        if JOURNAL_FILE in files or not searched
        else "the bundle does not hold Optuna's study: further schedules are suggested without those that were tried",
    )


def _files(
    study: PackedStudy, folder: Path, given: Mapping[str, tuple[str, str]]
) -> tuple[dict[str, str], StudyConfig]:
    """The text of each file of the study's folder by its name, and the study's settings."""
    source = study.bundle.source
    identity = study.mapping(IDENTITY_FILE)
    environments = Environments.from_json(study.mapping(ENVIRONMENT_FILE), f"{ENVIRONMENT_FILE} in {source}")
    values: dict[str, Any] = {
        IDENTITY_FILE: identity,
        STUDY_FILE: study.mapping(STUDY_FILE),
        ENVIRONMENT_FILE: environments.to_json(),
    }
    if SUMMARY_FILE in study.bundle.files:
        values[SUMMARY_FILE] = study.mapping(SUMMARY_FILE)
    if TIME_FILE in study.bundle.files:
        used = TimeUsed.from_json(study.mapping(TIME_FILE), f"{TIME_FILE} in {source}")
        values[TIME_FILE] = used.to_json()
    runs: dict[str, tuple[dict[str, Any], RunConfig]] = {}
    for record in study.records.values():
        values |= {f"{TRIALS}/{record.key}/{name}": value for name, value in _trial(study, record).items()}
        if (name := study.settings_file(record.key)) in study.bundle.files:
            own = study.settings(record.key)
            runs[name] = own, parse(RunConfig, own, f"{name} in {source}")
    settings = f"{STUDY_FILE} and {ENVIRONMENT_FILE} in {source}"
    known = StudyConfig().asked()
    asked = {key: value for key, value in environments.asked.items() if key in known}
    config = parse(StudyConfig, {**values[STUDY_FILE], **asked}, settings)
    _check_settings(values[STUDY_FILE], config, f"{STUDY_FILE} in {source}")
    own_space = _own_space(config, identity, source)
    _check_overlays(config, own_space or _shipped(config), source)
    _check_identity(identity, source)
    # Its content is in the bundle.
    values[STUDY_FILE] = {key: None if key == "space" else value for key, value in values[STUDY_FILE].items()}
    check_given(_named(values, [config.run, *(run for _, run in runs.values())], source), given, source)
    given = {key: (option, _whole(path)) for key, (option, path) in given.items()}
    paths = {key: path for key, (_, path) in given.items()}
    values = {name: with_paths(value, paths, (Path(name).stem,)) for name, value in values.items()}
    values[STUDY_FILE]["space"] = config.space
    if own_space is not None:
        place = Path(_SPACE, f"{own_space.name}.yaml")
        values[str(place)] = own_space.model_dump(mode="json", exclude={"name"})
        values[STUDY_FILE]["space"] = str((folder / place).absolute())
    values[STUDY_FILE]["run"] = _with_files(values[STUDY_FILE]["run"], config.run, given)
    values |= {name: _with_files(settings, run, given) for name, (settings, run) in runs.items()}
    config = parse(StudyConfig, {**values[STUDY_FILE], **asked}, settings)
    texts = {name: _written(name, value) for name, value in values.items()}
    return {**texts, **_lines(study)}, config


def _own_space(config: StudyConfig, identity: Mapping[str, Any], source: str) -> SearchSpace | None:
    """The space of a study of whatever the bundle counts of it; None for one that ships with the package."""
    path = Path(config.space.removeprefix(LOCAL))
    if config.arms or path.suffix not in YAML_SUFFIXES:
        return None
    try:
        check_name(path.name)
    except ValueError as error:
        raise ConfigError(f"space in {STUDY_FILE} in {source}: {error}") from None
    content = identity.get("space")
    if not isinstance(content, dict):
        raise ConfigError(f"{IDENTITY_FILE} in {source} must hold a mapping of keys to values as space")
    return parse(SearchSpace, {**content, "name": path.stem}, f"space in {IDENTITY_FILE} in {source}")


def _shipped(config: StudyConfig) -> SearchSpace:
    return SearchSpace.of_arms() if config.arms else SearchSpace.load(config.space)


def _lines(study: PackedStudy) -> dict[str, str]:
    """The text of each file that has a JSON value a line, by its name."""
    logs = [f"{TRIALS}/{key}/{LOG_FILE}" for key in study.records]
    found = {name: [line.to_json() for line in lines_of(study.bundle.text(name))] for name in logs}
    if JOURNAL_FILE in study.bundle.files:
        source = f"{JOURNAL_FILE} in {study.bundle.source}"
        journal = journal_lines(study.bundle.text(JOURNAL_FILE), source)
        found[JOURNAL_FILE] = [json.dumps(line) for line in journal]
    return {name: "".join(f"{line}\n" for line in lines) for name, lines in found.items()}


def _with_files(
    settings: dict[str, Any], config: RunConfig, given: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """Settings of a run, as they are and checked, with the user's paths in place of the bundle's."""
    own = {key: given[key] for key in files_of(config)}
    return with_files(config, own) if own else settings


def _whole(path: str) -> str:
    """A path that means the same in every working folder."""
    return path if is_address(path) else str(Path(path).absolute())


def _trial(study: PackedStudy, record: TrialRecord) -> dict[str, Any]:
    """The values in the files of a trial, by name."""
    bundle, place = study.bundle, f"{TRIALS}/{record.key}"
    found: dict[str, Any] = {
        RECORD_FILE: record.model_copy(update={"folder": None, "checkpoint": None}).to_json(),
        SCHEDULE_FILE: record.schedule,
        WEIGHTS_FILE: study.mapping(f"{place}/{WEIGHTS_FILE}"),
    }
    if record.heldout is not None:
        found[HELDOUT_FILE] = record.heldout.model_dump(mode="json")
    if (name := f"{place}/{SAMPLED_FILE}") in bundle.files:
        sampled = parse(SampledLevels, bundle.json(name), f"{name} in {bundle.source}")
        found[SAMPLED_FILE] = sampled.model_dump(mode="json")
    return found


def _check_identity(identity: Mapping[str, Any], source: str) -> None:
    """ConfigError where the study could not be recognised here."""
    parts: dict[str, Any] = {key: identity.get(key) for key in ("settings", "data", "protocol", "space")}
    if Content(**parts).hash != identity.get("hash"):
        raise ConfigError(
            f"{source} cannot go on: the hash in its {IDENTITY_FILE} is not that of the content, which was changed, or "
            "held a path of the machine that packed it"
        )


def _check_settings(settings: Mapping[str, Any], config: StudyConfig, source: str) -> None:
    """ConfigError where a study's own settings hold some that are not of the study but of where it runs."""
    strange = sorted({*settings} - {*config.decisive(), *config.asked(), "arms"})
    if strange:
        raise ConfigError(f"{source} sets {strange[0]}, which is no part of a study: it was changed")


def _check_overlays(config: StudyConfig, space: SearchSpace, source: str) -> None:
    """ConfigError where an arm, a rival or the space names a file, which counts by its path, in whatever form."""
    base, own = config.run.model_dump(mode="json"), files_of(config.run)
    plain = space.apply(base, {})
    laid = {"space": plain}
    for number, point in enumerate((*space.start, *space.probes())):
        laid[f"space, point {number}"] = space.apply(base, point)
    for group, given in (("rivals", {**space.rivals, **config.rivals}), ("arms", config.arms)):
        laid |= {f"{group}.{name}": lay_over(plain, keys, f"{group}.{name}") for name, keys in given.items()}
    for name, settings in laid.items():
        named = files_of(parse(RunConfig, settings, f"{name} in {source}"))
        if others := [file for key, file in named.items() if own.get(key) != file]:
            raise ConfigError(
                f"{source} cannot go on elsewhere: {others[0]}, a file that its {name.partition(',')[0]} names, is "
                "part of what the study is by its path"
            )


def _named(values: Mapping[str, Any], runs: Iterable[RunConfig], source: str) -> dict[str, str]:
    """What the study calls the files that it needs, by dotted key."""
    found: dict[str, str] = {}
    of_runs = (file for run in runs for file in files_of(run).items())
    others = (file for name, value in values.items() for file in files_left_out(value, (Path(name).stem,)))
    for key, file in (*of_runs, *others):
        if found.setdefault(key, file) != file:
            raise ConfigError(
                f"{source} names two files as {key}, {found[key]} and {file}: it can go on only where it was packed"
            )
    return found


def _check_journal(folder: Path, source: str) -> None:
    """ConfigError where Optuna cannot read the journal in `folder`."""
    if not (folder / JOURNAL_FILE).exists():
        return
    try:
        open_storage(None, folder).get_all_studies()
    except Exception as error:  # Optuna raises whatever a missing or strange value leads to
        raise ConfigError(
            f"{JOURNAL_FILE} in {source} is not readable by Optuna: {type(error).__name__}: {error}"
        ) from None


def _written(name: str, value: Any) -> str:
    return json.dumps(value, indent=1) if name.endswith(".json") else write_yaml(value)
