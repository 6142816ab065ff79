"""How well an early look ranks the final FID: the held-out loss at a quarter of the budget beside the FID there.

    python benchmarks/rank_by_map.py                       # runs a study of random schedules first; again = goes on
    python benchmarks/rank_by_map.py --space wide
    python benchmarks/rank_by_map.py runs/one runs/other   # of studies that are there

Spearman's rank correlation with the final FID over trials of one protocol and one seed each, of

  heldout_quarter   the mean held-out loss at a quarter of the budget
  fid_quarter       the FID of the preview there, of 1,000 samples
  heldout_end       the mean held-out loss at the end
  training_end      the training loss at the end, of other noise levels for each schedule: what people look at

with 95% intervals by Fisher's z and the variance of Bonett & Wright (2000), (1 + rho²/2) / (n - 3), and the difference
heldout_quarter - fid_quarter with its percentile interval over 10,000 bootstrap samples of the trials. Beside them the
means by the direction of the order, which decides what a curriculum has not seen at a quarter. Confirmations and runs
at smaller budgets do not count. A control that was run with the search's seed does. The last line is JSON.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.stats import spearmanr

from curriculum_ray.config import ConfigError
from tuning.evidence.heldout import as_history
from tuning.evidence.previews import curve
from tuning.evidence.records import TrialRecord, load_records

LEAST = 30
# Steps of 128 images: nine log intervals of ten steps lie nearest to a quarter of the default 350.
LOOK = 90 * 128
SETTINGS = {
    "confirm_top": 0,
    "run.log_every_images": LOOK,
    "run.preview.every_images": LOOK,
    "run.preview.num_samples": 1000,
    "run.heldout.every_images": LOOK // 2,
}
EARLY = ("heldout_quarter", "fid_quarter", "heldout_end", "training_end")


def run_study(output: Path, space: str, trials: int, seed: int) -> Path:
    """Search at random, without confirmations; returns the study's folder."""
    name = f"rank-{space}-seed{seed}"
    command = [sys.executable, "-m", "tune", "search", "--output", str(output), "--name", name]
    command += ["--space", space, "--sampler", "random", "--trials", str(trials), "--seed", str(seed)]
    command += [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    if code := subprocess.run(command).returncode:
        sys.exit(code)
    return output / name


def near_quarter(history: Sequence[tuple[int, float]], images: int) -> float | None:
    """The value measured nearest to a quarter of the budget, if that is between 0.2 and 0.3 of it."""
    near = min(history, key=lambda point: abs(point[0] - images / 4), default=None)
    return near[1] if near is not None and 0.2 <= near[0] / images <= 0.3 else None


def rows(folders: Sequence[Path]) -> tuple[list[dict[str, Any]], int]:
    """Each arm's early looks and final FID, and how many trials lack one; ConfigError under two protocols.

    Trials of one arm and seed train alike, and count once.
    """
    found, lacking, prints, known = [], 0, set(), set()
    for folder in folders:
        for record in load_records(folder).values():
            if record.role not in ("searched", "control") or record.status != "finished":
                continue
            arm = (record.arm_id, record.seed)
            if arm in known:
                continue
            known.add(arm)
            row = look(record)
            if row is None:
                lacking += 1
                continue
            found.append(row)
            assert record.heldout is not None
            prints.add((record.fingerprint, record.heldout.fingerprint, record.images))
    if len(prints) > 1:
        raise ConfigError(f"the trials must share one protocol and budget, but have {len(prints)}")
    return found, lacking


def look(record: TrialRecord) -> dict[str, Any] | None:
    """What one trial showed early, and its final FID; None where something was not measured."""
    images = record.images
    held = [(seen, metrics["heldout_loss"]) for seen, metrics in as_history(record)]
    early, fid = near_quarter(held, images), near_quarter(curve(record.history, "fid"), images)
    if early is None or fid is None or held[-1][0] != images:
        return None
    return {
        "heldout_quarter": early,
        "fid_quarter": fid,
        "heldout_end": held[-1][1],
        "training_end": record.metrics["loss"],
        "fid": record.metrics["fid"],
        "order": record.order,
    }


def correlation(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Spearman's rho with its 95% interval."""
    rho = float(spearmanr(x, y).statistic)
    half = 1.96 * math.sqrt((1 + rho**2 / 2) / (len(x) - 3))
    z = math.atanh(min(max(rho, -1 + 1e-12), 1 - 1e-12))
    return {"rho": rho, "low": math.tanh(z - half), "high": math.tanh(z + half)}


def difference(table: Mapping[str, np.ndarray], resamples: int = 10_000) -> dict[str, float]:
    """rho(heldout_quarter) - rho(fid_quarter), both with the final FID, over the same trials."""
    held, fid, final = table["heldout_quarter"], table["fid_quarter"], table["fid"]

    def minus(chosen: np.ndarray) -> float:
        first, second = (spearmanr(early[chosen], final[chosen]).statistic for early in (held, fid))
        return float(first - second)

    source = np.random.default_rng(0)
    seen = [minus(source.integers(len(final), size=len(final))) for _ in range(resamples)]
    low, high = np.nanquantile(seen, [0.025, 0.975])
    return {"rho": minus(np.arange(len(final))), "low": float(low), "high": float(high)}


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--space", default="default", show_default=True, help="Space of the study that is run.")
@click.option("--trials", default=LEAST, show_default=True, help="Random schedules in it.")
@click.option("--seed", default=0, show_default=True, help="Its seed.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs"), show_default=True)
@click.option("--least", default=LEAST, show_default=True, help="Refuse to judge by fewer trials.")
def main(folders: tuple[Path, ...], space: str, trials: int, seed: int, output: Path, least: int) -> None:
    try:
        found, lacking = rows(folders or [run_study(output, space, trials, seed)])
        if len(found) < max(4, least):
            raise ConfigError(
                f"there must be at least {max(4, least)} trials with a preview and a held-out loss at a quarter of the "
                f"budget, but there are {len(found)}, and {lacking} without"
            )
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    table = {key: np.array([row[key] for row in found]) for key in (*EARLY, "fid")}
    results: dict[str, Any] = {"n": len(found), "lacking": lacking}
    print(f"rank correlation with the final FID over {len(found)} trials, {lacking} more lack a look")
    for early in EARLY:
        results[early] = correlation(table[early], table["fid"])
    results["difference"] = difference(table)
    for name, value in results.items():
        if isinstance(value, dict):
            print(f"  {name:16} {value['rho']:6.2f} [{value['low']:.2f}, {value['high']:.2f}]")
    results["by_order"] = {}
    print(f"  {'means by order':16} {'n':>3} " + "".join(f"{name:>17}" for name in table))
    for order in sorted({row["order"] for row in found}):
        chosen = np.array([row["order"] == order for row in found])
        means = {name: round(float(values[chosen].mean()), 4) for name, values in table.items()}
        results["by_order"][order] = {"n": int(chosen.sum()), **means}
        print(f"  {order:16} {chosen.sum():3} " + "".join(f"{mean:17.3f}" for mean in means.values()))
    spread = np.quantile(table["fid"], [0, 0.5, 1])
    results["fid"] = [round(float(value), 3) for value in spread]
    print(f"  final FID: {spread[0]:.2f} at best, {spread[1]:.2f} in the middle, {spread[2]:.2f} at worst")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
