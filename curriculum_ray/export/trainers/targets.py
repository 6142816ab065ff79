"""The trainers that a schedule can be exported for, and what each of them counts as a noise level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from curriculum_ray.export.trainers.ai_toolkit import ai_toolkit_files
from curriculum_ray.export.trainers.kohya import TIMESTEPS, kohya_files
from curriculum_ray.export.trainers.plan import Plan
from curriculum_ray.export.trainers.python_file import diffusers_file, torchtitan_file

__all__ = ["TARGETS", "Target", "schedule_files"]

Kind = Literal["timesteps", "flow"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A trainer."""

    kinds: tuple[Kind, ...]
    """The noise levels that it can train on; the first one is the default."""
    write: Callable[[Plan], str | dict[str, str]]
    """The text of the one file that it reads, or those of several by name."""
    num_timesteps: int | None = None
    """T, where the trainer leaves no choice."""


TARGETS: dict[str, Target] = {
    "kohya": Target(kinds=("timesteps", "flow"), write=kohya_files, num_timesteps=TIMESTEPS),
    "diffusers": Target(kinds=("timesteps", "flow"), write=diffusers_file),
    "torchtitan": Target(kinds=("flow",), write=torchtitan_file),
    "ai-toolkit": Target(kinds=("flow",), write=ai_toolkit_files),
}
"""By the name that `export-schedule --to` takes."""


def schedule_files(plan: Plan, target: str) -> str | dict[str, str]:
    """The text of the one file that `target` reads, or those of several by name, in the order of their use.

    Raises `ConfigError` naming key and value where the trainer cannot draw what `plan` does.
    """
    return TARGETS[target].write(plan)
