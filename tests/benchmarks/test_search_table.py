"""Protects the table of a search space and the searches replayed on it: what is kept, and what a search may know."""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import optuna
import pytest

from curriculum_ray.config import ConfigError, parse
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace

ROOT = Path(__file__).parents[2]
FULL, LOW = 44_800, 11_200
SPACE = {
    "version": 1,
    "search": {
        "optimizer.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "schedule.active.set": {"type": "categorical", "choices": ["cumulative", "window"]},
        "schedule.active.width": {
            "type": "int",
            "low": 1,
            "high": 3,
            "when": {"schedule.active.set": "window"},
        },
    },
}


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    names = (
        "search_table",
        "sampler_table",
        "table_world",
        "replay",
        "bench_sampler_choice",
        "regret_page",
        "pages",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def computed(modules: dict[str, ModuleType]) -> Any:
    return modules["sampler_table"].Table()


def rows(modules: dict[str, ModuleType], *schedules: dict[str, Any]) -> list[Any]:
    """A table of schedules, each given by its FIDs (seeds 0, 1, 2), at the smaller budget, and at the looks."""
    table = modules["search_table"]
    found = [
        table.Row(arm="control-uniform", seed=seed, images=FULL, fingerprint="f", metrics={"fid": 10.0})
        for seed in range(3)
    ]
    for index, each in enumerate(schedules):
        params = {"optimizer.learning_rate": 1e-4 * 1.5**index, "schedule.active.set": "cumulative"}
        log = [(images, 7, look) for images, look in each.get("looks", {FULL: 0.0}).items()]
        whole = table.Row(
            arm=f"search-{index:03d}", params=params, seed=0, images=FULL, fingerprint="f", num_stages=8
        )
        found += [
            replace(whole, seed=seed, metrics={"fid": fid}, log=tuple(log))
            for seed, fid in enumerate(each["fid"])
        ]
        found.append(replace(whole, images=LOW, metrics={"fid": each.get("low", 0.0)}))
    return found


def world(modules: dict[str, ModuleType], *schedules: dict[str, Any]) -> Any:
    space = parse(SearchSpace, SPACE, "space")
    return modules["table_world"].World.of(space, rows(modules, *schedules), FULL)


def config(trials: int, **halving: Any) -> StudyConfig:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return parse(
        StudyConfig, {"sampler": "random", "trials": trials, "halving": halving or {"rule": "none"}}, "x"
    )


def test_rows_survive_a_kill_and_are_packed_alike(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    table, lines = modules["search_table"], tmp_path / "deep" / "rows.jsonl"
    wanted = rows(modules, {"fid": [3.0, 4.0], "looks": {12_800: None, FULL: 3.5}})
    for row in wanted:
        table.append(lines, row)
    with lines.open("a") as file:
        file.write('{"arm": "search-0')
    assert table.read_lines(lines) == wanted
    packed = [tmp_path / "one.json.gz", tmp_path / "two.json.gz"]
    for path, order in zip(packed, (wanted, wanted[::-1]), strict=True):
        table.pack(path, order, {"fingerprint": "f"})
    assert packed[0].read_bytes() == packed[1].read_bytes()
    assert table.by_key(table.read_packed(packed[0])) == table.by_key(wanted)
    with pytest.raises(ConfigError, match="one protocol"):
        table.by_key([*wanted, replace(wanted[0], seed=9, fingerprint="g")])
    packed[0].write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match="no table"):
        table.read_packed(packed[0])


def test_the_seed_that_judges_is_run_where_a_schedule_can_be_an_answer(
    modules: dict[str, ModuleType], computed: Any
) -> None:
    known = modules["search_table"].by_key(rows(modules, {"fid": [6.0, 9.0]}, {"fid": [6.0, 9.1]}))
    assert list(computed.due("search-000", known)) == [("search-000", 2, FULL)]
    assert list(computed.due("search-001", known)) == []
    assert list(computed.due("control-uniform", known)) == []
    assert len(list(computed.due("search-002", known))) == 3
    order = [arm for arms in computed.order(2) for arm in arms]
    assert order[0] == "control-uniform"
    assert [arm for arm in order if arm.startswith("search")] == ["search-000", "search-001"]


def test_a_run_of_the_table_is_that_of_a_study(computed: Any) -> None:
    full = computed.settings(("search-003", 0, FULL))
    assert (full.seed, full.images, full.preview.num_samples) == (0, FULL, 500)
    low = computed.settings(("search-003", 0, LOW))
    assert (low.images, low.preview, low.schedule) == (LOW, None, full.schedule)
    rival = computed.settings(("rival-min_snr", 1, FULL))
    assert (rival.seed, rival.weighting.kind, rival.schedule.order.direction) == (1, "min_snr", "none")


def test_the_nearest_is_by_the_keys_that_exist(modules: dict[str, ModuleType]) -> None:
    here = world(modules, *[{"fid": [1.0, 1.0]}] * 4)
    asked = {"optimizer.learning_rate": 1.6e-4, "schedule.active.set": "cumulative"}
    assert here.nearest(asked, []) == 1
    assert here.nearest(asked, [1]) == 2
    point, others = np.array([0.5, 2.0, np.nan]), np.array([[0.5, 3.0, 0.2], [0.7, 2.0, np.nan]])
    assert modules["table_world"].gower(point, others) == pytest.approx([2 / 3, 0.1])


def test_a_search_spends_its_images_and_shows_no_other_seed(modules: dict[str, ModuleType]) -> None:
    replay = modules["replay"]
    here = world(modules, *({"fid": [float(place), -100.0]} for place in range(8)))
    tried = replay.play(config(5), here, 5 * FULL)
    assert [each.images for each in tried] == [FULL * count for count in range(1, 6)]
    assert len({id(each.schedule) for each in tried}) == 5
    assert len(replay.play(config(50), here, 50 * FULL)) == 8


def test_compressed_runs_the_best_of_a_bracket_in_full(modules: dict[str, ModuleType]) -> None:
    here = world(modules, *({"fid": [5.0, 5.0], "low": float(low)} for low in (4, 1, 3, 2)))
    (only,) = modules["replay"].play(config(4, rule="compressed", reduction=4), here, 2 * FULL)
    assert only.schedule.low.metrics["fid"] == 1.0
    assert only.images == 4 * LOW + FULL


def test_a_look_stops_the_worse_at_the_next_report(modules: dict[str, ModuleType]) -> None:
    looks = {6_400: None, 12_800: None, 19_200: None, FULL: 0.0}
    schedules = ({"fid": [5.0, 5.0], "looks": {**looks, 12_800: look}} for look in (0.0, 3.0, 2.0, 1.0))
    here = world(modules, *schedules)
    # This search tries them from the last to the first: two are worse than the one before them.
    tried = modules["replay"].play(config(5, rule="after_last_stage"), here, 5 * FULL)
    assert [each.schedule.full[0].log[1][2] for each in tried] == [1.0, 0.0]
    assert tried[-1].images == 2 * FULL + 2 * 19_200
    assert modules["replay"].play(config(5, rule="after_last_stage"), here, FULL - 1) == []


def test_a_race_is_won_by_the_mean_of_both_seeds_within_its_images(modules: dict[str, ModuleType]) -> None:
    replay = modules["replay"]
    here = world(modules, {"fid": [1.0, 9.0, 9.0]}, {"fid": [2.0, 2.0, 2.0]}, {"fid": [8.0, 0.0, 8.0]})
    lucky, solid, late = here.schedules
    tried = [replay.Tried(each, FULL * (place + 1)) for place, each in enumerate((lucky, solid, late))]
    assert replay.race(tried, 5 * FULL, 2, FULL) is solid
    assert replay.race(tried, 3 * FULL, 2, FULL) is None
    assert replay.race_on_the_go(tried, 5 * FULL, FULL) is lucky
    backwards = [replay.Tried(each, FULL * (place + 1)) for place, each in enumerate((late, solid, lucky))]
    assert replay.race_on_the_go(backwards, 6 * FULL, FULL) is solid
    assert replay.race_on_the_go(backwards, 3 * FULL, FULL) is late
    assert (here.regret(lucky), here.regret(solid)) == (7.0, 0.0)


def test_intervals_hold_what_both_the_table_and_the_searches_leave_open(
    modules: dict[str, ModuleType],
) -> None:
    summary = modules["bench_sampler_choice"].summary
    source = np.random.default_rng(0)
    searches = source.normal(1, 1, (16, 16))
    narrow, wide = summary(searches), summary(searches + source.normal(0, 2, (16, 1)))
    assert narrow["low"] < 1 < narrow["high"]
    assert narrow["high"] - narrow["low"] < 1 < 4 < wide["high"] - wide["low"]


def test_the_example_runs_on_any_table(
    modules: dict[str, ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "tiny.json.gz"
    content = rows(modules, *({"fid": [float(place), place + 1.0]} for place in range(4)))
    modules["search_table"].pack(path, content, {"space": SPACE, "settings": {"images": FULL}})
    monkeypatch.setattr(sys, "argv", ["own_searcher.py", str(path)])
    monkeypatch.setattr(sys, "path", list(sys.path))
    runpy.run_path(str(ROOT / "examples" / "own_searcher.py"), run_name="__main__")
    # Four schedules are all tried, so every search finds the best.
    assert capsys.readouterr().out.count("regret 0.0% ± 0.0%") == 2


def test_a_page_gets_the_tables_between_its_marks(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    shown, page = modules["regret_page"], tmp_path / "page.md"
    put_into = modules["pages"].put_into
    result = {
        "regret": {"tpe": {8: {"mean": 0.1, "low": 0.05, "high": 0.15}}},
        "against_default": {},
        "curse": {},
    }
    page.write_text(f"before\n{shown.MARKS[0]}\nold\n{shown.MARKS[1]}\nafter\n")
    for _ in range(2):
        put_into(page, shown.MARKS, shown.tables(result, "tpe"))
    text = page.read_text()
    assert text.count("10.0 [5.0, 15.0]") == 1
    assert "old" not in text
    assert (text[:6], text[-6:]) == ("before", "after\n")
    page.write_text("no marks")
    with pytest.raises(ConfigError, match="must hold the marks"):
        put_into(page, shown.MARKS, "x")
