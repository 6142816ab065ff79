"""A study is packed without the place where it lay, and found in the bundle again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from curriculum_ray.config import ConfigError
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.runs.config import RunConfig
from tests.tuning.studies import UNIFORM, fresh, record, trials
from tuning.bundle.archive import Bundle, archived, read_bundle
from tuning.bundle.pack import pack_study
from tuning.bundle.packed_study import PackedStudy
from tuning.bundle.replay import check_data, run_of
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord
from tuning.folder.environment import note_environment, this_environment
from tuning.folder.status import EndedTrials, StatusFile, StudyProgress
from tuning.study.config import StudyConfig

CONTENT = {"name": "digits", "count": 1626, "shape": [1, 8, 8], "conditioning": "10 classes", "content": "ab"}
RECORDS = [
    record(12.0, **UNIFORM),
    *trials(8, 9),
    *fresh([8.0, 8.5], 8),
    *fresh([12.0, 12.5], 1),
    record(None, key="search-004", reason="no room in /home/alice/x/y"),
]


def _study(folder: Path, records: list[TrialRecord] = RECORDS, **run: Any) -> Path:
    """The folder of an ended study."""
    config = StudyConfig.model_validate({"run": {"images": 76800, **run}})
    settings = config.decisive()
    for each in records:
        place = folder / "trials" / each.key
        place.mkdir(parents=True)
        written = each.model_copy(update={"folder": place, "checkpoint": str(place / "checkpoint")})
        (place / "record.json").write_text(json.dumps(written.to_json()))
        settings_of = {**config.run.model_dump(mode="json"), "seed": each.seed}
        (place / "config.yaml").write_text(yaml.safe_dump(settings_of))
        (place / "metrics.jsonl").write_text('{"images": 6400, "loss": 0.5, "stage": 0}\n{"images": 7')
    identity = {
        "kind": "study",
        "id": "abc",
        "hash": "def",
        "settings": settings,
        "data": CONTENT,
        "protocol": {},
    }
    (folder / "identity.json").write_text(json.dumps(identity))
    (folder / "study.json").write_text(json.dumps(settings))
    (folder / "report.html").write_text(f"<p>{folder / 'study.json'}</p>")
    note_environment(folder, this_environment(ResourceSpec()))
    return folder


def _opened(path: Path, content: bytes) -> PackedStudy:
    path.write_bytes(content)
    return PackedStudy(read_bundle(path))


def test_a_bundle_does_not_depend_on_where_the_study_lies(tmp_path: Path) -> None:
    folder = _study(tmp_path / "one" / "first")
    packed = pack_study(folder)
    (tmp_path / "two").mkdir()
    shutil.copytree(folder, tmp_path / "two" / "first")
    assert pack_study(tmp_path / "two" / "first").content == packed.content
    study = _opened(tmp_path / "a.zip", packed.content)
    for name, content in study.bundle.files.items():
        assert str(tmp_path) not in content.decode(), name
        assert "/home/alice" not in content.decode(), name
    assert study.name == "first"
    assert study.data == CONTENT
    assert study.environment == this_environment(ResourceSpec())


def test_the_run_to_prove_is_the_best_schedules_first_fresh_seed(tmp_path: Path) -> None:
    study = _opened(tmp_path / "a.zip", pack_study(_study(tmp_path / "first")).content)
    assert study.by_default.key == study.chosen("best").key == "confirm-search-008-seed1000"
    assert study.chosen("uniform").key == "confirm-control-uniform-seed1000"
    assert study.chosen("search-009").key == "search-009"
    assert study.chosen(study.by_default.arm_id).key == study.by_default.key
    with pytest.raises(ConfigError, match="search-004 is failed"):
        study.chosen("search-004")
    with pytest.raises(ConfigError, match="--arm must be best, uniform"):
        study.chosen("search-005")
    assert study.course(study.by_default)[6400, "loss"] == 0.5


def test_a_study_that_has_not_ended_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the folder of a study"):
        pack_study(tmp_path)
    folder = _study(tmp_path / "first")
    (folder / "report.html").unlink()
    with pytest.raises(ConfigError, match="run the search to its end first"):
        pack_study(folder)


@pytest.mark.parametrize("damage", ["", "{", "[]", json.dumps(RECORDS[0].to_json())])
def test_a_study_with_a_damaged_record_is_not_packed(tmp_path: Path, damage: str) -> None:
    folder = _study(tmp_path / "first")
    path = folder / "trials" / TrialKey.uniform().confirmation(1001) / "record.json"
    path.write_text(damage)
    with pytest.raises(ConfigError) as caught:
        pack_study(folder)
    assert str(caught.value) == (
        f"{path} cannot be read, and a bundle holds every trial: run the search again first, by the same command"
    )


def test_a_study_that_has_ended_is_not_packed_without_a_record(tmp_path: Path) -> None:
    folder = _study(tmp_path / "first")
    missing = folder / "trials" / "search-009"
    (missing / "record.json").unlink()
    pack_study(folder)
    progress = StudyProgress(metric="fid", total=1, ended=EndedTrials(), images=1, total_images=1)
    StatusFile(folder, "first", lambda: progress).close("finished")
    with pytest.raises(ConfigError, match=f"^there is no record.json in {missing}, and a bundle holds"):
        pack_study(folder)


def _run(study: PackedStudy, trusted: bool = False) -> RunConfig:
    return run_of(study, study.by_default, {}, trusted)


def test_code_that_a_bundle_names_is_not_run_unless_the_user_trusts_it(tmp_path: Path) -> None:
    study = _opened(tmp_path / "a.zip", pack_study(_study(tmp_path / "first")).content)
    name = f"trials/{study.by_default.key}/config.yaml"
    files = dict(study.bundle.files)
    files[name] = yaml.safe_dump({"images": 100, "model": "python:os.path.Evil"}).encode()
    changed = _opened(tmp_path / "b.zip", archived("first", "abc", files))
    with pytest.raises(ConfigError, match=r"names code to import and run, os.path.Evil"):
        _run(changed)
    assert _run(changed, trusted=True).images == 100


def test_what_would_fill_a_disk_is_left_out_or_refused(tmp_path: Path) -> None:
    power = {"power": {"every_images": 1}}
    kept = {"checkpoint": {"every_images": 1, "keep": 10**6, "best": False}, "ema": power}
    study = _opened(tmp_path / "a.zip", pack_study(_study(tmp_path / "first", **kept)).content)
    run = _run(study)
    assert (run.checkpoint.keep, run.ema.power) == (1, None)
    pictures = _study(tmp_path / "second", preview={"every_images": 1, "num_samples": 16})
    with pytest.raises(ConfigError, match="previews"):
        _run(_opened(tmp_path / "b.zip", pack_study(pictures).content))


def test_other_data_are_named_in_one_line(tmp_path: Path) -> None:
    from curriculum_ray.data import load_data

    study = _opened(tmp_path / "a.zip", pack_study(_study(tmp_path / "first")).content)
    config = _run(study)
    with pytest.raises(ConfigError, match=r"content ab -> [0-9a-f]{16}: say where those lie with --data"):
        check_data(study, config, load_data(config.data))


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b"{", b'{"version": 1, "kind": "study"}', b"[" * 10_000, b"\xff"]
)
def test_files_that_are_not_what_they_should_be_are_named(tmp_path: Path, damage: bytes) -> None:
    study = _opened(tmp_path / "a.zip", pack_study(_study(tmp_path / "first")).content)
    for name in ("identity.json", "environment.json", f"trials/{study.by_default.key}/record.json"):
        bundle = Bundle("a.zip", study.bundle.manifest, {**study.bundle.files, name: damage})
        with pytest.raises(ConfigError, match=name):
            PackedStudy(bundle)
