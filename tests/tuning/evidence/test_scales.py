"""Metrics at further scales of guidance stand beside those of the first, and are named in plain words."""

from __future__ import annotations

from tests.tuning.studies import UNIFORM, record
from tuning.evidence.arms import Ranking
from tuning.evidence.metrics import direction, in_order, is_metric, metric_name
from tuning.evidence.table import columns
from tuning.study.conclusion import table_of


def test_a_scale_is_read_from_the_name_of_a_metric() -> None:
    assert is_metric("fid_at_2.5")
    assert not is_metric("at_2.5")
    assert direction("recall_at_2") == "max"
    assert metric_name("fid_at_2.5") == "FID at 2.5"
    assert in_order(["recall_at_2", "fid_at_10", "fid_at_2", "loss", "fid", "images"]) == [
        *("fid", "loss", "fid_at_2", "recall_at_2", "fid_at_10"),
    ]


def test_the_table_shows_the_metric_and_the_gain_at_each_scale() -> None:
    def metrics(plain: float, guided: float) -> dict[str, float]:
        return {"fid": plain, "fid_at_2": guided, "kid_at_2": 0.1}

    records = [record(metrics=metrics(9.0, 6.0)), record(metrics=metrics(10.0, 5.0), **UNIFORM)]
    ranking = Ranking.of(records, "fid")
    shown = {column.title: [column.text(arm) for arm in ranking.arms] for column in columns(ranking)}
    assert shown["gain",] == ["+10.0%", "–"]
    assert shown["FID at 2",] == ["6.00", "5.00"]
    assert shown["gain", "at 2"] == ["-20.0%", "–"]
    assert "fid_at_2" in table_of(records)["columns"]


def test_one_scale_adds_no_column() -> None:
    assert not any("at" in " ".join(column.title) for column in columns(Ranking.of([record()], "fid")))
