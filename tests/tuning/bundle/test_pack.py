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
from tests.tuning.bundle.packed import CONTENT, RECORDS, opened, write_study
from tests.tuning.studies import record
from tuning.bundle.archive import Bundle, archived
from tuning.bundle.pack import pack_study
from tuning.bundle.packed_study import PackedStudy
from tuning.bundle.replay import check_data, run_of
from tuning.evidence.keys import TrialKey
from tuning.folder.environment import this_environment
from tuning.folder.status import EndedTrials, State, StatusFile, StudyProgress
from tuning.study.config import StudyConfig


def test_a_bundle_does_not_depend_on_where_the_study_lies(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "one" / "first")
    packed = pack_study(folder)
    (tmp_path / "two").mkdir()
    shutil.copytree(folder, tmp_path / "two" / "first")
    assert pack_study(tmp_path / "two" / "first").content == packed.content
    study = opened(tmp_path / "a.zip", packed.content)
    for name, content in study.bundle.files.items():
        assert str(tmp_path) not in content.decode(), name
        assert "/home/alice" not in content.decode(), name
    assert study.name == "first"
    assert study.data == CONTENT
    assert study.environment == this_environment(ResourceSpec(), asked=StudyConfig().asked())


def test_the_run_to_prove_is_the_best_schedules_first_fresh_seed(tmp_path: Path) -> None:
    study = opened(tmp_path / "a.zip", pack_study(write_study(tmp_path / "first")).content)
    assert study.by_default.key == study.chosen("best").key == "confirm-search-008-seed1000"
    assert study.chosen("uniform").key == "confirm-control-uniform-seed1000"
    assert study.chosen("search-009").key == "search-009"
    assert study.chosen(study.by_default.arm_id).key == study.by_default.key
    with pytest.raises(ConfigError, match="search-004 is failed"):
        study.chosen("search-004")
    with pytest.raises(ConfigError, match="--arm must be best, uniform"):
        study.chosen("search-005")
    assert study.course(study.by_default)[6400, "loss"] == 0.5


def test_the_report_may_be_left_out(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "first")
    (folder / "report.html").write_text("<p>the report</p>")
    whole, small = (
        opened(tmp_path / f"{report}.zip", pack_study(folder, report=report).content).bundle.files
        for report in (True, False)
    )
    assert whole["report.html"] == b"<p>the report</p>"
    assert small == {name: content for name, content in whole.items() if name != "report.html"}
    assert pack_study(folder, report=False).ended


def _with_status(folder: Path, state: State) -> None:
    progress = StudyProgress(metric="fid", total=1, ended=EndedTrials(), images=1, total_images=1)
    StatusFile(folder, "first", lambda: progress).close(state)


def test_a_study_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the folder of a study"):
        pack_study(tmp_path)
    with pytest.raises(ConfigError, match=r"^no trial in .*first has ended: run the search first"):
        pack_study(write_study(tmp_path / "first", []))


def test_an_interrupted_study_is_packed_as_far_as_it_got(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "first")
    assert pack_study(folder).ended
    (folder / "report.html").unlink()
    assert not pack_study(folder).ended
    _with_status(folder, "killed")
    packed = pack_study(folder)
    assert not packed.ended
    assert opened(tmp_path / "a.zip", packed.content).records.keys() == {each.key for each in RECORDS}


def test_a_running_study_is_refused(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "first")
    progress = StudyProgress(metric="fid", total=1, ended=EndedTrials(), images=1, total_images=1)
    status = StatusFile(folder, "first", lambda: progress)
    with pytest.raises(ConfigError, match="is being searched at this moment"):
        pack_study(folder)
    status.close("finished")
    assert pack_study(folder).ended


@pytest.mark.parametrize("damage", ["", "{", "[]", json.dumps(RECORDS[0].to_json())])
def test_a_study_with_a_damaged_record_is_not_packed(tmp_path: Path, damage: str) -> None:
    folder = write_study(tmp_path / "first")
    path = folder / "trials" / TrialKey.uniform().confirmation(1001) / "record.json"
    path.write_text(damage)
    with pytest.raises(ConfigError) as caught:
        pack_study(folder)
    assert str(caught.value) == (
        f"{path} cannot be read, and a bundle holds every trial: run the search again first, by the same command"
    )


