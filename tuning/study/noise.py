"""How much the difference of two arms on one seed varies: from the confirmations of earlier studies."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tuning.evidence.records import TrialRecord
from tuning.evidence.scale import Scale
from tuning.folder.layout import RECORD_FILE, TRIALS

__all__ = ["Noise", "find_noise"]

# `make noise-floor`: 0.6 for two models of one seed, where FID is 7.
_MEASURED = {("digits", "fid"): 0.6 / 7}


@dataclass(frozen=True)
class Noise:
    """Standard deviation of a paired difference, as a share of uniform sampling's metric."""

    share: float
    """Of ratios, the deviation of their logarithm."""
    source: str


def find_noise(output: Path, data: str, fingerprint: str, metric: str) -> Noise | None:
    """The noise in the studies of this protocol under `output`, else the one measured for the data set, if any."""
    squares, freedom, controls, studies = 0.0, 0, list[float](), 0
    scale = Scale.of(metric)
    for folder in sorted(output.glob(f"*/{TRIALS}")):
        arms = _confirmed(folder, fingerprint, metric)
        uniform = arms.pop("uniform", {})
        before = freedom
        for values in arms.values():
            seeds = sorted(values.keys() & uniform.keys())
            ours, theirs = (scale.scores(arm[seed] for seed in seeds) for arm in (values, uniform))
            gaps = [beside - mine for mine, beside in zip(ours, theirs, strict=True)]
            if len(gaps) > 1:
                mean = fmean(gaps)
                squares += sum((gap - mean) ** 2 for gap in gaps)
                freedom += len(gaps) - 1
        if freedom > before:
            studies += 1
            controls += uniform.values()
    if squares and (control := 1.0 if scale.ratios else abs(fmean(controls))):
        found = f"{studies} stud{'y' if studies == 1 else 'ies'} in {output}"
        return Noise(math.sqrt(squares / freedom) / control, f"{found}, {freedom} degrees of freedom")
    share = _MEASURED.get((data, metric))
    return None if share is None else Noise(share, f"measured on the {data} at 44,800 images")


def _confirmed(folder: Path, fingerprint: str, metric: str) -> dict[str, dict[int, float]]:
    """The metric of a study's confirmations by arm and seed; uniform sampling's arm is "uniform"."""
    arms: dict[str, dict[int, float]] = defaultdict(dict)
    for path in sorted(folder.glob(f"confirm-*/{RECORD_FILE}")):
        record = TrialRecord.read(path)
        if record is None or record.fingerprint != fingerprint or record.status != "finished":
            continue
        value = record.metrics.get(metric, math.nan)
        if math.isfinite(value):
            arms["uniform" if record.control == "uniform" else record.arm_id][record.seed] = value
    return arms
