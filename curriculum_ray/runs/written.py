"""The files of a run that are written whole or added to beside its training: settings, sampled noise levels, what was
skipped.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from curriculum_ray.config.plain_yaml import write_yaml
from curriculum_ray.files import replace_file
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.folder import CONFIG_FILE, CORRUPT_FILE, SAMPLED_FILE, SCHEDULE_FILE
from curriculum_ray.training.exchange import Exchange
from curriculum_ray.training.stages import Walked
from curriculum_ray.training.trainer import Trainer

__all__ = ["gather_corrupt", "note_corrupt", "read_corrupt", "write_files", "write_sampled"]

_noted: dict[Path, list[str]] = {}
"""Corrupt images that this process has noted and not handed to rank 0, by the folder of their run.

The list in a folder will not do: on another node that is a working copy, which may hold the list of an earlier run."""


def write_files(folder: Path, config: RunConfig) -> None:
    """Write config.yaml and schedule.yaml, which reproduce the run."""
    folder.mkdir(parents=True, exist_ok=True)
    text = write_yaml(config.model_dump(mode="json"), flow=False)
    replace_file(folder / CONFIG_FILE, text)
    replace_file(folder / SCHEDULE_FILE, config.schedule.to_yaml())


def note_corrupt(folder: Path, names: list[str]) -> None:
    """Add skipped corrupt images to the run's list, each once over all ranks and resumes; see `gather_corrupt`."""
    _noted.setdefault(folder, []).extend(names)
    _list_corrupt(folder, names)


def gather_corrupt(folder: Path, exchange: Exchange) -> None:
    """Add to rank 0's list what the other ranks noted, whose folders may lie on other nodes.

    Every rank must call it; only rank 0 waits, and without a collective.
    """
    gathered = exchange.gather(json.dumps(_noted.pop(folder, [])).encode())
    if names := [name for noted in gathered or () for name in json.loads(noted)]:
        _list_corrupt(folder, names)


def _list_corrupt(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    known = read_corrupt(folder)
    with open(folder / CORRUPT_FILE, "a") as file:
        file.write("".join(f"{name}\n" for name in dict.fromkeys(names) if name not in known))


def read_corrupt(folder: Path) -> list[str]:
    """Names of the images that were skipped as corrupt, as `note_corrupt` wrote them."""
    path = folder / CORRUPT_FILE
    return path.read_text().splitlines() if path.exists() else []


def write_sampled(folder: Path, trainer: Trainer, walked: Walked) -> None:
    """Write the histogram of sampled noise levels, and the stages."""
    stages = {
        "stage_starts": trainer.stage_starts,
        "num_stages": trainer.sampler.num_stages,
        **asdict(walked),
    }
    replace_file(folder / SAMPLED_FILE, json.dumps({**trainer.histogram.as_json(), **stages}))
