"""Records in words, as files, and grouped by arm."""

import json
import math
import os
import re

import pytest

from curriculum_ray.config import ConfigError
from tests.tuning.studies import record, schedule
from tuning.evidence.arms import Arm, Ranking, side_by_side
from tuning.evidence.keys import TrialKey
from tuning.evidence.metrics import count, direction, number
from tuning.evidence.records import TrialRecord, begun_trials, load_records


def test_a_schedule_in_words():
    assert record().describe() == "20 uniform clusters, easy_to_hard, plateau patience 20, cumulative"
    assert record(description="as MLflow has it").describe() == "as MLflow has it"
    assert record(control="uniform").describe() == "uniform sampling"


def arms(records: list[TrialRecord], metric: str) -> list[Arm]:
    return Ranking.of(records, metric).arms


@pytest.mark.parametrize(
    ("images", "text"),
    [(0, "0"), (640, "640"), (1200, "1.2k"), (76800, "77k"), (256000, "256k"), (1.2e6, "1.2M")],
)
def test_images_are_written_briefly(images, text):
    assert count(images) == text


def test_metrics_are_written_with_the_figures_they_have():
    assert [number(value) for value in (734.2, 12.345, 7.912, 0.0123, 0.0)] == [
        "734.2",
        "12.35",
        "7.91",
        "0.0123",
        "0",
    ]
    assert number(None) == number(float("nan")) == "–"


def test_an_unknown_metric_is_refused():
    with pytest.raises(ConfigError, match="metric must be one of fid, kid"):
        direction("fidelity")


def test_arms_are_ranked_in_the_metrics_own_direction():
    records = [
        record(fid, schedule=schedule(int(fid)), metrics={"fid": fid, "precision": rank / 10})
        for rank, fid in enumerate((9.0, 7.0, 8.0))
    ]
    assert [arm.search_value("fid") for arm in arms(records, "fid")] == [7.0, 8.0, 9.0]
    assert [arm.search_value("precision") for arm in arms(records, "precision")] == [0.2, 0.1, 0.0]


def test_fresh_seeds_outrank_the_searchs_own_score():
    lucky = record(5.0, schedule=schedule(5))
    confirmed = [record(7.0 + seed, schedule=schedule(7), role="confirmation", seed=seed) for seed in (0, 1)]
    table = arms([lucky, *confirmed], "fid")
    assert [arm.name[:20] for arm in table] == ["7 uniform clusters, ", "5 uniform clusters, "]
    assert table[0].confirmed_value("fid") == 7.5
    assert table[0].search_value("fid") is None
    assert table[0].by_seed("fid") == {0: 7.0, 1: 8.0}


def test_equal_scores_go_to_fewer_images():
    table = arms([record(7.0, schedule=schedule(count), images=count * 100) for count in (9, 3, 6)], "fid")
    assert [arm.records[0].images for arm in table] == [300, 600, 900]


def test_failed_runs_and_runs_without_the_metric_are_left_out():
    records = [record(None), record(float("nan")), record(3.0, status="pruned")]
    assert arms(records, "fid") == []


def test_records_of_two_protocols_are_refused_and_not_pooled():
    other = record(8.0, key="search-001", fingerprint="abcd")
    line = r"one fingerprint, but have 2: .*\(e\.g\. trial search-000\).*'abcd' \(e\.g\. trial search-001\)"
    with pytest.raises(ConfigError, match=line):
        arms([record(7.0), other], "fid")
    # One that failed, or stopped before it was measured, stands in no table.
    assert len(arms([record(7.0), record(None, fingerprint="abcd")], "fid")) == 1


def test_uniform_sampling_is_one_arm_whatever_its_base():
    uniform = [record(8.0, control="uniform", schedule_id=key) for key in ("a", "b")]
    assert len(arms(uniform, "fid")) == 1
    assert arms(uniform, "fid")[0].is_uniform


def fresh(values, **changes):
    return [record(fid, role="confirmation", seed=seed, **changes) for seed, fid in values.items()]


def test_values_stand_side_by_side_on_the_seeds_that_both_have():
    mine = fresh({1000: 7.0, 1001: 9.0, 1002: 50.0})
    uniform = fresh({1000: 8.0, 1001: 12.0, 1007: 1.0}, control="uniform")
    table = {arm.is_uniform: arm for arm in arms([record(1.0), *mine, *uniform], "fid")}
    assert side_by_side(table[False], table[True], "fid") == (8.0, 10.0, 2)
    assert side_by_side(table[False], None, "fid") == (22.0, None, 3)


def test_the_searchs_own_values_stand_beside_the_searchs_own():
    table = {arm.is_uniform: arm for arm in arms([record(7.0), record(8.0, control="uniform")], "fid")}
    assert side_by_side(table[False], table[True], "fid") == (7.0, 8.0, 1)