_METRICS = "fid, kid, precision, recall, inception_score, clip_score, loss"


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("identity.json", [], "{} must hold a mapping of keys to values, but holds list"),
        ("identity.json", {"settings": {}}, "{}: settings.run is required but missing (and 1 more)"),
        ("identity.json", {"settings": 5}, "{}: settings must be a mapping of keys to values, but got 5"),
        (
            "identity.json",
            {"settings": {"run": 5, "metric": "fid"}},
            "{}: settings.run must be a mapping of keys to values, but got 5",
        ),
        (
            "identity.json",
            {"settings": {"run": {}, "metric": "x"}},
            f"{{}}: settings.metric: metric must be one of {_METRICS}, but got 'x'",
        ),
        ("identity.json", {"id": None}, "{}: id must be a valid string, but got None"),
        ("identity.json", {"data": [1]}, "{}: data must be a mapping of keys to values, but got [1]"),
        ("study.json", [], "{} must hold a mapping of keys to values, but holds list"),
        ("study.json", {"run": 5}, "{}: run must be a mapping of keys to values, but got 5"),
        ("environment.json", [], "{} must hold a mapping of keys to values, but holds list"),
        ("environment.json", {"starts": 5}, "{}: starts must be a valid tuple, but got 5"),
        ("data.json", [], "{} must hold a mapping of keys to values, but holds list"),
        ("report.html", b"\xff", "{} cannot be read: it is not UTF-8"),
        (
            "trials/search-009/record.json",
            {"history": [5]},
            "{} cannot be read, and a bundle holds every trial: run the search again first, by the same command",
        ),
        (
            "trials/search-009/record.json",
            {"schedule": None},
            "{} cannot be read, and a bundle holds every trial: run the search again first, by the same command",
        ),
        (
            "trials/search-009/record.json",
            {"schedule": {"order": 5}},
            "{}: schedule.order must be a mapping of keys to values, but got 5",
        ),
        ("trials/search-009/config.yaml", b"5", "{} must hold a mapping of keys to values, but holds int"),
        ("trials/search-009/metrics.jsonl", None, "{} cannot be read: Is a directory"),
    ],
)
def test_a_damaged_file_of_a_study_is_named_in_one_line(
    tmp_path: Path, name: str, change: dict[str, Any] | list[Any] | bytes | None, says: str
) -> None:
    """change: keys that are laid over a file, or all that it holds; None for a folder in its place."""
    path = write_study(tmp_path / "first") / name
    if change is None:
        path.unlink()
        path.mkdir()
    elif isinstance(change, bytes):
        path.write_bytes(change)
    else:
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**before, **change} if isinstance(change, dict) else change))
    with pytest.raises(ConfigError) as caught:
        pack_study(tmp_path / "first")
    assert str(caught.value) == says.format(path)


def test_a_study_without_an_id_is_not_packed(tmp_path: Path) -> None:
    path = write_study(tmp_path / "first") / "identity.json"
    path.write_text(
        json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "id"})
    )
    with pytest.raises(ConfigError, match=f"^{path}: id is required but missing$"):
        pack_study(tmp_path / "first")


def test_a_reason_of_several_lines_can_be_read_from_the_bundle(tmp_path: Path) -> None:
    folder = write_study(
        tmp_path / "first", [*RECORDS[:-1], record(None, key="search-004", reason="one\ntwo")]
    )
    study = opened(tmp_path / "a.zip", pack_study(folder).content)
    assert study.records[TrialKey("search-004")].reason == r"one\ntwo"


def test_a_study_that_has_ended_is_not_packed_without_a_record(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "first")
    missing = folder / "trials" / "search-009"
    (missing / "record.json").unlink()
    pack_study(folder)
    _with_status(folder, "finished")
    with pytest.raises(ConfigError, match=f"^there is no record.json in {missing}, and a bundle holds"):
        pack_study(folder)


def _run(study: PackedStudy, trusted: bool = False) -> RunConfig:
    return run_of(study, study.by_default, {}, trusted)


def test_code_that_a_bundle_names_is_not_run_unless_the_user_trusts_it(tmp_path: Path) -> None:
    study = opened(tmp_path / "a.zip", pack_study(write_study(tmp_path / "first")).content)
    name = f"trials/{study.by_default.key}/config.yaml"
    files = dict(study.bundle.files)
    files[name] = yaml.safe_dump({"images": 100, "model": "python:os.path.Evil"}).encode()
    changed = opened(tmp_path / "b.zip", archived("first", "abc", files))
    with pytest.raises(ConfigError, match=r"names code to import and run, os.path.Evil"):
        _run(changed)
    assert _run(changed, trusted=True).images == 100


def test_what_would_fill_a_disk_is_left_out_or_refused(tmp_path: Path) -> None:
    power = {"power": {"every_images": 1}}
    kept = {"checkpoint": {"every_images": 1, "keep": 10**6, "best": False}, "ema": power}
    study = opened(tmp_path / "a.zip", pack_study(write_study(tmp_path / "first", **kept)).content)
    run = _run(study)
    assert (run.checkpoint.keep, run.ema.power) == (1, None)
    pictures = write_study(tmp_path / "second", preview={"every_images": 1, "num_samples": 16})
    with pytest.raises(ConfigError, match="previews"):
        _run(opened(tmp_path / "b.zip", pack_study(pictures).content))


def test_other_data_are_named_in_one_line(tmp_path: Path) -> None:
    from curriculum_ray.data import load_data

    study = opened(tmp_path / "a.zip", pack_study(write_study(tmp_path / "first")).content)
    config = _run(study)
    with pytest.raises(ConfigError, match=r"content ab -> [0-9a-f]{16}: say where those lie with --data"):
        check_data(study, config, load_data(config.data))


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b"{", b'{"version": 1, "kind": "study"}', b"[" * 10_000, b"\xff"]
)
def test_files_that_are_not_what_they_should_be_are_named(tmp_path: Path, damage: bytes) -> None:
    study = opened(tmp_path / "a.zip", pack_study(write_study(tmp_path / "first")).content)
    for name in ("identity.json", "environment.json", f"trials/{study.by_default.key}/record.json"):
        bundle = Bundle("a.zip", study.bundle.manifest, {**study.bundle.files, name: damage})
        with pytest.raises(ConfigError, match=name):
            PackedStudy(bundle)
