"""A schedule as a Python file of its own, which needs torch alone: for trainers whose draw is one line of a script.

Read in huggingface/diffusers:

- `examples/text_to_image/train_text_to_image.py` at 024c437 draws `torch.randint(0, num_train_timesteps)`, 0 is clean.
- `examples/dreambooth/train_dreambooth_lora_flux.py` at 0050dea draws u by `compute_density_for_timestep_sampling`
  (`src/diffusers/training_utils.py` at 0623b18); u·T is an index into `scheduler.timesteps`, which fall from noise.
- `src/diffusers/schedulers/scheduling_flow_match_euler_discrete.py`: `FlowMatchEulerDiscreteScheduler` has moved these
  timesteps by its `shift` s already, t -> s·t / (1 + (s-1)·t), unless `use_dynamic_shifting` leaves that to inference.

Read in pytorch/torchtitan at b5bcd76: `FluxTrainer` of `torchtitan/models/flux/trainer.py` draws `torch.rand((bsz,))`,
1 is noise, while `self.step` is 1 in the first step (`torchtitan/trainer.py`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum.base.core import FixedBase, TimeQuantile
from curriculum_ray.curriculum.cells import boundaries
from curriculum_ray.export.trainers.plan import Interval, Plan
from curriculum_ray.export.trainers.quantiles import flow_quantile

__all__ = ["diffusers_file", "torchtitan_file"]

_WIDTH = 100

_HEAD = '''"""The noise levels of a timestep curriculum, drawn by torch alone.

{use}
"""

{origin}

from __future__ import annotations

{imports}

import torch
from torch import Tensor

__all__ = [{public}]

# fmt: off
# Optimizer steps that are done when each stage begins; the last stage never ends.
STARTS = {starts}
# (low, high, share) of each stage: u in [low, high), 1 is noise, gets this share of the draws.
STAGES = {stages}
# fmt: on


def draw_u(batch_size: int, step: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw u in [0, 1), 1 is noise, float64 (batch_size,) on the CPU: stratified over the batch.

    step: optimizer steps that are done, 0 in the first one. generator: of the CPU; default torch's own.
    """
    if step < 0:
        raise ValueError(f"step must be at least 0, but got {{step}}")
    stage = STAGES[bisect.bisect_right(STARTS, step) - 1]
    low, high, share = torch.tensor(stage, dtype=torch.float64, device="cpu").unbind(1)
    offset = torch.rand((), dtype=torch.float64, generator=generator, device="cpu")
    places = torch.arange(batch_size, dtype=torch.float64, device="cpu") / batch_size
    places = (places + offset).frac()
    ends = share.cumsum(0)
    index = torch.searchsorted(ends[:-1].contiguous(), places, right=True)
    inside = (places - (ends - share)[index]) / share[index]
    u = low[index] + inside.clamp(0, 1) * (high - low)[index]
    return torch.minimum(u, torch.nextafter(high, low)[index])
'''

_FORMULA = '''

def quantile(u: Tensor) -> Tensor:
    """Map u in [0, 1), float64 of any shape, to times in [0, 1]; 1 is noise in both."""
{body}
'''

_TABLE = """
# fmt: off
# Timestep t is drawn where u lies from the border before it to the one of its own number.
BORDERS = {borders}
# fmt: on
"""

_WEIGHTS = """
# fmt: off
# What the loss of each timestep is to be multiplied by.
WEIGHTS = {weights}
# fmt: on
"""

_TIMESTEPS = '''

class CurriculumTimesteps:
    """Timesteps 0 (clean) to {last} (noise) of {count}, by optimizer step.

    generator: of the CPU; default torch's own.
    """

    num_timesteps = {count}

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def sample(self, batch_size: int, step: int, device: torch.device | str = "cpu") -> Tensor:
        """Draw timesteps, long (batch_size,); step: optimizer steps that are done, 0 in the first one."""
        u = draw_u(batch_size, step, self.generator)
{draw}
'''

_BY_FORMULA = "        return (quantile(u) * {count}).long().clamp(0, {last}).to(device)"
_BY_TABLE = """        borders = torch.tensor(BORDERS, dtype=u.dtype, device=u.device)
        return torch.searchsorted(borders, u, right=True).to(device)"""

_WEIGHING = '''
    def weights(self, timesteps: Tensor) -> Tensor:
        """What each loss is to be multiplied by, before the mean, float32 (batch_size,)."""
        return torch.tensor(WEIGHTS, dtype=torch.float32, device=timesteps.device)[timesteps]
'''

_FLOW_CLASS = '''

