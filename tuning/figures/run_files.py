"""The files of a run that plots need; those that are missing are left out, and those that are damaged too, in words."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from curriculum_ray.config import ConfigError, load_yaml, parse
from curriculum_ray.config.regular import read_regular
from curriculum_ray.runs.folder import CONFIG_FILE, SAMPLED_FILE, SAMPLES_FILE
from curriculum_ray.runs.log import LoggedLine, lines_of, log_of
from curriculum_ray.runs.sampled_file import SampledLevels, read_sampled
from curriculum_ray.words import number_of

if TYPE_CHECKING:
    from curriculum_ray.runs.config import RunConfig
    from curriculum_ray.runs.result import Measured
    from tuning.evidence.records import TrialRecord

__all__ = ["ActiveSet", "RunFiles", "active_set", "read_config", "read_run"]

_LOG = logging.getLogger(__name__)


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
    sampled: SampledLevels | None = None
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
    return RunFiles(
        record=record,
        sampled=read_sampled(folder / SAMPLED_FILE),
        log=_log(log_of(folder)),
        samples=_content(folder / SAMPLES_FILE),
        active=active_set(record, folder / CONFIG_FILE),
    )


def read_config(folder: Path) -> RunConfig | None:
    """Read the settings of the run in `folder`."""
    from curriculum_ray.runs.config import RunConfig

    file = folder / CONFIG_FILE
    try:
        return parse(RunConfig, load_yaml(file), str(file)) if file.is_file() else None
    except ConfigError as error:
        _LOG.warning("the settings of a run are left out: %s", error)
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


def _log(path: Path) -> list[LoggedLine]:
    """The lines of a log in order; of the damaged ones only their number is logged."""
    text = (_content(path) or b"").decode(errors="replace")
    lines = lines_of(text)
    if damaged := len(text.splitlines()) - len(lines):
        _LOG.warning("%s of %s cannot be read: left out", number_of(damaged, "line"), path)
    return lines


def _content(path: Path) -> bytes | None:
    """The content of a file; None where there is none or, as is logged, one that cannot be read."""
    try:
        return read_regular(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        _LOG.warning("%s is left out: %s", path, error.strerror)
        return None