def test_a_record_comes_back_from_its_file_as_it_was(tmp_path):
    history = [[50, 9.5], [100, 8.0]]
    written = record(math.nan, role="control", control="rival", rival="min_snr", history=history, folder="/x")
    path = tmp_path / "record.json"
    path.write_text(json.dumps(written.to_json()))
    found = TrialRecord.read(path)
    assert json.dumps(found.to_json()) == path.read_text()
    assert type(found.key) is TrialKey
    assert found.schedule == written.schedule


# As a study wrote it that knew neither arms nor versions.
OLD = {
    "trial": 3,
    "key": "rival-min_snr",
    "name": "rival: min_snr, no curriculum",
    "role": "control",
    "control": "rival",
    "seed": 0,
    "schedule": schedule(1, "none"),
    "schedule_id": "abc",
    "description": "min_snr, no curriculum",
    "settings": {"weighting.kind": "min_snr"},
    "folder": "/gone",
    "status": "finished",
    "metrics": {"fid": 8.0, "loss": 0.1},
    "images": 100,
    "stage_starts": [[0, 0]],
    "seconds": 1.5,
    "given_up_since": True,
}


def test_a_record_of_before_there_were_versions_is_read():
    found = TrialRecord.from_json(OLD, "record.json")
    assert (found.version, found.arm_id, found.rival, found.total_images) == (1, "abc", "min_snr", 100)
    assert found.walked is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"role": "winner"}, "record.json: role must be 'control', 'searched'"),
        ({"key": "search-1"}, "record.json: key: a trial's key must be like search-007"),
        ({"metrics": {"fid": "8"}}, "record.json: metrics.fid must be a number, but got '8'"),
        ({"version": 1}, "record.json: arm_id is required but missing"),
        ({"version": 2}, "record.json has format version 2, written by a later release"),
    ],
)
def test_a_record_that_is_none_is_refused_in_one_line(changes, says):
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        TrialRecord.from_json({**OLD, **changes}, "record.json")
    assert "\n" not in str(caught.value)


def test_a_record_nested_too_deeply_is_a_damaged_one_and_a_pipe_is_refused(tmp_path):
    path = tmp_path / "record.json"
    path.write_text("[" * 200_000)
    assert TrialRecord.read(path) is None
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=r"record\.json cannot be read: it is not a regular file"):
        TrialRecord.read(path)


def test_a_study_of_a_later_release_is_refused_and_its_trials_are_not_run_again(tmp_path):
    folder = tmp_path / "trials" / "rival-min_snr"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps({**OLD, "version": 2}))
    with pytest.raises(ConfigError, match=r"rival-min_snr/record\.json has format version 2"):
        load_records(tmp_path)


def test_a_ranking_says_what_the_study_says_and_by_what_it_goes_on():
    records = [
        record(9.0, key="control-uniform", role="control", control="uniform", schedule=schedule(1, "none")),
        record(8.0, key="rival-a", role="control", control="rival", arm_id="a", description="a"),
        record(7.0, key="search-000", arm_id="b"),
        record(6.0, key="search-001", arm_id="c"),
        record(5.0, key="rung0-002", role="rung", arm_id="d"),
        record(math.nan, key="search-003", arm_id="e"),
        record(6.5, key="twin-search-001-reversed", role="control", control="reversed", arm_id="f"),
        record(6.9, key="confirm-search-000-seed1000", role="confirmation", seed=1000, arm_id="b"),
    ]
    ranking = Ranking.of(records, "fid")
    assert [arm.arm_id for arm in ranking.arms if arm.has_curriculum] == ["b", "c", "f"]
    assert (ranking.best, ranking.confirmed) == (ranking.arms[0], ranking.arms[:1])
    assert ranking.uniform is not None
    assert ranking.rival is None
    keys = ["search-001", "twin-search-001-reversed", "search-000"]
    assert [run.key for run in ranking.curricula] == keys
    assert [run.key for run in ranking.searched] == ["search-001", "search-000"]
    assert [run.key for run in ranking.rivals] == ["rival-a"]
    assert ranking.uniform_run is records[0]
    with pytest.raises(ConfigError, match="metric must be one of"):
        Ranking.of(records, "fidelity")


def test_trials_that_began_have_settings_and_no_record(tmp_path):
    ended, running = TrialKey.search(0), TrialKey.search(1)
    for name in (ended, running, "no key of a trial"):
        (tmp_path / "trials" / name).mkdir(parents=True)
        (tmp_path / "trials" / name / "config.yaml").touch()
    (tmp_path / "trials" / TrialKey.search(2)).mkdir()
    assert begun_trials(tmp_path, {ended}) == {running}
