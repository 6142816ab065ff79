"""The report on difficulty: a PNG, and one HTML page that needs no network, for light and dark."""

from __future__ import annotations

import base64
import html
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

from curriculum_ray.curriculum import DifficultyCurve
from curriculum_ray.own_files import check_own, write_own
from tuning.difficulty.figure import DARK, LIGHT, render
from tuning.difficulty.verdict import NAMES, agreement, judge, signed

__all__ = ["check_report", "write_report"]

_FILES = ("difficulty.png", "difficulty.html")

_STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1f2430; --faint: #6b7280; --line: #e5e7eb;
  --yes: #17804a; --no: #b3261e; --code: #f3f4f6; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171f; --ink: #e6e8ee; --faint: #9aa3b2;
  --line: #2b313d; --yes: #5fd39a; --no: #ff8f85; --code: #1d222d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 2.2rem 1.4rem 4rem; background: var(--ground);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.65rem; line-height: 1.25; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 2.4rem 0
.6rem; } p.sub { color: var(--faint); margin: 0 0 1.4rem; } p.claim { font-size: 1.15rem; margin: 0 0 .8rem;
} ul.verdicts { list-style: none; margin: 0 0 1.6rem; padding: 0; } ul.verdicts li { padding: .35rem 0;
border-top: 1px solid var(--line); display: flex; gap: .8rem; } ul.verdicts b { flex: 0 0 2.2rem; } .yes {
color: var(--yes); } .no { color: var(--no); } img { width: 100%; height: auto; display: block; } .scroll {
overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; } th,
td { text-align: right; padding: .35rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--faint); font-weight: 600; font-size: .85rem; white-space: normal; vertical-align: bottom; }
sup { line-height: 0; }
th small { display: block; font-weight: 400; }
th:first-child, td:first-child { text-align: left; } pre { background: var(--code); padding: .8rem 1rem;
border-radius: 6px; overflow-x: auto; font-size: .9rem; } dl { display: grid; grid-template-columns:
minmax(9rem, auto) 1fr; gap: .35rem 1.2rem; margin: 0; } dt { font-weight: 600; } dd { margin: 0; color:
var(--faint); }
"""


def check_report(folder: Path, *, force: bool = False) -> None:
    """Refuse a `folder` in which somebody else's files are called as the report's."""
    for name in _FILES:
        check_own(folder / name, force=force)


def write_report(
    curves: Mapping[str, DifficultyCurve],
    folder: Path,
    report: Callable[[str], None] = lambda line: None,
    *,
    force: bool = False,
) -> tuple[Path, Path]:
    """Write difficulty.png and difficulty.html into `folder`; returns their paths. report: hears of what is kept."""
    picture, page = (folder / name for name in _FILES)
    title = f"How hard is each noise level of {next(iter(curves.values())).data}?"
    written = {picture: render(curves, LIGHT, kind="png", title=title), page: _page(curves, title).encode()}
    for path, content in written.items():
        if (kept := write_own(path, content, force=force)) is not None:
            report(f"an earlier file was kept as {kept}")
    return picture, page


def _page(curves: Mapping[str, DifficultyCurve], title: str) -> str:
    first = next(iter(curves.values()))
    verdicts = [judge(name, curve) for name, curve in curves.items()]
    yes = sum(verdict.yes for verdict in verdicts)
    answer = f"yes by {yes if yes < len(verdicts) else 'all'} of {len(verdicts)} measurements"
    if not yes:
        answer = f"no by any of {len(verdicts)} measurements"
    rows = [_answer(each.yes, each.sentence().partition(" ")[2]) for each in verdicts]
    if "gradient" in curves:
        alike, correlation = agreement(curves["gradient"])
        what = "neighbouring noise levels have more similar gradients than distant ones"
        rows.append(_answer(alike, f"{what} (Spearman {signed(correlation)} of cosine with distance)"))
    body = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="sub">{_text(first.process)} · u runs from 0 (clean) to 1 (noise)</p>',
        f'<p class="claim">Low-noise timesteps are harder: <b>{answer}</b></p>',
        f'<ul class="verdicts">{"".join(rows)}</ul>',
        _pictures(curves),
        "<h2>By interval</h2>",
        _table(curves),
        "<h2>How it was measured</h2>",
        _methods(curves),
        "<h2>Use it in a schedule</h2>",
        f"<pre>{_text(_snippet(curves))}</pre>",
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>\n"
    )


def _answer(yes: bool, text: str) -> str:
    word = "yes" if yes else "no"
    return f'<li><b class="{word}">{word}</b><span>{_text(text)}</span></li>'


def _pictures(curves: Mapping[str, DifficultyCurve]) -> str:
    """The figure twice, inline; the browser shows the one for its colour scheme."""
    light, dark = (
        "data:image/svg+xml;base64," + base64.b64encode(render(curves, theme, kind="svg", title="")).decode()
        for theme in (LIGHT, DARK)
    )
    return (
        f'<picture><source srcset="{dark}" media="(prefers-color-scheme: dark)">'
        f'<img src="{light}" alt="Difficulty by noise level, one panel per measurement"></picture>'
    )


def _table(curves: Mapping[str, DifficultyCurve]) -> str:
    """Mean difficulty in each interval of the coarsest curve, by every measurement."""
    edges = min((curve.u for curve in curves.values()), key=len)
    if len(edges) > 51:
        edges = tuple(k / 10 for k in range(11))
    units = "".join(
        f"<th>{_text(NAMES[name])}<small>{_text(curve.meta.get('unit', ''))}</small></th>"
        for name, curve in curves.items()
    )
    lines = [
        f"<tr><td>{low:.2f} – {high:.2f}</td>"
        + "".join(f"<td>{_number(curve.mean_over(low, high))}</td>" for curve in curves.values())
        + "</tr>"
        for low, high in itertools.pairwise(edges)
    ]
    return f'<div class="scroll"><table><tr><th>u</th>{units}</tr>{"".join(lines)}</table></div>'


def _methods(curves: Mapping[str, DifficultyCurve]) -> str:
    entries = [
        (
            "yes",
            "a rank correlation between u and difficulty of at most −0.7, in every seed, and a cleanest "
            "fifth of u harder than the noisiest by more than two standard errors and by at least 5%.",
        )
    ]
    for name, curve in curves.items():
        meta = curve.meta
        parts = [f"{meta['unit']}"] if "unit" in meta else []
        if "samples" in meta:
            counts = ", ".join(f"{kind} at {len(at)}" for kind, at in meta["estimator"].items())
            parts.append(f"Monte Carlo, {meta['samples']:,} samples; estimator by timesteps: {counts}")
        elif "method" in meta:
            parts.append(meta["method"])
        if "points" in meta:
            parts.append(f"measured at {len(meta['points'])} points of training")
        if meta.get("at_least"):
            parts.append(f"lower bounds in intervals {', '.join(map(str, meta['at_least']))}")
        if meta.get("did_not_fall"):
            parts.append(f"no decrease in intervals {', '.join(map(str, meta['did_not_fall']))}")
        if "seeds" in meta:
            parts.append(f"seeds {', '.join(map(str, meta['seeds']))}")
        entries.append((NAMES[name], "; ".join(parts) + "."))
    return "<dl>" + "".join(f"<dt>{_text(a)}</dt><dd>{_text(b)}</dd>" for a, b in entries) + "</dl>"


def _snippet(curves: Mapping[str, DifficultyCurve]) -> str:
    name = next(
        (name for name in ("relative_entropy", "convergence", "loss", "gradient") if name in curves), ""
    )
    if not name:
        return "order: {by: noise_level, direction: easy_to_hard}"
    return f"clusters: {{by: {name}, difficulty: {name}.json, count: 20}}"


def _number(value: float) -> str:
    """Three figures; small ones as 4.2·10⁻⁵."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:.3g}".replace("-", "−")
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{digits}·10<sup>{int(power)}</sup>".replace("-", "−")


def _text(value: str) -> str:
    return html.escape(value)
