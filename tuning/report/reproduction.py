"""The end of a report: trials that failed, the evaluation protocol, and the commands that reproduce the study."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curriculum_ray.addresses import presentable
from curriculum_ray.words import capitalized
from tuning.evidence.arms import Ranking
from tuning.evidence.devices import mixed_kinds
from tuning.evidence.records import TrialRecord
from tuning.figures.page import Html, details, facts, paragraph, section, table, tag
from tuning.folder.layout import STUDY_FILE
from tuning.folder.versions import package_versions
from tuning.report.commands import best_command, search_command, train_command
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


def reproduction(study: StudyFacts, ranking: Ranking, output: Path) -> Html:
    """List the next commands, the versions and the settings."""
    text = "\n".join(f"# {what}\n{command}" for what, command in _commands(study, ranking, output))
    versions = [
        ("python", platform.python_version()),
        *package_versions().items(),
        ("platform", platform.platform()),
    ]
    storage = None if study.config.storage is None else presentable(study.config.storage)
    settings = {**study.config.model_dump(mode="json"), "storage": storage}
    return section(
        "Reproduce this study",
        tag("pre", text) if text else None,
        facts(versions),
        details("settings of the study", tag("pre", json.dumps(settings, indent=1))),
    )


def _commands(study: StudyFacts, ranking: Ranking, output: Path) -> list[tuple[str, str]]:
    """What each command does, and the command; those that ask for a schedule only where there is one."""
    found, file = [], output / STUDY_FILE
    if study.address is None and file.is_file():
        command = search_command(study.config, file, "again", study.trusted)
        found.append(("run the study again, in a new folder", command))
    if ranking.best is not None:
        protocol = ranking.best.records[0].fingerprint
        where = ["--output", study.address or str(output.parent)]
        where += [] if study.mlflow_uri is None else ["--mlflow-uri", study.mlflow_uri]
        ask = best_command(study.config, study.name, protocol, where)
        found += [
            ("ask MLflow what the study found, and write its schedule and settings", ask),
            ("train with them", train_command(study.config, where, study.trusted)),
        ]
    return found
