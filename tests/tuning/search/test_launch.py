"""A study that is run from Python leaves its report, and showing what came out writes nothing."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
from rich.console import Console

from curriculum_ray.distributed.capacity import Capacity
from tests.tuning.studies import record
from tuning.cli.summary import as_object, show
from tuning.folder.layout import REPORT_FILE
from tuning.search import launch
from tuning.study.config import StudyConfig


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster on which every trial is there already."""

    def search(config: StudyConfig, space: object, study: launch.StudyLedger, *_: object) -> None:
        folder = study.folder
        found = (record(8.0, folder=folder), record(9.0, key="control-uniform", folder=folder))
        study.records.update({each.key: each for each in found})

    monkeypatch.setattr(launch, "connected", lambda *_: contextlib.nullcontext(Capacity.of({"CPU": 2.0})))
    monkeypatch.setattr(launch, "search", search)


@pytest.mark.usefixtures("without_ray")
def test_a_study_leaves_its_report_and_showing_it_writes_nothing(tmp_path: Path) -> None:
    config = StudyConfig.model_validate({"trials": 1, "run": {"evaluation": {"num_samples": 64}}})
    console = Console(file=io.StringIO(), width=120)
    outcome = launch.run_study(config, tmp_path, "s", None, 1, console)
    assert outcome.report == tmp_path / "s" / REPORT_FILE
    assert "FID of the best schedule" in outcome.report.read_text()
    (tmp_path / "s" / REPORT_FILE).unlink()
    before = sorted(tmp_path.rglob("*"))
    show(config, outcome, console)
    assert as_object(config, outcome)["report"] == str(outcome.report)
    assert sorted(tmp_path.rglob("*")) == before
