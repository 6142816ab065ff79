"""The study in a bundle: its records, and the settings and course of each run, for whoever trains one again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.config.plain_yaml import TextFault, read_yaml
from curriculum_ray.runs.folder import CONFIG_FILE, LOG_FILE
from curriculum_ray.runs.log import lines_of
from tuning.bundle.archive import MANIFEST_FILE, Bundle
from tuning.bundle.course import Course, course_of
from tuning.bundle.names import WEIGHTS_FILE
from tuning.bundle.study_files import StudyIdentity, check_record, ranked
from tuning.evidence.arms import Arm
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord
from tuning.evidence.winner import best_arm
from tuning.folder.environment import Environment, Environments
from tuning.folder.layout import ENVIRONMENT_FILE, IDENTITY_FILE, RECORD_FILE, TRIALS
from tuning.folder.names import check_name

__all__ = ["PackedStudy"]


class PackedStudy:
    """The study in a bundle; ConfigError, one line, where something in it cannot be read."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.name = self._checked_name(bundle.manifest.study, MANIFEST_FILE)
        self.records = self._read_records()
        identity = parse(StudyIdentity, bundle.json(IDENTITY_FILE), f"{IDENTITY_FILE} in {bundle.source}")
        environments = Environments.from_json(
            bundle.json(ENVIRONMENT_FILE), f"{ENVIRONMENT_FILE} in {bundle.source}"
        )
        self.data: Mapping[str, Any] = identity.data
        self.ranking = ranked(self.records.values(), identity, environments, bundle.source)
        self.environment = environments.starts[-1] if environments.starts else None
        """What it was trained with last, where that is known."""
        self.environments = _distinct(environments.starts)
        """All that it was trained with; which of them trained a run is not recorded."""

    @cached_property
    def by_default(self) -> TrialRecord:
        """The run to be trained again by default: of the best schedule, on its first fresh seed if it has any."""
        arm = best_arm(self.ranking) or self.ranking.uniform
        if arm is None:
            raise ConfigError(
                f"{self.bundle.source} holds no finished trial: there is nothing to train again"
            )
        return _first(arm)

    def chosen(self, name: str) -> TrialRecord:
        """The run that a trial's key, an arm's id, `best` or `uniform` means; ConfigError for anything else.

        Of an arm, it is the one on its first fresh seed, if it has any.
        """
        if name in ("best", "uniform"):
            arm = self.ranking.uniform if name == "uniform" else best_arm(self.ranking)
            found = None if arm is None else _first(arm)
        else:
            record = next((each for key, each in self.records.items() if key == name), None)
            arm = next((each for each in self.ranking.arms if each.arm_id == name), None)
            found = record if record is not None or arm is None else _first(arm)
        if found is None:
            finished = [key for key, each in self.records.items() if each.status == "finished"]
            raise ConfigError(
                f"--arm must be best, uniform, an arm's id or one of {', '.join(finished)}, but got {name}"
            )
        if found.status != "finished":
            raise ConfigError(
                f"--arm {name} is {found.status} in {self.bundle.source}: choose a finished one"
            )
        return found

    @staticmethod
    def settings_file(key: TrialKey) -> str:
        """The name of the file with the settings of a run."""
        return f"{TRIALS}/{key}/{CONFIG_FILE}"

    def settings(self, key: TrialKey) -> dict[str, Any]:
        """The settings of a run."""
        name = self.settings_file(key)
        try:
            found = read_yaml(self.bundle.text(name))
        except TextFault as error:
            raise self.bundle.fault(name, str(error)) from None
        if not isinstance(found, dict):
            raise self.bundle.fault(name, "it must hold a mapping of keys to values")
        return found

    def course(self, record: TrialRecord, whole: bool = True) -> Course:
        """What was recorded of a run; unless `whole`, without what is known at its end only."""
        place = f"{TRIALS}/{record.key}"
        weights = self.mapping(f"{place}/{WEIGHTS_FILE}")
        lines = lines_of(self.bundle.text(f"{place}/{LOG_FILE}"))
        digests = {key: str(value) for key, value in weights.items()}
        return course_of(lines, record.heldout, record if whole else None, digests)

    def mapping(self, name: str) -> dict[str, Any]:
        """The keys and values in a JSON file."""
        found = self.bundle.json(name)
        if not isinstance(found, dict):
            raise self.bundle.fault(name, "it must hold a mapping of keys to values")
        return found

    def _read_records(self) -> dict[TrialKey, TrialRecord]:
        found = {}
        for name in self.bundle.files:
            folder, _, rest = name.partition("/")
            key, _, file = rest.partition("/")
            if folder == TRIALS and file == RECORD_FILE:
                source = f"{name} in {self.bundle.source}"
                record = TrialRecord.from_json(self.bundle.json(name), source)
                if record.key != key:
                    raise self.bundle.fault(name, f"it is the record of {record.key}")
                check_record(record, source)
                self._checked_name(key, name)
                found[record.key] = record
        return found

    def _checked_name(self, name: str, file: str) -> str:
        """The name of a folder that is written where a run is trained again."""
        try:
            check_name(name)
        except ValueError as error:
            raise self.bundle.fault(file, str(error)) from None
        return name


def _distinct(starts: Iterable[Environment]) -> tuple[Environment, ...]:
    """The first of those that differ in nothing but what they asked for."""
    found: list[Environment] = []
    for start in starts:
        if all(start.model_copy(update={"asked": each.asked}) != each for each in found):
            found.append(start)
    return tuple(found)


def _first(arm: Arm) -> TrialRecord:
    return min(arm.confirmed or arm.searched, key=lambda record: (record.seed, record.key))
