"""The end of a report: trials that failed, the evaluation protocol, and the commands that reproduce the study."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curriculum_ray.runs.folder import SCHEDULE_FILE
from curriculum_ray.words import capitalized
from tuning.evidence.devices import mixed_kinds
from tuning.evidence.records import TrialRecord
from tuning.figures.page import Html, details, facts, paragraph, section, table, tag
from tuning.folder.layout import SETTINGS_SUFFIX, STUDY_FILE
from tuning.folder.versions import package_versions
from tuning.report.facts import StudyFacts

__all__ = ["failures", "protocol", "reproduction"]


def failures(records: Sequence[TrialRecord]) -> Html:
    """List the trials that failed or were stopped."""
    rows = [
        [record.name, record.status, record.reason or ""] for record in records if record.status != "finished"
    ]
    return (
        section("Trials without a result", table(["trial", "status", "reason"], rows, kind="texts"))
        if rows
        else Html()
    )


def protocol(records: Sequence[TrialRecord]) -> Html:
    """Describe how the numbers were measured, once for each fingerprint."""
    found: dict[str, Mapping[str, Any]] = {}
    for record in records:
        if record.status == "finished" and record.fingerprint:
            found[record.fingerprint] = found.get(record.fingerprint) or record.protocol or {}
    known = [facts([("fingerprint", tag("code", key)), *how.items()]) for key, how in found.items()]
    if not known:
        return Html()
    note = "Numbers are comparable only where the fingerprint is the same."
    lines = dict.fromkeys(record.unvisited for record in records if record.unvisited)
    said = [paragraph(f"Of some runs or all: {line}.") for line in lines]
    if kinds := mixed_kinds(records):
        said.append(paragraph(f"{capitalized(kinds)}. See resources.accelerator_type."))
    return section("How the numbers were measured", paragraph(note, faint=True), *said, *known)


def reproduction(study: StudyFacts, output: Path) -> Html:
    """List the next commands, the versions and the settings."""
    text = "\n".join(f"# {what}\n{command}" for what, command in _commands(study, output))
    versions = [
        ("python", platform.python_version()),
        *package_versions().items(),
        ("platform", platform.platform()),
    ]
    return section(
        "Reproduce this study",
        tag("pre", text),
        facts(versions),
        details("settings of the study", tag("pre", json.dumps(study.settings, indent=1)))
        if study.settings
        else None,
    )


def _commands(study: StudyFacts, output: Path) -> list[tuple[str, str]]:
    place = output.parent if study.address is None else study.address
    where = [] if place == Path("runs") else ["--output", str(place)]
    metric = [] if study.metric == "fid" else ["--metric", study.metric]
    tune = ["python", "-m", "tune"]
    settings = Path(SCHEDULE_FILE).with_suffix(SETTINGS_SUFFIX)
    return [
        *_search(study, output, tune),
        (
            "ask MLflow what the study found, and write its schedule and settings",
            shlex.join([*tune, "best", "--study", study.name, *metric, *where]),
        ),
        ("train with them", shlex.join([*tune, "train", "--config", str(settings), *where])),
    ]


def _search(study: StudyFacts, output: Path, tune: Sequence[str]) -> list[tuple[str, str]]:
    """The command that repeats the study: settings that affect a trial are in its folder, others are options."""
    settings = study.settings
    file = output / STUDY_FILE
    if not file.is_file() or study.address is not None:
        return []
    free = ["trials", "confirm_top", "confirm_seeds", "margin"]
    free += ["pack"] if settings.get("pack", 1) > 1 else []
    sets = [word for key in free if key in settings for word in ("--set", f"{key}={settings[key]}")]
    command = shlex.join([*tune, "search", "--config", str(file), *sets, "--output", "again"])
    return [("run the study again, in a new folder", command)]
