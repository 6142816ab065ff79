"""Trial records as people read them: metrics and their directions, schedules in words, records by schedule.

A record is a dictionary: trial, key, name, role (searched, control, confirmation), control (None, uniform,
reversed, random), seed, schedule, schedule_id, images, metrics, fingerprint, status, seconds, folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import shown

__all__ = [
    "DIRECTIONS",
    "Arm",
    "arm_id_of",
    "arms",
    "count",
    "describe",
    "direction",
    "gain",
    "metric_name",
    "number",
    "side_by_side",
    "walked",
]

DIRECTIONS: dict[str, Literal["min", "max"]] = {
    "fid": "min",
    "kid": "min",
    "precision": "max",
    "recall": "max",
    "loss": "min",
}
"""Whether a smaller or a larger value of a metric is better."""

Record = Mapping[str, Any]


def direction(metric: str) -> Literal["min", "max"]:
    """Return whether a smaller or a larger `metric` is better; an unknown one raises `ConfigError`."""
    if metric not in DIRECTIONS:
        raise ConfigError(f"metric must be one of {', '.join(DIRECTIONS)}, but got {metric!r}")
    return DIRECTIONS[metric]


def metric_name(metric: str) -> str:
    """Return the metric as written in tables: FID and KID are abbreviations."""
    return metric.upper() if metric in ("fid", "kid") else metric


def describe(record: Record) -> str:
    """Say the record's schedule in words."""
    if record.get("control") == "uniform":
        return "uniform sampling"
    if "description" in record:
        return str(record["description"])
    from curriculum_ray.curriculum import CurriculumSchedule

    return CurriculumSchedule.from_dict(record["schedule"], f"trial {record['key']}").describe()


def count(images: float) -> str:
    """Write a number of images briefly: 640, 77k, 1.2M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if images >= size:
            value = images / size
            return f"{value:.0f}{letter}" if value >= 10 else f"{value:.3g}{letter}"
    return f"{images:.0f}"


def number(value: float | None) -> str:
    """Write a metric with about three figures; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    for least, decimals in ((100, 1), (1, 2), (0.1, 3)):
        if abs(value) >= least:
            return f"{value:.{decimals}f}"
    return f"{value:.3g}"


@dataclass
class Arm:
    """All finished runs that train alike but for the seed."""

    arm_id: str
    name: str
    """The schedule in words; "uniform sampling" for the control."""
    control: str | None
    searched: list[Record] = field(default_factory=list)
    """Runs of the search, controls among them."""
    confirmed: list[Record] = field(default_factory=list)
    """Runs on fresh seeds."""

    def search_value(self, metric: str) -> float | None:
        """The mean over the search's runs."""
        return _mean(self.searched, metric)

    def confirmed_value(self, metric: str) -> float | None:
        """The mean over the fresh seeds."""
        return _mean(self.confirmed, metric)

    def by_seed(self, metric: str) -> dict[int, float]:
        """The metric of each fresh seed."""
        return {
            int(record["seed"]): record["metrics"][metric] for record in _measured(self.confirmed, metric)
        }

    @property
    def records(self) -> list[Record]:
        """All runs, those of the search first."""
        return self.searched + self.confirmed

    @property
    def stages(self) -> str:
        """How much of its ladder the arm walked, the fewest stages of its runs: "8/8"; a dash where not recorded."""
        runs = [record for record in self.records if "stages_asked" in record]
        if not runs:
            return "–"
        least = min(runs, key=lambda record: record["stages_walked"] / record["stages_asked"])
        return walked(least)

    @property
    def is_uniform(self) -> bool:
        """Whether this is the control without a curriculum."""
        return self.control == "uniform"

    @property
    def is_rival(self) -> bool:
        """Whether this is a one-line rival: no curriculum, but e.g. another weighting of the loss."""
        return self.control == "rival"

    @property
    def has_curriculum(self) -> bool:
        """Whether this is a schedule rather than a control without one."""
        return not self.is_uniform and not self.is_rival


