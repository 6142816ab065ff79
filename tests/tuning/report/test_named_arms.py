"""The report of named arms: they are called arms, and the first is shown against the others in turn."""

from __future__ import annotations

import html
import re
from pathlib import Path

from tests.tuning.studies import named_runs
from tuning.evidence.arms import Ranking
from tuning.evidence.winner import best_arm
from tuning.figures import plots
from tuning.figures.theme import LIGHT
from tuning.report import StudyFacts, build_report
from tuning.report.build import _numbers
from tuning.report.confirmation import confirmation
from tuning.study.config import StudyConfig

NAMES = ("min_snr", "clean", "p2")
CONFIG = StudyConfig(arms={name: {"weighting.kind": name} for name in NAMES}, margin=0.05)
RECORDS = [
    *named_runs("min_snr", [7.0, 7.71, 7.36, 7.0], curriculum=False),
    *named_runs("clean", [12.0, 13.3, 12.5, 12.1], curriculum=False),
    *named_runs("p2", [6.9, 7.9, 7.2, 7.1], curriculum=False),
    *named_runs("uniform", [10.0, 11.0, 10.5, 10.1]),
]
LADDER = named_runs("ladder", [9.0, 9.9, 9.5, 9.1])


def _report(folder: Path, records: list, config: StudyConfig = CONFIG) -> str:
    return build_report(records, StudyFacts(name="a", config=config), folder).read_text(encoding="utf-8")


def _cells(row: str) -> list[str]:
    return [html.unescape(re.sub("<.*?>", "", cell)) for cell in re.findall(r"<td.*?>(.*?)</td>", row)]


def _turns(text: str) -> list[list[str]]:
    rows = map(_cells, re.findall(r"<tr.*?>(.*?)</tr>", text, re.DOTALL))
    return [row for row in rows if row and row[0].startswith("min_snr against")]


def test_the_first_arm_is_shown_against_the_others_in_turn(tmp_path: Path) -> None:
    first, second = _turns(_report(tmp_path, RECORDS))
    assert (first[0], first[2:]) == ("min_snr against clean", ["4", "beats"])
    assert re.fullmatch(r"\+41\.\d% \[\d+\.\d, \d+\.\d\]", first[1])
    assert (second[0], second[2:]) == ("min_snr against p2", ["4", "equal within ±5%"])


def test_what_is_not_asked_is_said_to_decide_nothing(tmp_path: Path) -> None:
    lost = [*named_runs("min_snr", [11.0, 12.3, 11.6, 11.1], curriculum=False), *RECORDS[4:]]
    assert [row[3] for row in _turns(_report(tmp_path, lost))] == ["not asked", "not asked"]
    assert "in turn" not in confirmation(Ranking.of(RECORDS, "fid"), [], ())


def test_arms_are_called_arms_and_only_a_curriculum_a_curriculum(tmp_path: Path) -> None:
    text = _report(tmp_path, RECORDS)
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert "All arms" in headings
    assert "The best arm" in headings
    assert "schedules" not in text.lower().replace("each schedule's own noise levels", "")
    mixed = Ranking.of([*RECORDS, *LADDER], "fid")
    assert (
        dict(_numbers(mixed, best_arm(mixed)))["FID of the best curriculum, mean of 4 fresh seeds"] == "9.38"
    )
    assert "The best curriculum" in _report(tmp_path, [*RECORDS, *LADDER])


def test_the_plot_of_runs_has_a_row_for_arms_without_a_curriculum() -> None:
    figure = plots.trials(Ranking.of([*RECORDS, *LADDER], "fid"), LIGHT)
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == ["uniform sampling", "easy to hard", "no curriculum"]


def test_a_comparison_in_turn_says_on_how_many_seeds_only_one_of_the_two_failed(tmp_path: Path) -> None:
    failed = [*RECORDS[:8], *named_runs("p2", [6.9, 7.9, 7.2, None], curriculum=False), *RECORDS[12:]]
    assert [row[2] for row in _turns(_report(tmp_path, failed))] == ["4", "3, p2 failed on 1 more"]