class CurriculumTimes:
    """Flow times in [0, 1], 1 is noise, by optimizer step.

    generator: of the CPU; default torch's own.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def sample(self, batch_size: int, step: int, device: torch.device | str = "cpu") -> Tensor:
        """Draw times in [0, 1], 1 is noise, float32 (batch_size,).

        step: optimizer steps that are done, 0 in the first one.
        """
        return quantile(draw_u(batch_size, step, self.generator)).float().to(device)

    def density(self, batch_size: int, step: int, shift: float = 1.0) -> Tensor:
        """Draw u of diffusers' flow scripts, in which 0 is noise, float32 (batch_size,) in [0, 1).

        shift: s > 0, by which the scheduler has moved its timesteps, undone here: its `config.shift`,
        or 1 with `use_dynamic_shifting`, which moves none of them in training.
        """
        t = quantile(draw_u(batch_size, step, self.generator))
        u = 1 - t / (shift - (shift - 1) * t)
        return u.float().clamp(0, 1 - 2**-24)
'''

_FLOW_FUNCTION = '''

def curriculum_times(batch_size: int, step: int, device: torch.device | str = "cpu") -> Tensor:
    """Draw flow times in [0, 1], 1 is noise, float32 (batch_size,).

    step: torchtitan's `self.step`, 1 in the first one.
    """
    return quantile(draw_u(batch_size, step - 1)).float().to(device)
'''

_USE_TIMESTEPS = """In place of `torch.randint(0, {count}, (batch_size,), device=device)` in a script of diffusers:

    levels = CurriculumTimesteps()
    timesteps = levels.sample(batch_size, global_step, device)"""

_USE_WEIGHTS = """

and, since this distribution weighs its losses, of shape (batch_size,) before the mean:

    loss = losses * levels.weights(timesteps)"""

_USE_FLOW = """In place of `compute_density_for_timestep_sampling(...)` in a flow-matching script of diffusers:

    levels = CurriculumTimes()
    config = noise_scheduler.config
    shift = 1.0 if config.use_dynamic_shifting else config.shift
    u = levels.density(batch_size, global_step, shift)

Elsewhere the times themselves are drawn by `levels.sample(batch_size, global_step, device)`."""

_USE_TORCHTITAN = """In place of `timesteps = torch.rand((bsz,))` in torchtitan/models/flux/trainer.py:

    timesteps = curriculum_times(bsz, self.step, self.device)"""


def diffusers_file(plan: Plan) -> str:
    """A file with `CurriculumTimesteps`, or `CurriculumTimes` where `plan` is of flow times.

    SpeeD's weights are there, its pairs of timesteps are not. ConfigError for a distribution that flow times do not
    have.
    """
    if plan.levels.count is None:
        return _head(plan, _USE_FLOW, ("CurriculumTimes", "draw_u", "quantile"), _formula(plan)) + _FLOW_CLASS
    count, base = plan.levels.count, plan.schedule.base
    assert isinstance(base, FixedBase)
    weights = base.loss_weights(plan.levels)
    use = _USE_TIMESTEPS.format(count=count) + ("" if weights is None else _USE_WEIGHTS)
    if isinstance(base, TimeQuantile):
        names: tuple[str, ...] = ("CurriculumTimesteps", "draw_u", "quantile")
        levels, draw = _formula(plan), _BY_FORMULA.format(count=count, last=count - 1)
    else:
        names, draw = ("CurriculumTimesteps", "draw_u"), _BY_TABLE
        levels = _TABLE.format(borders=_numbers(boundaries(base, plan.levels)[1:-1].tolist()))
    if weights is not None:
        levels += _WEIGHTS.format(weights=_numbers(weights.float().tolist()))
    text = _head(plan, use, names, levels) + _TIMESTEPS.format(count=count, last=count - 1, draw=draw)
    return text if weights is None else text + _WEIGHING


def torchtitan_file(plan: Plan) -> str:
    """A file with `curriculum_times`; ConfigError for a distribution that flow times do not have."""
    names = ("curriculum_times", "draw_u", "quantile")
    return _head(plan, _USE_TORCHTITAN, names, _formula(plan)) + _FLOW_FUNCTION


def _head(plan: Plan, use: str, public: Sequence[str], levels: str) -> str:
    """The file from its first line to the maps from u to `levels`."""
    imports = ("bisect", "math") if "math." in levels else ("bisect",)
    head = _HEAD.format(
        use=use,
        origin="\n".join(textwrap.wrap(plan.origin, _WIDTH, initial_indent="# ", subsequent_indent="# ")),
        imports="\n".join(f"import {name}" for name in imports),
        public=", ".join(f'"{name}"' for name in public),
        starts=_numbers(stage.start for stage in plan.stages),
        stages=_tuple(f"{_shares(stage.intervals)},\n" for stage in plan.stages),
    )
    return head + levels


def _formula(plan: Plan) -> str:
    base = plan.schedule.base
    try:
        lines = flow_quantile(base)
    except KeyError:
        raise ConfigError(f"base.kind must be one for flow times, but got {base.kind}") from None
    return _FORMULA.format(body="\n".join(f"    {line}" for line in lines))


def _shares(intervals: Sequence[Interval]) -> str:
    """The intervals of a stage with the share of the draws that each gets."""
    masses = [(high - low) * density for low, high, density in intervals]
    parts = [
        f"({low!r}, {high!r}, {mass / sum(masses)!r})"
        for (low, high, _), mass in zip(intervals, masses, strict=True)
    ]
    return f"({', '.join(parts)},)"


def _numbers(values: Iterable[float]) -> str:
    """A tuple of numbers, wrapped."""
    return _tuple(f"{line}\n" for line in textwrap.wrap(" ".join(f"{value!r}," for value in values), _WIDTH))


def _tuple(lines: Iterable[str]) -> str:
    return "(\n" + "".join(f"    {line}" for line in lines) + ")"
