"""A schedule for ostris/ai-toolkit: the keys of its `train` section, one YAML file a stage.

Read in ostris/ai-toolkit at 27a03a9:

- `toolkit/config_modules.py`, `TrainConfig`: the keys.
- `jobs/process/BaseSDTrainProcess.py`: with `noise_scheduler: flowmatch` and `content_or_style: balanced` it draws
  `torch.randint(min_denoising_steps, max_denoising_steps)` of the *indices* of its 1,000 times, which fall: index 0 is
  noise, and the last one, 999, is never drawn. A job goes on from the latest save under its name until `steps` in all.
- `toolkit/samplers/custom_flowmatch_sampler.py`, `set_train_timesteps`: the times lie at (1000 - index)/1000 with
  `timestep_type: linear`, and at sorted draws of a logit-normal distribution (mean 0, deviation 1) with `sigmoid`.
"""

from __future__ import annotations

from curriculum_ray.config import ConfigError
from curriculum_ray.config.plain_yaml import write_yaml
from curriculum_ray.curriculum import LogitNormal, Uniform
from curriculum_ray.export.trainers.plan import Plan
from curriculum_ray.export.trainers.windows import commented, windows

__all__ = ["INDICES", "ai_toolkit_files"]

INDICES = 1000
"""Times that its scheduler lays out; index 0 is noise."""


def ai_toolkit_files(plan: Plan) -> dict[str, str]:
    """YAML files by name, in the order in which they are trained; ConfigError for what its keys cannot say."""
    base = plan.schedule.base
    if base not in (Uniform(), LogitNormal()):
        raise ConfigError(
            "base.kind must be uniform, or logit_normal with mean 0 and std 1, for ai-toolkit, but got "
            f"{base.describe()}: {base!r}"
        )
    files = {}
    for number, (low, high) in enumerate(windows(plan, "ai-toolkit", INDICES)):
        stage, of = plan.stages[number], len(plan.stages)
        train = {
            "noise_scheduler": "flowmatch",
            "timestep_type": "linear" if isinstance(base, Uniform) else "sigmoid",
            "content_or_style": "balanced",
            "min_denoising_steps": INDICES - high,
            "max_denoising_steps": min(INDICES - low, INDICES - 1),
            "steps": stage.end,
        }
        head = [
            plan.origin,
            f"Launch {number + 1} of {of}, stage {stage.stage}: steps {stage.start:,} to {stage.end:,}, u from "
            f"{low / INDICES:g} to {high / INDICES:g}, 1 is noise; ai-toolkit counts denoising steps from the noise.",
            "For ostris/ai-toolkit: put these keys in place of those in `train` of your job, and start it under the",
            "same name for each launch. It goes on from its latest save until `steps` in all.",
        ]
        files[f"{plan.name}-launch-{number + 1}-of-{of}.yaml"] = commented(head) + write_yaml(
            {"train": train}, flow=False
        )
    return files
