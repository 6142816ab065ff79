"""`python -m tune compare`: two runs side by side."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuning.cli.options import example, folder_of_store, shared
from tuning.cli.output import json_text

if TYPE_CHECKING:
    from tuning.evidence.heldout import LevelGain
    from tuning.tracking.compare import RunComparison

__all__ = ["compare"]


@click.command(
    short_help="Show two runs side by side.",
    epilog=example("python -m tune compare runs/study/trials/search-000 control-uniform"),
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@shared("output_or_bucket", "mlflow_uri", "json")
def compare(first: str, second: str, output: Path | str, mlflow_uri: str | None, as_json: bool) -> int:
    """Show two runs side by side: the settings that differ, metrics, stages, and previews.

    A and B are each a run's folder, the key of a trial in the folder --output, or an MLflow run id. Metrics of
    different protocols are not compared, nor training losses where the runs draw or weigh noise levels differently.
    Held-out losses come last, their mean and at each noise level u (1 is noise), where both runs measured them alike.
    """
    from tuning.tracking.compare import compare as lay_beside
    from tuning.tracking.compare import find_run
    from tuning.tracking.leftovers import store_leftovers

    folder = folder_of_store(output, mlflow_uri)
    if folder is not None:
        store_leftovers(folder, mlflow_uri, lambda line: click.echo(line, err=True))

    found = lay_beside(find_run(first, folder, mlflow_uri), find_run(second, folder, mlflow_uri))
    click.echo(json_text(found.to_json(), indent=1) if as_json else "\n".join(_lines(found)))
    return 0


def _lines(found: RunComparison) -> list[str]:
    from tuning.evidence.metrics import count, metric_name, number
    from tuning.evidence.previews import curve

    a, b = found.a, found.b
    lines = [f"A  {a.name}  ({a.source})", f"B  {b.name}  ({b.source})", ""]
    lines += [
        f"{key:32} {_shown(left):>20} {_shown(right):>20}" for key, (left, right) in found.settings.items()
    ] or ["no setting differs"]
    lines.append("")
    if found.refusal is not None:
        lines.append(found.refusal)
    for key, values in found.metrics.items():
        lines.append(
            f"{metric_name(key):32} {number(values['a']):>20} {number(values['b']):>20}  {_gained(values['gain'])}"
        )
    for title, of_a, of_b in (
        ("images", a.images, b.images),
        ("stages walked", a.stages_walked, b.stages_walked),
        ("images in each stage", a.images_in_stage, b.images_in_stage),
    ):
        lines.append(f"{title:32} {_shown(of_a):>20} {_shown(of_b):>20}")
    if found.refusal is None and (a.history or b.history):
        values_a, values_b = (dict(curve(side.history, "fid")) for side in (a, b))
        for images in sorted({*values_a, *values_b}):
            left, right = number(values_a.get(images)), number(values_b.get(images))
            lines.append(f"{'preview FID after ' + count(images):32} {left:>20} {right:>20}")
    return [*lines, *_heldout(found.heldout)]


def _heldout(found: LevelGain | str | None) -> list[str]:
    """The mean held-out loss, then each noise level, the noisiest first as in plots."""
    from tuning.evidence.metrics import count, number

    if found is None or isinstance(found, str):
        return [found] if found else []
    names = [f"u = {u:.3f}" for u in found.u]
    rows = list(zip(names, found.a, found.b, found.gain, strict=True))
    rows.append((f"held-out loss after {count(found.images)}", found.mean_a, found.mean_b, found.mean_gain))
    return [
        f"{name:32} {number(a):>20} {number(b):>20}  {_gained(gained)}"
        for name, a, b, gained in reversed(rows)
    ]


def _gained(percent: float | None) -> str:
    """What B gains on A, as the end of a line; a dash where A is 0, of which nothing is a share.

    percent: None for training losses that cannot be compared.
    """
    if percent is None:
        return "not comparable: they draw or weigh noise levels differently"
    if not math.isfinite(percent):
        return "–"
    size = f"{abs(percent):.1f}%"
    return "equal" if size == "0.0%" else f"B {'better' if percent > 0 else 'worse'} by {size}"


def _shown(value: Any) -> str:
    return "–" if value is None or value == [] else value if isinstance(value, str) else json.dumps(value)
