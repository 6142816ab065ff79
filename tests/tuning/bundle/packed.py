"""The folder of an ended study, which the tests of bundles pack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml

from curriculum_ray.distributed.resources import ResourceSpec
from tests.tuning.studies import UNIFORM, fresh, record, trials
from tuning.bundle.archive import read_bundle
from tuning.bundle.packed_study import PackedStudy
from tuning.evidence.records import TrialRecord
from tuning.folder.environment import note_environment, this_environment
from tuning.folder.identity import Content, without_paths
from tuning.search.samplers import open_storage
from tuning.study.config import StudyConfig

CONTENT = {"name": "digits", "count": 1626, "shape": [1, 8, 8], "conditioning": "10 classes", "content": "ab"}
RECORDS = (
    record(12.0, **UNIFORM),
    *trials(8, 9),
    *fresh([8.0, 8.5], 8),
    *fresh([12.0, 12.5], 1),
    record(None, key="search-004", reason="no room in /home/alice/x/y"),
)


def write_study(
    folder: Path,
    records: Sequence[TrialRecord] = RECORDS,
    study: dict[str, Any] | None = None,
    space: dict[str, Any] | None = None,
    **run: Any,
) -> Path:
    """The folder of an ended study.

    study: its settings besides those of its runs. space: what it counts of its space.
    """
    config = StudyConfig.model_validate({"run": {"images": 76800, **run}, **(study or {})})
    settings = config.decisive()
    (folder / "trials").mkdir(parents=True)
    for each in records:
        place = folder / "trials" / each.key
        place.mkdir(parents=True)
        written = each.model_copy(update={"folder": place, "checkpoint": str(place / "checkpoint")})
        (place / "record.json").write_text(json.dumps(written.to_json()))
        settings_of = {**config.run.model_dump(mode="json"), "seed": each.seed}
        (place / "config.yaml").write_text(yaml.safe_dump(settings_of))
        (place / "metrics.jsonl").write_text('{"images": 6400, "loss": 0.5, "stage": 0}\n{"images": 7')
    counted = without_paths({key: value for key, value in settings.items() if key != "space"})
    content = Content(counted, CONTENT, {}, space or {})
    identity = {"kind": "study", "id": "abc", "hash": content.hash, **content.parts()}
    (folder / "identity.json").write_text(json.dumps(identity))
    (folder / "study.json").write_text(json.dumps(settings))
    (folder / "report.html").write_text(f"<p>{folder / 'study.json'}</p>")
    note_environment(folder, this_environment(ResourceSpec(), asked=config.asked()))
    return folder


def write_journal(folder: Path) -> None:
    """Optuna's study of one trial, as CMA-ES keeps it."""
    study = optuna.create_study(storage=open_storage(None, folder), study_name="curriculum")
    attributes = {"cma:optimizer:0": "80049", "grid": 3}
    distributions = {"x": optuna.distributions.FloatDistribution(0, 1)}
    study.add_trial(
        optuna.create_trial(
            params={"x": 0.25}, distributions=distributions, value=1.0, system_attrs=attributes
        )
    )


def opened(path: Path, content: bytes) -> PackedStudy:
    """The study in a bundle, which is written to `path` first."""
    path.write_bytes(content)
    return PackedStudy(read_bundle(path))
