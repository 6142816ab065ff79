"""The check on a GPU: what it says without one, and that a section which fails costs no other."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
REPORT = """<testsuites><testsuite>
<testcase classname="a" name="one" time="0.5"/>
<testcase classname="a" name="two" time="2"><failure message="1 is not 2"/></testcase>
<testcase classname="b" name="three"><skipped message="needs a GPU"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, from a checkout: where a GPU is at hand, the project need not be installed."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for package in ("curriculum_ray", "tuning", "clusters"):
        monkeypatch.setitem(sys.modules, package, None)
    return importlib.import_module("gpu_check")


def test_without_a_gpu_it_says_so_and_runs_nothing(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check.main([]) == 2
    assert (
        capsys.readouterr().out == "no GPU is there: nothing was run (--cpu runs it, scaled down, on a CPU)\n"
    )


def test_a_section_that_fails_or_hangs_costs_no_other(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def section(name: str, code: str, **options: Any) -> Any:
        return check.Section(name, [sys.executable, "-c", code], **{"limit": 60, **options})

    report = tmp_path / "report.xml"
    left = tmp_path / "left"
    child = f"import time; time.sleep(1.5); open({str(left)!r}, 'w')"
    chosen = [
        section("whole", "print('speed 3')\nprint('{\\n \"speed\": 3\\n}')"),
        section("broken", "print('{\"half\": 1}'); import sys; sys.exit('one line of trouble')"),
        section(
            "hanging",
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])",
            limit=0.5,
        ),
        section("absent", "", needs=("json", "no_such_package")),
        section("tests", f"open({str(report)!r}, 'w').write({REPORT!r}); raise SystemExit(1)", report=report),
        section("mute", "print('nothing')"),
    ]
    monkeypatch.setattr(check, "sections", lambda cpu, folder: chosen)
    into = tmp_path / "check.json"
    assert check.main(["--cpu", "--into", str(into)]) == 1
    whole = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads(into.read_text()) == whole
    assert whole["device"] == "CPU"
    assert whole["torch"] == torch.__version__
    found = whole["sections"]
    assert {name: entry["state"] for name, entry in found.items()} == {
        "whole": "ok",
        "broken": "failed",
        "hanging": "timed out",
        "absent": "skipped",
        "tests": "failed",
        "mute": "failed",
    }
    assert found["whole"]["result"] == {"speed": 3}
    assert found["broken"]["result"] == {"half": 1}
    assert found["broken"]["tail"][-1] == "one line of trouble"
    assert found["absent"]["reason"] == "not installed: no_such_package"
    counted = found["tests"]["result"]
    assert (counted["passed"], counted["failed"], counted["skipped"]) == (1, 1, 1)
    assert counted["failing"] == {"a::two": "1 is not 2"}
    assert found["mute"]["reason"] == "no JSON came back"
    assert not left.exists(), "what a section started ends with it"


def test_the_limit_of_all_leaves_out_what_comes_last(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = check.Section("one", [sys.executable, "-c", "print('{}')"], 60)
    monkeypatch.setattr(check, "sections", lambda cpu, folder: [section])
    assert check.main(["--cpu", "--limit", "0"]) == 0
    whole = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert whole["sections"]["one"]["reason"] == "no time was left"


def test_sections_are_chosen_by_name_or_by_their_kind(check: ModuleType, tmp_path: Path) -> None:
    names = [section.name for section in check.sections(False, tmp_path)]
    assert names[:2] == ["tests", "nccl"]
    assert {"pack-unet-4", "pack-mlp-8", "train-dit-xl"} <= set(names)
    with pytest.raises(SystemExit):
        check.main(["--cpu", "--only", "train,nonsense"])
