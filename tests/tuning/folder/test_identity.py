"""Protects: numbers of two contents never stand in one table, and two studies of one name never become one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import optuna
import pytest
from PIL import Image

from curriculum_ray.config import ConfigError
from curriculum_ray.data import DataSpec, data_info, load_data
from curriculum_ray.data.content import describe_content
from tests.tuning.studies import record
from tuning.evidence.records import load_records
from tuning.folder.identity import Content, Identity, claim, content_of
from tuning.folder.layout import IDENTITY_FILE
from tuning.search.samplers import open_storage, study_name
from tuning.search.study_search import StudySearch
from tuning.study.config import StudyConfig
from tuning.study.ledger import open_folder
from tuning.study.plan import StudyPlan
from tuning.study.space import SearchSpace
from tuning.tracking import Tracker
from tuning.tracking.registry import own_model, register

PARTS: dict[str, Any] = {
    "settings": {"run": {"images": 128}},
    "data": {"name": "digits", "count": 10, "content": "ab"},
    "protocol": {"steps": 50},
    "space": {"search": {"schedule.clusters.count": {"choices": [4, 8]}}, "fixed": {}},
}
EXPERIMENT = "digits/ddpm"


def _content(**changes: Any) -> Content:
    return Content(**{**PARTS, **changes})


def test_one_folder_is_one_study_and_another_is_another(tmp_path: Path) -> None:
    first = claim(tmp_path / "a", _content(), "study")
    assert claim(tmp_path / "a", _content(), "study") == first
    other = claim(tmp_path / "b", _content(), "study")
    assert other.id != first.id
    assert other.hash == first.hash
    stored = json.loads((tmp_path / "a" / IDENTITY_FILE).read_text())
    assert (stored["id"], stored["hash"]) == (first.id, first.hash)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"settings": {"run": {"images": 256}}}, r"settings\.run\.images was 128 and is 256"),
        (
            {"data": {"name": "digits", "count": 11, "content": "cd"}},
            r"data\.content was 'ab' and is 'cd', data\.count",
        ),
        ({"protocol": {"steps": 20}}, r"protocol\.steps was 50 and is 20"),
        (
            {"space": {"search": {"schedule.clusters.count": {"choices": [4, 8, 16]}}, "fixed": {}}},
            r"space\.search\.schedule\.clusters\.count\.choices was \[4, 8\] and is \[4, 8, 16\]",
        ),
        ({"space": {**PARTS["space"], "start": [{"x": "y" * 5000}]}}, r"space\.start was None and is "),
    ],
)
def test_another_content_is_refused_in_one_line_that_says_what_differs(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    claim(tmp_path, _content(), "study")
    with pytest.raises(ConfigError, match=says) as error:
        claim(tmp_path, _content(**changes), "study")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    assert _content(**changes).hash != _content().hash


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"id": 3}', '{"id": "a", "hash": "b", "data": 3}'])
def test_a_damaged_identity_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / IDENTITY_FILE).write_text(text)
    with pytest.raises(ConfigError, match=r"corrupt|other content|holds files"):
        claim(tmp_path, _content(), "study")


def test_a_folder_with_somebodys_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "schedule.yaml").write_text("# by hand\n")
    with pytest.raises(ConfigError, match=rf"^{tmp_path} holds files .*schedule\.yaml"):
        claim(tmp_path, _content(), "run")
    assert [path.name for path in tmp_path.iterdir()] == ["schedule.yaml"]


def _images(folder: Path, seed: int, count: int = 6) -> DataSpec:
    generator = numpy.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=numpy.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return DataSpec(name=str(folder), image_size=8)


def test_the_content_of_data_is_what_it_holds(tmp_path: Path) -> None:
    spec = _images(tmp_path / "images", seed=0)
    before = describe_content(spec, load_data(spec))
    for path in (tmp_path / "images").iterdir():
        path.touch()
    assert describe_content(spec, load_data(spec)) == before
    _images(tmp_path / "images", seed=1)
    replaced = describe_content(spec, load_data(spec))
    assert replaced["count"] == before["count"]
    assert replaced["content"] != before["content"]
    _images(tmp_path / "images", seed=0, count=7)
    assert describe_content(spec, load_data(spec))["count"] == 7


def test_conditions_are_part_of_the_content(tmp_path: Path) -> None:
    told, untold = (DataSpec.model_validate({"conditioning": wish}) for wish in ("class", "none"))
    assert (
        describe_content(told, load_data(told))["content"]
        != describe_content(untold, load_data(untold))["content"]
    )


def test_a_stream_whose_shard_was_replaced_is_another(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    spec = DataSpec(name=str(tmp_path), format="parquet")

    def write(seed: int) -> dict[str, Any]:
        rows = []
        for number in range(4):
            pixels = numpy.random.default_rng([seed, number]).integers(0, 256, (8, 8, 3), dtype=numpy.uint8)
            path = tmp_path / "one.bmp"  # of one size whatever it shows
            Image.fromarray(pixels).save(path)
            rows.append({"bytes": path.read_bytes()})
            path.unlink()
        table = pyarrow.table({"image": rows})
        parquet.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
        return describe_content(spec, data_info(spec))

    first, again, other = write(0), write(0), write(1)
    assert first == again
    assert other["content"] != first["content"]


def test_the_name_of_a_space_is_not_its_content() -> None:
    config = StudyConfig()
    data = load_data(config.run.data)
    spaces = [SearchSpace.load("default"), SearchSpace.load("default").model_copy(update={"name": "mine"})]
    contents = [
        content_of({}, config.run.data, data, None, space.model_dump(mode="json", exclude={"name"}))
        for space in spaces
    ]
    assert contents[0].hash == contents[1].hash


def test_data_may_be_moved(tmp_path: Path) -> None:
    spec = _images(tmp_path / "here" / "images", seed=0)
    moved = _images(tmp_path / "there" / "images", seed=0)
    contents = [
        content_of({"run": {"data": each.model_dump(mode="json")}}, each, load_data(each), None)
        for each in (spec, moved)
    ]
    assert contents[0] == contents[1]
    digits = DataSpec()
    settings = content_of({"data": digits.model_dump(mode="json")}, digits, load_data(digits), None).settings
    assert settings["data"]["name"] == "digits"


def test_a_reference_file_counts_by_its_content(tmp_path: Path) -> None:
    data, protocol = load_data(DataSpec()), {"reference": "ab"}

    def content(path: str | None, **changes: Any) -> Content:
        run = {"images": 128, "evaluation": {"steps": 5, "reference": path, "weights": None}}
        return replace(content_of({"run": run}, DataSpec(), data, None), protocol=protocol | changes)

    before = claim(tmp_path / "a", content("/here/reference.npz"), "study")
    assert claim(tmp_path / "a", content("/elsewhere/other.npz"), "study") == before
    with pytest.raises(ConfigError, match=r"protocol\.reference was 'ab' and is 'cd'"):
        claim(tmp_path / "a", content("/here/reference.npz", reference="cd"), "study")
    assert content(None).settings["run"]["evaluation"] == {"steps": 5, "reference": None, "weights": None}
    # As the first releases wrote it.
    run = {"images": 128, "evaluation": {"steps": 5, "reference": "/here/reference.npz", "weights": None}}
    early = replace(content("/here/reference.npz"), settings={"run": run})
    kept = claim(tmp_path / "b", early, "study")
    assert claim(tmp_path / "b", content("/here/reference.npz"), "study") == kept


def test_open_folder_keeps_settings_that_a_search_reads_again(tmp_path: Path) -> None:
    open_folder(tmp_path, StudyConfig(seed=3), _content())
    stored = json.loads((tmp_path / "study.json").read_text())
    assert StudyConfig.model_validate(stored) == StudyConfig(seed=3)


def _write_record(output: Path, text: str) -> Path:
    folder = output / "trials" / "search-000"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(text)
    return folder


@pytest.mark.parametrize(
    "text", ["3", "{}", "null", '{"key": "search-000"}', "[", json.dumps(record(key="search-001").to_json())]
)
def test_a_damaged_record_is_a_trial_that_has_not_ended(tmp_path: Path, text: str) -> None:
    _write_record(tmp_path, text)
    assert load_records(tmp_path) == {}


def test_a_record_lies_where_it_lies(tmp_path: Path) -> None:
    written = record(folder="/etc")
    folder = _write_record(tmp_path, json.dumps(written.to_json()))
    assert load_records(tmp_path) == {written.key: written.model_copy(update={"folder": folder})}


def test_two_people_with_one_name_on_one_server_have_two_studies(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    runs = []
    for person in ("alice", "bob"):
        identity = claim(tmp_path / person, _content(), "study")
        with Tracker.open(store, tmp_path, EXPERIMENT) as tracker:
            study = tracker.study("search", {"images": 128}, {}, identity)
            run = tracker.trial(study, "search-000", "a", {}, {})
            tracker.flush()
            runs.append({tracker.run_id(study), tracker.run_id(run)})
            tags = tracker.store.client.get_run(tracker.run_id(run)).data.tags
            assert (tags["curriculum_ray.id"], tags["curriculum_ray.content"]) == (identity.id, identity.hash)
    assert not runs[0] & runs[1]
    with Tracker.open(store, tmp_path, EXPERIMENT) as tracker:
        again = tracker.study("search", {"images": 128}, {}, claim(tmp_path / "alice", _content(), "study"))
        assert tracker.run_id(again) in runs[0]


def test_a_run_of_another_content_in_mlflow_is_refused(tmp_path: Path) -> None:
    with Tracker.open(None, tmp_path, EXPERIMENT) as tracker:
        tracker.train("a", {}, {}, Identity("1" * 32, "aaaa"))
        with pytest.raises(ConfigError, match=r"other content \(hash aaaa, here bbbb\)"):
            tracker.train("a", {}, {}, Identity("1" * 32, "bbbb"))


def test_a_run_whose_files_were_moved_goes_on_in_mlflow(tmp_path: Path) -> None:
    """They count by their content, and MLflow keeps the parameters of the first start."""
    identity = Identity("1" * 32, "aaaa")
    with Tracker.open(None, tmp_path, EXPERIMENT) as tracker:
        for kind in (tracker.study, tracker.train):
            first, again = (kind("a", {"data": {"name": name}}, {}, identity) for name in ("/one", "/two"))
            assert first == again
            ident = tracker.run_id(first)
            assert tracker.store.client.get_run(ident).data.params == {"data.name": "/one"}
        tracker.train("b", {"data": {"name": "/one"}}, {})
        with pytest.raises(ConfigError, match=r"'b' was started with data.name = /one, but now it is /two"):
            tracker.train("b", {"data": {"name": "/two"}}, {})


def test_a_study_is_in_mlflow_under_one_name(tmp_path: Path) -> None:
    """Its trials would be under two: `best` would know a part of them by each."""
    with Tracker.open(None, tmp_path, EXPERIMENT) as tracker:
        tracker.study("a", {}, {}, Identity("1" * 32, "aaaa"))
        with pytest.raises(
            ConfigError, match=r"under the name 'a': go on with it by --name a, or choose another"
        ):
            tracker.study("b", {}, {}, Identity("1" * 32, "aaaa"))
        tracker.study("b", {}, {}, Identity("2" * 32, "aaaa"))


def test_a_name_in_the_registry_stays_with_the_study_that_took_it(tmp_path: Path) -> None:
    with Tracker.open(None, tmp_path, EXPERIMENT) as tracker:
        run = tracker.train("a", {}, {})
        ident = tracker.run_id(run)
        names = [own_model(tracker.store, "search", person * 32) for person in ("1", "2", "1")]
        assert names == ["search", "search-22222222", "search"]
        for name in names[:2]:
            register(tracker.store, name, ident, "best", "it beats", {})


def _search(folder: Path, storage: str, identity: Identity) -> StudySearch:
    config = StudyConfig(storage=storage)
    opened = open_storage(storage, folder)
    name = study_name(storage, "search", identity)
    return StudySearch(
        config,
        SearchSpace.load("default"),
        StudyPlan(config),
        opened,
        name,
        identity,
    )


def test_two_studies_of_one_name_in_one_database_share_no_trial(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/o.db"
    for person in ("1", "2"):
        search = _search(tmp_path, storage, Identity(person * 32, "same"))
        assert [search.suggest() is not None for _ in range(2)] == [True, True]
    found = optuna.get_all_study_summaries(storage=storage)
    assert sorted(one.study_name for one in found) == ["search-11111111", "search-22222222"]
    _search(tmp_path, storage, Identity("1" * 32, "same"))
    with pytest.raises(ConfigError, match="belongs to another") as error:
        _search(tmp_path, storage, Identity("1" * 32, "other"))
    assert "\n" not in str(error.value)
