"""The page on difficulty: it ends in a schedule that can be trained as it stands."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest

from curriculum_ray.curriculum import CurriculumSchedule, DifficultyCurve, LogNormalSigma, TimestepSampler
from tuning.difficulty import write_report
from tuning.figures.page import Html

BINS = 3
KINDS = {
    "relative_entropy": "relative_entropy",
    "gaussian": "relative_entropy",
    "snr": "snr",
    "convergence": "convergence",
    "convergence-paper": "convergence",
    "loss": "loss",
    "gradient": "gradient",
}


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without pictures, which take seconds to draw."""
    monkeypatch.setattr("tuning.difficulty.page.render", lambda *_: None)
    monkeypatch.setattr("tuning.difficulty.page.to_png", lambda _: bytes(64))
    monkeypatch.setattr("tuning.difficulty.page.drawn", lambda *_: Html())


def curve(name: str, bins: int = BINS, **more: Any) -> DifficultyCurve:
    """A curve as `measure` makes it under this name: the cleanest bin is the hardest."""
    rows = [[1.0 if i == k else 0.5 for i in range(bins)] for k in range(bins)]
    values = {
        "kind": KINDS[name],
        "data": "digits",
        "process": "ddpm-epsilon",
        "u": tuple(k / bins for k in range(bins + 1)),
        "difficulty": tuple(float(bins - k) for k in range(bins)),
    }
    return DifficultyCurve.model_validate(
        values | ({"similarity": rows} if name == "gradient" else {}) | more
    )


def shown(curves: dict[str, DifficultyCurve], folder: Path, into: Path) -> CurriculumSchedule:
    """The schedule on the page about these curves, saved as `into`."""
    folder.mkdir(parents=True)
    for name, each in curves.items():
        each.to_file(folder / f"{name}.json")
    _, page = write_report(curves, folder)
    (text,) = re.findall(r"<pre>(.*?)</pre>", page.read_text(), re.DOTALL)
    into.write_text(html.unescape(text))
    return CurriculumSchedule.from_file(into)


@pytest.mark.parametrize("name", KINDS)
def test_the_schedule_on_the_page_can_be_trained(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    schedule = shown({name: curve(name)}, Path("runs: here, and/digits"), tmp_path / "schedule.yaml")
    sampler = TimestepSampler(schedule, num_timesteps=BINS, total_images=64_000)
    assert schedule.clusters.by == ("uniform" if name == "snr" else KINDS[name])
    assert len(sampler.edges) == BINS + 1
    assert sampler.order == (2, 1, 0)
    assert str(tmp_path) not in (tmp_path / "schedule.yaml").read_text()


def test_curves_elsewhere_are_named_by_their_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    schedule = shown({"loss": curve("loss", 50)}, tmp_path / "digits", Path("schedule.yaml"))
    assert schedule.clusters.difficulty == str(tmp_path / "digits" / "loss.json")  # type: ignore[union-attr]
    assert schedule.clusters.count == 20


def test_sigmas_keep_the_distribution_that_was_measured(tmp_path: Path) -> None:
    base = LogNormalSigma(mean=-1.0, std=1.4)
    schedule = shown({"gaussian": curve("gaussian", 1000, base=base)}, tmp_path / "x", tmp_path / "s.yaml")
    assert schedule.base == base
    assert len(TimestepSampler(schedule, sigma=True, total_images=640_000).edges) == 21


def test_the_page_says_that_one_seed_has_no_error(tmp_path: Path) -> None:
    one = curve("convergence", 10, meta={"by_seed": [[float(10 - k) for k in range(10)]]})
    shown({"convergence": one}, tmp_path / "x", tmp_path / "s.yaml")
    page = (tmp_path / "x" / "difficulty.html").read_text()
    assert "Low-noise timesteps are harder: yes by one measurement<" in page
    assert "one seed, no error known" in page
    assert "more than two standard errors (one seed has none)" in page


def test_the_most_telling_curve_is_used(tmp_path: Path) -> None:
    curves = {name: curve(name) for name in ("snr", "gradient", "convergence", "loss")}
    assert shown(curves, tmp_path / "x", tmp_path / "s.yaml").clusters.by == "convergence"
