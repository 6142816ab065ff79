"""The files of a run that plots need; those that are missing or unreadable are left out."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curriculum_ray.config import ConfigError, load_yaml, parse
from curriculum_ray.config.plain_yaml import read_own_json
from curriculum_ray.config.regular import read_regular
from curriculum_ray.runs.folder import CONFIG_FILE, SAMPLED_FILE, SAMPLES_FILE
from curriculum_ray.runs.log import LoggedLine, logged

if TYPE_CHECKING:
    from curriculum_ray.runs.config import RunConfig
    from curriculum_ray.runs.result import Measured
    from tuning.evidence.records import TrialRecord

__all__ = ["ActiveSet", "RunFiles", "active_set", "read_config", "read_run"]


@dataclass(frozen=True)
class ActiveSet:
    """The density over u that a schedule asked for, stage by stage."""

    edges: list[float]
    """The edges of the columns in u, from 0 (clean) to 1 (noise): clusters, or finer where the base changes."""
    starts: list[int]
    """Images at which each row starts, and at the end of the run."""
    densities: list[list[float]]
    """A row per stage, or per piece of one where the base changes, and a column per interval of u; 1 is uniform."""
    clusters: list[float]
    """The N + 1 edges of the clusters."""
    importance: bool = False
    """Whether importance sampling also changed these densities, by losses that are not in the settings."""


@dataclass(frozen=True)
class RunFiles:
    """A run's curves and pictures."""

    record: TrialRecord
    sampled: dict[str, Any] | None = None
    """sampled_timesteps.json."""
    log: list[LoggedLine] = field(default_factory=list)
    """Lines of metrics.jsonl."""
    samples: bytes | None = None
    """samples.png."""
    active: ActiveSet | None = None

    @property
    def stage_starts(self) -> list[int]:
        """Images at which the stages after the first started."""
        return [images for images, _ in self.record.stage_starts[1:]]


def read_run(record: TrialRecord) -> RunFiles:
    """Read the files in the folder of a finished run."""
    folder = record.folder
    if folder is None:
        return RunFiles(record=record)
    samples = folder / SAMPLES_FILE
    return RunFiles(
        record=record,
        sampled=_json(folder / SAMPLED_FILE),
        log=logged(folder),
        samples=samples.read_bytes() if samples.is_file() else None,
        active=active_set(record, folder / CONFIG_FILE),
    )


def read_config(folder: Path) -> RunConfig | None:
    """Read the settings of the run in `folder`."""
    from curriculum_ray.runs.config import RunConfig

    file = folder / CONFIG_FILE
    try:
        return parse(RunConfig, load_yaml(file), str(file)) if file.is_file() else None
    except ConfigError:
        return None


def active_set(record: Measured, config: Path) -> ActiveSet | None:
    """Compute the active set of a run from its settings and its stages; None where they are not known."""
    import torch

    from curriculum_ray.curriculum import Changing, NoImportance
    from curriculum_ray.curriculum.stage_draws import StageDraws
    from curriculum_ray.diffusion import build_process

    run = read_config(config.parent)
    if not record.stage_starts or run is None:
        return None
    schedule = run.schedule
    try:
        draws = StageDraws(schedule, build_process(run.process).levels, run.total_images)
    except ConfigError:  # e.g. a difficulty file that is gone
        return None
    edges = torch.tensor(draws.edges, dtype=torch.float64)
    columns = edges
    if isinstance(schedule.base, Changing):
        columns = torch.cat([edges, torch.linspace(0, 1, 61, dtype=torch.float64)]).unique()
    stages, end = dict(record.stage_starts), record.images
    begun = sorted({*stages, *(turn for turn in draws.turns() if min(stages) < turn < end)})
    rows, stage = [], 0
    for images, following in itertools.pairwise([*begun, end]):
        stage = stages.get(images, stage)
        draws.aim_at(stage)
        # In the middle of a piece of a blend.
        rows.append(draws.density(columns, (images + following) // 2).tolist())
    importance = schedule.importance != NoImportance()
    return ActiveSet(columns.tolist(), [*begun, end], rows, draws.edges, importance)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        data = read_own_json(read_regular(path))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
