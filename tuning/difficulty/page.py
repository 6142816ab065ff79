"""The report on difficulty: a PNG, and a self-contained HTML page for light and dark screens."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from curriculum_ray.config.plain_yaml import write_yaml
from curriculum_ray.curriculum import DifficultyCurve
from curriculum_ray.own_files import check_own, write_own
from tuning.difficulty.figure import render
from tuning.difficulty.verdict import NAMES, NO_CLAIM, Verdict, agreement, judge_all, signed
from tuning.figures.draw import drawn
from tuning.figures.page import Html, facts, join, page, paragraph, section, table, tag
from tuning.figures.theme import LIGHT, to_png

__all__ = ["check_report", "write_report"]

_FILES = ("difficulty.png", "difficulty.html")
# The measurements in the order in which they are preferred for a schedule.
_BEST_FIRST = ("relative_entropy", "convergence", "convergence-paper", "loss", "gradient", "gaussian", "snr")
_PLACE = "A relative path starts beside the schedule, or at the folder from which commands are run."
_YES = (
    "a rank correlation between u and difficulty of at most −0.7, in every seed, and a cleanest fifth of u harder than "
    "the noisiest by more than two standard errors (one seed has none) and by at least 5%."
)


def check_report(folder: Path, *, force: bool = False) -> None:
    """Refuse a `folder` that holds foreign files with the names of the report's files."""
    for name in _FILES:
        check_own(folder / name, force=force)


def write_report(
    curves: Mapping[str, DifficultyCurve],
    folder: Path,
    report: Callable[[str], None] = lambda line: None,
    *,
    force: bool = False,
) -> tuple[Path, Path]:
    """Write difficulty.png and difficulty.html into `folder`; returns their paths. report: called with lines."""
    picture, html = (folder / name for name in _FILES)
    title = f"How hard is each noise level of {next(iter(curves.values())).data}?"
    written = {
        picture: to_png(render(curves, LIGHT, title)),
        html: page(title, _content(curves, folder, title)).encode(),
    }
    for path, content in written.items():
        if (kept := write_own(path, content, force=force)) is not None:
            report(f"an earlier file was kept as {kept}")
    return picture, html


def _content(curves: Mapping[str, DifficultyCurve], folder: Path, title: str) -> Html:
    verdicts = tuple(judge_all(curves).values())
    rows = [(_word(each.yes), each.sentence().partition(" ")[2]) for each in verdicts]
    if "gradient" in curves:
        alike, correlation = agreement(curves["gradient"])
        what = "neighbouring noise levels have more similar gradients than distant ones"
        rows.append((_word(alike), f"{what} (Spearman {signed(correlation)} of cosine with distance)"))
    process = next(iter(curves.values())).process
    parts = [
        tag("h1", title),
        tag("p", f"Low-noise timesteps are harder: {_answer(verdicts)}", class_="answer"),
        paragraph(f"{process} · u runs from 0 (clean) to 1 (noise)", faint=True),
        facts(rows, "verdicts") if rows else Html(),
        drawn(lambda theme: render(curves, theme), "Difficulty by noise level, one panel per measurement"),
        section("By interval", _table(curves)),
        section("How it was measured", _methods(curves, verdicts)),
        section("Use it in a schedule", tag("pre", _schedule(curves, folder)), paragraph(_PLACE, faint=True)),
    ]
    return join(part for part in parts if part)


def _answer(verdicts: Sequence[Verdict]) -> str:
    yes = sum(verdict.yes for verdict in verdicts)
    if not verdicts:
        return f"not measured: {NO_CLAIM}"
    if len(verdicts) == 1:
        return f"{'yes' if yes else 'no'} by one measurement"
    if not yes:
        return f"no by any of {len(verdicts)} measurements"
    return f"yes by {yes if yes < len(verdicts) else 'all'} of {len(verdicts)} measurements"


def _word(yes: bool) -> Html:
    return tag("span", "yes" if yes else "no", class_="good" if yes else "bad")


def _table(curves: Mapping[str, DifficultyCurve]) -> Html:
    """Mean difficulty in each interval of the coarsest curve, by every measurement."""
    edges = min((curve.u for curve in curves.values()), key=len)
    if len(edges) > 51:
        edges = tuple(k / 10 for k in range(11))
    units = (join([NAMES[name], tag("small", curve.meta.get("unit", ""))]) for name, curve in curves.items())
    rows = (
        [f"{low:.2f} – {high:.2f}", *(_number(curve.mean_over(low, high)) for curve in curves.values())]
        for low, high in itertools.pairwise(edges)
    )
    return table(["u", *units], rows)


def _methods(curves: Mapping[str, DifficultyCurve], verdicts: Sequence[Verdict]) -> Html:
    entries = [("yes", _YES)] if verdicts else []
    for name, curve in curves.items():
        meta = curve.meta
        parts = [f"{meta['unit']}"] if "unit" in meta else []
        if "samples" in meta:
            counts = ", ".join(f"{kind} at {len(at)}" for kind, at in meta["estimator"].items())
            parts.append(f"Monte Carlo, {meta['samples']:,} samples; estimator by timesteps: {counts}")
        elif "method" in meta:
            parts.append(meta["method"])
        if "items" in meta:
            parts.append(f"on {meta['items']:,} items of the stream")
        if "points" in meta:
            parts.append(f"measured at {len(meta['points'])} points of training")
        if meta.get("at_least"):
            parts.append(f"lower bounds in intervals {', '.join(map(str, meta['at_least']))}")
        if meta.get("did_not_fall"):
            parts.append(f"no decrease in intervals {', '.join(map(str, meta['did_not_fall']))}")
        if "seeds" in meta:
            parts.append(f"seeds {', '.join(map(str, meta['seeds']))}")
        entries.append((NAMES[name], "; ".join(parts) + "."))
    return facts(entries)


def _schedule(curves: Mapping[str, DifficultyCurve], folder: Path) -> str:
    """A schedule file that names one of the curves, which lie in `folder`."""
    name = next(name for name in _BEST_FIRST if name in curves)
    curve, file, here = curves[name], (folder / f"{name}.json").absolute(), Path.cwd()
    path = str(file.relative_to(here) if file.is_relative_to(here) else file)
    cut = {"by": "uniform"} if curve.kind == "snr" else {"by": curve.kind, "difficulty": path}
    schedule = {
        "version": 1,
        "base": curve.base.model_dump(mode="json"),
        # No cluster may be without a bin, nor without a timestep, of which there are as many or more.
        "clusters": {**cut, "count": min(20, len(curve.difficulty))},
        "order": {"direction": "easy_to_hard", "by": path},
        "pacing": {"rule": "plateau", "patience_share": 0.02, "finish_by": 0.5},
    }
    return write_yaml(schedule)


def _number(value: float) -> str | Html:
    """Three figures; small ones as 4.2·10⁻⁵."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:.3g}".replace("-", "−")
    digits, _, power = f"{value:.2e}".partition("e")
    return Html(f"{digits}·10<sup>{int(power)}</sup>".replace("-", "−"))
