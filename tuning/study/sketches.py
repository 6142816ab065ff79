"""Pictures of the schedules of a space, before anything is trained."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import torch

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler
from curriculum_ray.diffusion import build_process
from curriculum_ray.runs.config import RunConfig
from tuning.study.config import StudyConfig
from tuning.study.space import SearchSpace, SpaceFunction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tuning.figures.theme import Theme

__all__ = ["density", "draw_schedules", "sampled", "sketch"]

_SHADES = " ░▒▓█"
# A longer run is drawn as a shorter one with the same shares, which takes a second and shows the same.
_ENOUGH_STEPS = 500
_STEPS_PER_STAGE = 25


def sampled(config: StudyConfig, space: SearchSpace, count: int) -> list[CurriculumSchedule]:
    """The first start points of the space, then random points, as schedules."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=config.seed))
    for point in space.start[: count // 2]:
        study.enqueue_trial(point)
    base, result = config.run.model_dump(mode="json"), []
    for _ in range(count):
        trial = study.ask()
        SpaceFunction(space)(trial)
        settings = space.apply(base, trial.params)
        result.append(CurriculumSchedule.from_dict(settings["schedule"], f"space {space.name}"))
    return result


def density(schedule: CurriculumSchedule, run: RunConfig, rows: int = 32, columns: int = 64) -> torch.Tensor:
    """Relative density of u (row 0 is the noisiest) over the budget, (rows, columns), 1 is uniform.

    A plateau's stages depend on losses, which are not known yet: here the loss is noise around a constant, on which a
    stage lasts about twice its patience. Importance sampling, which depends on losses too, has little effect on it.
    """
    steps = _enough_steps(schedule, run)
    schedule = _shortened(schedule, steps / run.total_steps)
    process = build_process(run.process, run.weighting)
    sampler = TimestepSampler(
        schedule,
        levels=process.levels,
        total_images=steps * run.batch_size,
        rank=0,
        world_size=1,
        window=run.window,
    )
    noise = torch.Generator().manual_seed(0)
    edges = torch.linspace(0, 1, rows + 1, dtype=torch.float64)
    result = torch.zeros(rows, columns)
    for step in range(steps):
        column = step * columns // steps
        if not result[:, column].any():
            result[:, column] = sampler.density(edges).flip(0).float()
        sampler.sample(run.batch_size)
        assert sampler.weights is None or len(sampler.weights) == run.batch_size
        sampler.update(1 + 0.05 * torch.randn(run.batch_size, generator=noise))
    return result


def _enough_steps(schedule: CurriculumSchedule, run: RunConfig) -> int:
    """Steps of a run of the same shares in which the schedule walks its whole ladder; at most those of the run."""
    steps = max(_ENOUGH_STEPS, _STEPS_PER_STAGE * schedule.num_stages)
    while steps < run.total_steps:
        shorter = _shortened(schedule, steps / run.total_steps)
        try:
            shorter.check_ladder(run.batch_size, steps * run.batch_size)
        except ConfigError:
            steps *= 2
        else:
            return steps
    return run.total_steps


def _shortened(schedule: CurriculumSchedule, share: float) -> CurriculumSchedule:
    """The schedule for a run of a share of the length: what it gives in images or iterations shrinks as well."""
    if share == 1:
        return schedule

    def shorter(lengths: dict[str, int]) -> dict[str, int]:
        # A change of the base may begin at 0; all else is at least 1.
        return {key: max(min(value, 1), round(value * share)) for key, value in lengths.items()}

    base, pacing = schedule.base, schedule.pacing
    base = base.model_copy(update=shorter(base.absolute_lengths()))
    if pacing is not None:
        pacing = pacing.model_copy(update=shorter(pacing.absolute_lengths()))
    return schedule.model_copy(update={"base": base, "pacing": pacing})


def sketch(values: torch.Tensor, rows: int = 6, columns: int = 48) -> list[str]:
    """A density as lines of text, darker where more is drawn; the top is noise, training goes to the right."""
    small = torch.nn.functional.adaptive_avg_pool2d(values[None], (rows, columns))[0]
    steps = (small / small.max() * (len(_SHADES) - 1)).round().long()
    return ["".join(_SHADES[shade] for shade in row) for row in steps.tolist()]


def draw_schedules(
    schedules: list[CurriculumSchedule], densities: list[torch.Tensor], images: int, theme: Theme
) -> Figure:
    """Active-set heat maps, one below the other: u over images seen, darker where more is drawn."""
    from tuning.figures.theme import colormap, dress, new_panels

    figure, panels = new_panels(len(schedules), 1.9, theme, 1, width=7.5)
    for axes, schedule, values in zip(panels, schedules, densities, strict=True):
        axes.imshow(values, aspect="auto", cmap=colormap(theme.density), vmin=0, extent=(0, images, 0, 1))
        dress(axes, theme, textwrap.fill(schedule.describe(), 90))
        axes.set_ylabel("u (1 is noise)")
    panels[-1].set_xlabel("images seen")
    return figure
