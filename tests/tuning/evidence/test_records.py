"""Records in words, and grouped by schedule."""

import pytest

from curriculum_ray.config import ConfigError
from tests.tuning.studies import record, schedule
from tuning.evidence.records import arms, count, describe, direction, gain, number, side_by_side


def test_a_schedule_in_words():
    assert describe(record()) == "20 uniform clusters, easy_to_hard, plateau patience 20, cumulative"
    assert describe(record(description="as MLflow has it")) == "as MLflow has it"
    assert describe(record(control="uniform")) == "uniform sampling"


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
    records = [record(fid, schedule=schedule(int(fid))) for fid in (9.0, 7.0, 8.0)]
    for rank, values in enumerate(records):
        values["metrics"]["precision"] = rank / 10
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
    assert [arm.records[0]["images"] for arm in table] == [300, 600, 900]


def test_failed_runs_and_runs_without_the_metric_are_left_out():
    records = [record(None), record(float("nan")), record(3.0, status="stopped")]
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


def test_a_gain_is_positive_whatever_the_metrics_direction():
    assert gain(9.0, 10.0, "fid") == pytest.approx(10)
    assert gain(0.55, 0.5, "precision") == pytest.approx(10)
    assert gain(-0.2, -0.1, "kid") == pytest.approx(100)
