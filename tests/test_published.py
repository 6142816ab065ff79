"""`make check-published` agrees with what was published, covers what is shipped, and sees a formula that is off."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import torch

from curriculum_ray.curriculum.base import BaseSpec
from curriculum_ray.diffusion import WeightingSpec, weighting

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    import importlib

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("check_published")


def test_every_formula_equals_an_independent_computation(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main() == 0
    *table, last = capsys.readouterr().out.splitlines()
    assert json.loads(last) == {"checks": len(table) - 1, "off": 0}
    assert len(table) > 100
    assert not any(line.endswith("off") for line in table)


def _kinds(union: Any) -> set[str]:
    """The kinds of the settings in a union of unions."""
    if isinstance(union, type):
        return {union.model_fields["kind"].default}
    return set().union(
        *(_kinds(part) for part in get_args(union) if get_args(part) or isinstance(part, type))
    )


def test_every_shipped_base_and_weighting_has_a_row(script: ModuleType) -> None:
    rows = [*script.bases.checks(), *script.rivals.checks(), *script.weightings.fixed()]
    formulas = {check.formula.split()[0].rstrip(":") for check in rows}
    learned = {"none", "edm2_uncertainty", "ant_uncertainty"}
    shipped = _kinds(BaseSpec) | _kinds(WeightingSpec) - learned
    assert {"uniform", "speed", "min_snr"} <= shipped
    assert not shipped - formulas, f"add rows to benchmarks/published for {sorted(shipped - formulas)}"


def test_a_formula_that_is_off_by_a_percent_is_seen(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = weighting.debiased_estimation
    monkeypatch.setattr(weighting, "debiased_estimation", lambda *scales: 1.01 * right(*scales))
    monkeypatch.setattr(script, "GROUPS", (script.weightings,))
    assert script.main() == 1
    *table, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["off"] == 5
    assert all("debiased on" in line for line in table if line.endswith("off"))


def test_what_is_not_a_number_is_off_and_shapes_must_agree(script: ModuleType) -> None:
    from published import row

    assert row("f", "s", [1.0, float("nan")], [1.0, 2.0]).off
    assert row("f", "s", float("inf"), 1.0).off
    assert not row("f", "s", torch.tensor([0.0, 2.0]), [0.0, 2.0]).off
    with pytest.raises(ValueError, match="beside"):
        row("f", "s", [1.0, 2.0], [1.0])
