"""The study in a bundle is written into a folder that is like the one it came from, or nothing is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from curriculum_ray.config import ConfigError
from tests.tuning.bundle.packed import RECORDS, opened, write_journal, write_study
from tests.tuning.studies import UNIFORM, fresh, record
from tuning.bundle.archive import archived
from tuning.bundle.optuna_journal import journal_lines
from tuning.bundle.pack import pack_study
from tuning.bundle.packed_study import PackedStudy
from tuning.bundle.restore import restore_study
from tuning.evidence.records import load_records
from tuning.search.samplers import open_storage
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace

SAMPLED = {
    "images": [0, 640],
    "u": [0.0, 1.0],
    "counts": [[640]],
    "stage_starts": [[0, 0]],
    "images_in_stage": [640],
}
DIGESTS = {"model": "ab" * 32}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a study with a file of each kind."""
    folder = write_study(tmp_path / "first")
    write_journal(folder)
    (folder / "time.json").write_text('{"version": 1, "seconds": 5.5}')
    (folder / "data.json").write_text(json.dumps({"path": "", "count": 1626}))
    for each in RECORDS:
        (folder / "trials" / each.key / "sampled_timesteps.json").write_text(json.dumps(SAMPLED))
        (folder / "trials" / each.key / "weights.json").write_text(json.dumps(DIGESTS))
    return folder


def _packed(folder: Path) -> PackedStudy:
    return opened(folder.with_suffix(".zip"), pack_study(folder).content)


def test_a_restored_study_is_packed_as_it_was(folder: Path, tmp_path: Path) -> None:
    study = _packed(folder)
    (tmp_path / "there").mkdir()
    restored = restore_study(study, tmp_path / "there" / "first", {})
    again = _packed(restored.folder)
    left_out = {"report.html"}
    assert again.bundle.files.keys() | left_out == study.bundle.files.keys()
    for name, content in again.bundle.files.items():
        assert content == study.bundle.files[name], name
    assert load_records(restored.folder).keys() == load_records(folder).keys()
    assert restored.config == StudyConfig.model_validate({"run": {"images": 76800}})
    assert restored.note is None


def test_optunas_study_comes_along_without_pickles(folder: Path, tmp_path: Path) -> None:
    restored = restore_study(_packed(folder), tmp_path / "there", {})
    storage = open_storage(None, restored.folder)
    (trial,) = optuna.load_study(study_name="curriculum", storage=storage).trials
    assert (trial.params, trial.value, trial.system_attrs) == ({"x": 0.25}, 1.0, {"grid": 3})
    (folder / "optuna.journal").unlink()
    without = restore_study(_packed(folder), tmp_path / "other", {})
    assert without.note is not None


def test_a_torn_last_line_of_a_journal_is_left_out() -> None:
    assert list(journal_lines('{"op_code": 0}\n{"op_co', "a")) == [{"op_code": 0}]
    with pytest.raises(ConfigError, match=r"^a: line 2 is not readable"):
        list(journal_lines('{"op_code": 0}\n{"op_co\n', "a"))
    with pytest.raises(ConfigError, match=r"^a: line 1 must hold a mapping"):
        list(journal_lines("5\n", "a"))


def _changed(study: PackedStudy, **files: bytes) -> PackedStudy:
    changed = {**study.bundle.files, **{name.replace("__", "."): content for name, content in files.items()}}
    path = Path(study.bundle.source).with_name("changed.zip")
    return opened(path, archived("first", "abc", changed))


def _refused(study: PackedStudy, folder: Path, given: Mapping[str, tuple[str, str]] | None = None) -> str:
    before = sorted(folder.parent.iterdir())
    with pytest.raises(ConfigError) as caught:
        restore_study(study, folder, given or {})
    assert sorted(folder.parent.iterdir()) == before
    return str(caught.value)


def test_a_folder_that_exists_is_left_alone(folder: Path, tmp_path: Path) -> None:
    assert _refused(_packed(folder), folder).startswith(f"{folder} exists: choose another --name or --output")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert _refused(_packed(folder), tmp_path / "link").startswith(f"{tmp_path}/link exists")


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("identity__json", b"", "cannot go on: the hash in its identity.json is not that of the content"),
        ("study__json", b'{"run": {"images": 5}, "trails": 3}', "study.json and environment.json in"),
        ("time__json", b"[]", "time.json in"),
        ("data__json", b"[]", "data.json in"),
        ("optuna__journal", b"5\n", "optuna.journal in"),
        ("optuna__journal", b'{"op_code": 4}\n', "is not readable by Optuna: KeyError"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, tmp_path: Path, file: str, content: bytes, says: str) -> None:
    study = _packed(folder)
    if file == "identity__json":
        identity: Any = study.mapping("identity.json")
        content = json.dumps({**identity, "hash": "00"}).encode()
    assert says in _refused(_changed(study, **{file: content}), tmp_path / "there")


