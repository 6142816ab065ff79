"""What a run left in its folder, as the plots need it; a file that is missing or unreadable is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curriculum_ray.config import ConfigError, load_yaml, parse
from curriculum_ray.distributed.log import logged

if TYPE_CHECKING:
    from curriculum_ray.distributed.config import RunConfig

__all__ = ["ActiveSet", "Run", "active_set", "read_config", "read_run"]


@dataclass(frozen=True)
class ActiveSet:
    """The density over u that a schedule asked for, stage by stage."""

    edges: list[float]
    """The N + 1 edges of the clusters in u, from 0 (clean) to 1 (noise)."""
    starts: list[int]
    """Images at which each stage began, and the end of the run."""
    densities: list[list[float]]
    """A row per stage, a column per cluster; 1 is the density of uniform sampling."""


@dataclass(frozen=True)
class Run:
    """A run's curves and pictures."""

    record: Mapping[str, Any]
    sampled: dict[str, Any] | None = None
    """sampled_timesteps.json."""
    log: list[dict[str, Any]] = field(default_factory=list)
    """Lines of metrics.jsonl."""
    samples: bytes | None = None
    """samples.png."""
    active: ActiveSet | None = None

    @property
    def stage_starts(self) -> list[int]:
        """Images at which the stages after the first began."""
        return [int(images) for images, _ in (self.record.get("stage_starts") or [])[1:]]


def read_run(record: Mapping[str, Any]) -> Run:
    """Read what the folder of a finished run holds."""
    folder = Path(record.get("folder") or "/nonexistent")
    samples = folder / "samples.png"
    return Run(
        record=record,
        sampled=_json(folder / "sampled_timesteps.json"),
        log=logged(folder),
        samples=samples.read_bytes() if samples.is_file() else None,
        active=active_set(record, folder / "config.yaml"),
    )


def read_config(folder: Path) -> RunConfig | None:
    """Read the settings of the run in `folder`."""
    from curriculum_ray.distributed.config import RunConfig

    file = folder / "config.yaml"
    try:
        return parse(RunConfig, load_yaml(file), str(file)) if file.is_file() else None
    except ConfigError:
        return None


def active_set(record: Mapping[str, Any], config: Path) -> ActiveSet | None:
    """Work out the active set of a run from its settings and its stages; None where they are not known."""
    from curriculum_ray.curriculum import cluster_edges, join_order
    from curriculum_ray.diffusion import build_process

    starts = record.get("stage_starts")
    run = read_config(config.parent)
    if not starts or run is None:
        return None
    schedule = run.schedule
    try:
        levels = build_process(run.process).levels
        edges = cluster_edges(schedule.clusters, schedule.base, levels)
        order = join_order(schedule.order, edges, schedule.base, levels)
    except ConfigError:  # a difficulty file that is gone by now
        return None
    widths = edges.diff().tolist()
    rows = []
    for _, stage in starts:
        row = [1.0] * len(widths) if schedule.pacing is None else schedule.active.densities(order, int(stage))
        mass = sum(density * width for density, width in zip(row, widths, strict=True))
        rows.append([density / mass for density in row])
    return ActiveSet(edges.tolist(), [*(int(images) for images, _ in starts), int(record["images"])], rows)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
