"""Protects the page of the long runs: it says what the records of a study say, study by study."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from curriculum_ray.config import parse
from curriculum_ray.runs.folder import SAMPLES_FILE
from tests.tuning.studies import UNIFORM, record, schedule
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord
from tuning.folder.environment import note_environment, this_environment
from tuning.folder.layout import RECORD_FILE, STUDY_FILE, TRIALS
from tuning.study.config import FRESH_SEEDS, StudyConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shown() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("long_runs_page")
    for name in ("long_runs_page", "pages"):
        sys.modules.pop(name, None)


def _heldout(loss: float) -> dict[str, Any]:
    history = ((640, (2 * loss, loss)), (1280, (loss, loss)))
    return {"fingerprint": "h", "u": (0.25, 0.75), "items": 4, "held_out": 9, "history": history}


def _runs(key: str, fids: list[float], **changes: Any) -> list[TrialRecord]:
    """The fresh seeds of an arm, each with two previews, the second as good as its end."""
    return [
        record(
            fid,
            key=TrialKey(key).confirmation(seed),
            origin=TrialKey(key),
            role="confirmation",
            seed=seed,
            arm_id=key,
            arm_name=key.removeprefix("arm-"),
            stages_asked=20,
            stages_walked=20,
            history=((640, {"fid": 2 * fid}), (1280, {"fid": fid})),
            heldout=_heldout(fid / 100),
            **changes,
        )
        for seed, fid in enumerate(fids, start=FRESH_SEEDS)
    ]


def _study(folder: Path, **arms: list[float]) -> Path:
    """The folder of a study of the long runs with these arms, by their FIDs on fresh seeds."""
    settings = yaml.safe_load((ROOT / "examples/long_runs.yaml").read_text())
    run = {
        "images": 1280,
        "data": {"name": "digits"},
        "process": {"kind": "ddpm", "prediction": "v"},
        "evaluation": {"steps": 50, "guidance": [1, 2]},
    }
    config = parse(StudyConfig, {**settings, "run": run}, "long_runs.yaml")
    records = [
        each
        for name, fids in arms.items()
        for each in (
            _runs(
                TrialKey.uniform(),
                fids,
                **{key: UNIFORM[key] for key in ("control", "schedule")},
            )
            if name == "uniform"
            else _runs(TrialKey.arm(name), fids, schedule=schedule())
        )
    ]
    for each in records:
        place = folder / TRIALS / each.key
        place.mkdir(parents=True)
        (place / RECORD_FILE).write_text(json.dumps(each.to_json()))
        Image.new("L", (16, 16), 128).save(place / SAMPLES_FILE)
    (folder / STUDY_FILE).write_text(json.dumps(config.decisive()))
    note_environment(folder, this_environment(config.resources, config.pack, config.asked()))
    return folder


def test_a_study_is_put_into_its_place_and_the_others_stay(shown: ModuleType, tmp_path: Path) -> None:
    _study(tmp_path / "long-v", uniform=[10, 12, 11], paper_10=[5, 6.1, 5.6], hard_to_easy=[11, 12, 10.5])
    page, assets = tmp_path / "page.md", tmp_path / "assets"
    assets.mkdir()
    other = "<!-- study long-b -->\nkept\n<!-- end of long-b -->\n"
    page.write_text("top\n<!-- study long-v -->\nold\n<!-- end of long-v -->\n" + other)
    arguments = [str(tmp_path / "long-v"), "--page", str(page), "--assets", str(assets)]
    for _ in range(2):
        assert CliRunner().invoke(shown.main, arguments).exit_code == 0
    text = page.read_text()
    assert text.startswith("top\n")
    assert text.endswith(other)
    assert "old" not in text
    (paper,) = [line for line in text.splitlines() if line.startswith("| `paper_10`")]
    assert paper.startswith("| `paper_10` | 5.57 | +49.4% [")
    assert "] | beats | " in paper
    assert paper.endswith("| 20/20 | 3 |")
    (order,) = [line for line in text.splitlines() if line.startswith("| `hard_to_easy`")]
    assert "| undecided |" in order
    assert "scores above: 22.00 at 640, 11.00 at 1.28k." in text
    command = (
        "--data digits --images 1280 --set process.prediction=v --set evaluation.steps=50 "
        "--set 'evaluation.guidance=[1.0, 2.0]' --confirm-seeds 6-12 --name long-v"
    )
    assert command in text
    named = {line.split("assets/")[1].rstrip(")") for line in text.splitlines() if "](../assets/" in line}
    assert named == {"long-v-curves.png", "long-v-heldout.png", "long-v-samples.png"}
    for name in named:
        assert (assets / name).read_bytes().startswith(b"\x89PNG")


def test_a_study_that_came_without_its_pictures_keeps_those_of_the_page(
    shown: ModuleType, tmp_path: Path
) -> None:
    folder = _study(tmp_path / "long-v", uniform=[10, 12, 11], paper_10=[5, 6.1, 5.6])
    page, picture = tmp_path / "page.md", tmp_path / "long-v-samples.png"
    page.write_text("\n".join(shown.marks("long-v")))
    arguments = [str(folder), "--page", str(page), "--assets", str(tmp_path)]
    for path in folder.rglob(SAMPLES_FILE):
        path.unlink()
    assert CliRunner().invoke(shown.main, arguments).exit_code == 0
    assert "samples.png" not in page.read_text()
    picture.write_bytes(b"earlier")
    assert CliRunner().invoke(shown.main, arguments).exit_code == 0
    assert "](../assets/long-v-samples.png)" in page.read_text()
    assert picture.read_bytes() == b"earlier"


def test_what_is_no_study_of_fresh_seeds_is_refused_in_one_line(shown: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("".join(shown.marks(name)[end] for name in ("empty", "lone") for end in (0, 1)))
    (tmp_path / "empty").mkdir()
    folders = {
        "empty": "must be the folder of a study with finished trials",
        str(_study(tmp_path / "lone", paper_10=[5, 6]).name): "must have fresh seeds of uniform sampling",
        str(_study(tmp_path / "whole", uniform=[5, 6]).name): "must hold the marks <!-- study whole -->",
    }
    for name, said in folders.items():
        arguments = [str(tmp_path / name), "--page", str(page), "--assets", str(tmp_path)]
        done = CliRunner().invoke(shown.main, arguments)
        assert done.exit_code == 2
        assert said in done.output
    assert not list(tmp_path.glob("*.png"))