WARM = {"init_from": {"path": "/far/before"}}


def test_files_are_asked_for_and_written_in_their_places(tmp_path: Path) -> None:
    """A bundle has no path of the other machine, and one of a single part may be a folder here by accident."""
    folder = write_study(tmp_path / "first", data={"name": "images"})
    for name in ("confirm-search-008-seed1000", "confirm-search-008-seed1001"):
        path = folder / "trials" / name / "config.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **WARM}))
    study = _packed(folder)
    there = tmp_path / "there"
    data = {"data.name": ("--data /here/images", "/here/images")}
    warm = {"init_from.path": ("--path init_from.path=/here/before", "/here/before")}
    assert _refused(study, there).endswith(
        "was trained with images as data.name, which a bundle does not hold: say where it lies with --data PATH"
    )
    assert _refused(study, there, data).endswith("say where it lies with --path init_from.path=PATH")
    strange = {"data.vae": ("--path data.vae=/x", "/x")}
    assert "names no file as data.vae: leave it out" in _refused(study, there, {**data, **warm, **strange})
    restored = restore_study(study, there, {**data, **warm})
    assert restored.config.run.data.name == "/here/images"
    settings = yaml.safe_load((there / "trials" / "confirm-search-008-seed1000" / "config.yaml").read_text())
    assert (settings["data"]["name"], settings["init_from"]["path"]) == ("/here/images", "/here/before")
    assert json.loads((there / "study.json").read_text())["run"]["data"]["name"] == "/here/images"


_BY_CURVE = {"schedule.clusters": {"by": "loss", "count": 4, "difficulty": "curve.json"}}


@pytest.mark.parametrize(
    ("study", "space", "says"),
    [
        ({"rivals": {"warm": {"init_from": "/far/before"}}}, {}, "before, a file that its rivals.warm names"),
        ({"rivals": {"warm": {"init_from": "before"}}}, {}, "before, a file that its rivals.warm names"),
        ({"arms": {"curve": _BY_CURVE}}, {}, "curve.json, a file that its arms.curve names"),
        (
            {"space": "mine.yaml"},
            {"rivals": {"warm": {"init_from": "before"}}},
            "before, a file that its rivals",
        ),
        (
            {"space": "mine.yaml"},
            {
                "start": [],
                "search": {
                    "schedule.order.by": {"type": "categorical", "choices": ["noise_level", "c.json"]}
                },
            },
            "c.json, a file that its space names",
        ),
    ],
)
def test_a_study_that_counts_a_file_by_its_path_stays_where_it_is(
    tmp_path: Path, study: dict[str, Any], space: dict[str, Any], says: str
) -> None:
    records = [] if "arms" in study else RECORDS
    whole = {**SearchSpace.load("default").model_dump(mode="json", exclude={"name"}), **space}
    folder = write_study(
        tmp_path / "first", records or [record(12.0, **UNIFORM), *fresh([12.0], 1)], study, whole
    )
    assert says in _refused(_packed(folder), tmp_path / "there")


@pytest.mark.parametrize("key", ["storage", "resources", "pack", "share"])
def test_a_bundle_says_nothing_about_where_the_search_runs(folder: Path, tmp_path: Path, key: str) -> None:
    study = _packed(folder)
    values = {"storage": "sqlite:////far/x.db", "resources": {"use_gpu": True}, "pack": 2, "share": 0.5}
    settings = json.dumps({**study.mapping("study.json"), key: values[key]}).encode()
    assert f"sets {key}, which is no part of a study" in _refused(
        _changed(study, study__json=settings), tmp_path / "there"
    )
    environment: Any = study.mapping("environment.json")
    environment["starts"][0]["asked"] |= {key: values[key], "trials": 7}
    changed = _changed(study, environment__json=json.dumps(environment).encode())
    config = restore_study(changed, tmp_path / "there", {}).config
    assert getattr(config, key) == getattr(StudyConfig(), key)
    assert config.trials == 7


def test_two_files_of_one_key_are_not_confused(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "first")
    for name, file in (("search-008", "one"), ("search-009", "two")):
        path = folder / "trials" / name / "config.yaml"
        settings = {**yaml.safe_load(path.read_text()), "init_from": {"path": f"/far/{file}"}}
        path.write_text(yaml.safe_dump(settings))
    assert "names two files as init_from.path, one and two" in _refused(_packed(folder), tmp_path / "there")


def test_a_space_of_ones_own_comes_along(tmp_path: Path) -> None:
    space = SearchSpace.load("default").model_dump(mode="json", exclude={"name"})
    folder = write_study(tmp_path / "first", study={"space": "/far/mine.yaml"}, space=space)
    there = tmp_path / "there"
    restored = restore_study(_packed(folder), there, {})
    assert restored.config.space == str(there / "space" / "mine.yaml")
    assert SearchSpace.load(restored.config.space).model_dump(mode="json") == {**space, "name": "mine"}