def arms(records: Iterable[Record], metric: str) -> list[Arm]:
    """Group finished records that hold `metric` by schedule, the best first.

    Schedules with fresh seeds come first, by the mean over them: the search's own runs flatter what it chose.
    ConfigError where the records are of several protocols, whose numbers do not compare.
    """
    result: dict[str, Arm] = {}
    measured = _measured(records, metric)
    _check_one_protocol(measured)
    plain = {arm_id_of(record) for record in measured if record.get("control") == "uniform"}
    for record in measured:
        arm_id = arm_id_of(record)
        # A searched schedule that draws as uniform sampling does is uniform sampling.
        control = "uniform" if arm_id in plain else record.get("control")
        key = "uniform" if control == "uniform" else arm_id
        if key not in result:
            result[key] = Arm(arm_id, describe({**record, "control": control}), control)
        arm = result[key]
        arm.control = arm.control or control
        (arm.confirmed if record["role"] == "confirmation" else arm.searched).append(record)
    sign = 1 if direction(metric) == "min" else -1

    def rank(arm: Arm) -> tuple[bool, float, int]:
        confirmed = arm.confirmed_value(metric)
        value = arm.search_value(metric) if confirmed is None else confirmed
        assert value is not None
        return confirmed is None, sign * value, min(int(record["images"]) for record in arm.records)

    return sorted(result.values(), key=rank)


def side_by_side(arm: Arm, uniform: Arm | None, metric: str) -> tuple[float, float | None, int]:
    """Return the means of the arm and of uniform sampling, and the number of seeds behind the first.

    Both are means over fresh seeds if the arm has them, else over the search's; over the seeds that both
    have, if there are any. The second is None without such runs of uniform sampling.
    """

    def by_seed(records: list[Record]) -> dict[int, float]:
        return {int(record["seed"]): record["metrics"][metric] for record in records}

    ours = by_seed(arm.confirmed or arm.searched)
    theirs = {} if uniform is None else by_seed(uniform.confirmed if arm.confirmed else uniform.searched)
    if shared := ours.keys() & theirs.keys():
        ours, theirs = ({seed: values[seed] for seed in sorted(shared)} for values in (ours, theirs))
    return fmean(ours.values()), fmean(theirs.values()) if theirs else None, len(ours)


def gain(value: float, uniform: float, metric: str) -> float:
    """Return by how many percent of `uniform` the value is better (positive) or worse than it."""
    sign = 1 if direction(metric) == "min" else -1
    return 100 * sign * (uniform - value) / abs(uniform) if uniform else math.nan


def _check_one_protocol(records: list[Record]) -> None:
    first: dict[str | None, Record] = {}
    for record in records:
        first.setdefault(record.get("fingerprint"), record)
    if len(first) > 1:
        each = ", ".join(f"{shown(name)} (e.g. trial {record['key']})" for name, record in first.items())
        raise ConfigError(f"trials of one table must have one fingerprint, but have {len(first)}: {each}")


def _measured(records: Iterable[Record], metric: str) -> list[Record]:
    return [
        record
        for record in records
        # A run at a smaller budget is no match for one at the full one.
        if record["status"] == "finished"
        and record["role"] != "rung"
        and math.isfinite(record["metrics"].get(metric, math.nan))
    ]


def arm_id_of(record: Record) -> str:
    """What the records of one arm share: they train alike but for the seed."""
    return str(record.get("arm_id", record["schedule_id"]))


def walked(record: Record) -> str:
    """How many stages the record's run walked of those asked for: "8/8"; a dash where that was not recorded."""
    return f"{record['stages_walked']}/{record['stages_asked']}" if "stages_asked" in record else "–"


def _mean(records: list[Record], metric: str) -> float | None:
    return fmean(record["metrics"][metric] for record in records) if records else None
