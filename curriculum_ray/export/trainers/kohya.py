"""A schedule for the scripts of kohya-ss/sd-scripts: one TOML file for `--config_file` a stage.

Read in kohya-ss/sd-scripts at 48d368f:

- `library/train_util.py`: `get_timesteps` draws `torch.randint(min_timestep, max_timestep)` of 1,000 DDPM timesteps, 0
  is clean and the upper end left out. `read_config_from_file` takes one TOML file, over which the command line wins.
  `save_state_on_train_end` writes `{output_dir}/{output_name}-state`.
- `train_network.py`: a resumed launch counts the epochs before it, but not their steps, towards the end, unless
  `initial_step` is 0. Then `max_train_steps` are the launch's own steps, as they always are in the scripts that train
  all weights (`sdxl_train.py`).
- `library/flux_train_utils.py`, `get_noisy_model_input_and_timesteps`: FLUX trainers never read the two timesteps.
  Their times are sigmas in [0, 1], 1 is noise, by `timestep_sampling`.
"""

from __future__ import annotations

import json

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import LogitNormal, Shifted, Uniform
from curriculum_ray.export.trainers.plan import Plan
from curriculum_ray.export.trainers.windows import commented, windows

__all__ = ["TIMESTEPS", "kohya_files"]

TIMESTEPS = 1000
"""T of all DDPM schedulers that the scripts make."""

Keys = dict[str, str | int | float | bool]


def kohya_files(plan: Plan) -> dict[str, str]:
    """TOML files by name, in the order in which they are trained; ConfigError for what the scripts cannot draw.

    Timesteps: a window for each stage, and how a stage goes on where the one before it ended. Flow times: the one
    distribution of a schedule without a curriculum.
    """
    return _flow(plan) if plan.levels.count is None else _timesteps(plan)


def _timesteps(plan: Plan) -> dict[str, str]:
    if not isinstance(plan.schedule.base, Uniform):
        raise ConfigError(
            f"base.kind must be uniform for kohya with timesteps, but got {plan.schedule.base.kind}"
        )
    names = [_name(plan, number) for number in range(len(plan.stages))]
    files = {}
    for number, (low, high) in enumerate(windows(plan, "kohya", TIMESTEPS)):
        stage = plan.stages[number]
        keys: Keys = {
            "min_timestep": low,
            "max_timestep": high,
            "max_train_steps": stage.end - stage.start,
            "output_dir": plan.name,
            "output_name": names[number],
        }
        if number:
            keys |= {"resume": f"{plan.name}/{names[number - 1]}-state", "initial_step": 0}
        if number + 1 < len(names):
            keys["save_state_on_train_end"] = True
        head = [
            plan.origin,
            f"Launch {number + 1} of {len(names)}, stage {stage.stage}: steps {stage.start:,} to {stage.end:,} of the "
            f"whole training, timesteps {low} (clean) to {high - 1} (noise).",
            "For the scripts of kohya-ss/sd-scripts with DDPM timesteps (SD 1.x, SD 2.x, SDXL), by --config_file; give",
            "your own options on the command line. A launch ends by its own max_train_steps, and the next one goes on",
            "from its state. Use a constant lr_scheduler: the others are laid out for one launch.",
        ]
        files[f"{names[number]}.toml"] = commented(head) + _toml(keys)
    return files


def _flow(plan: Plan) -> dict[str, str]:
    if plan.schedule.pacing is not None:
        raise ConfigError(
            "order.direction must be none for kohya with flow times, whose trainers read no min_timestep, but got "
            f"{plan.schedule.order.direction}"
        )
    head = [
        plan.origin,
        "For the FLUX trainers of kohya-ss/sd-scripts, by --config_file; give your own options on the command line.",
    ]
    return {f"{plan.name}.toml": commented(head) + _toml({**_sampling(plan), "max_train_steps": plan.steps})}


def _sampling(plan: Plan) -> Keys:
    """`timestep_sampling` and its numbers: uniform, sigmoid of a normal, or that shifted."""
    base = plan.schedule.base
    match base:
        case Uniform():
            return {"timestep_sampling": "uniform"}
        case LogitNormal(mean=0.0, std=std):
            return {"timestep_sampling": "sigmoid", "sigmoid_scale": std}
        case Shifted(shift=shift, of=LogitNormal(mean=0.0, std=std)):
            return {"timestep_sampling": "shift", "discrete_flow_shift": shift, "sigmoid_scale": std}
    raise ConfigError(
        "base.kind must be uniform, logit_normal with mean 0, or shifted of that one for kohya with flow times, but "
        f"got {base.describe()}: {base!r}"
    )


def _name(plan: Plan, number: int) -> str:
    return f"{plan.name}-launch-{number + 1}-of-{len(plan.stages)}"


def _toml(keys: Keys) -> str:
    """One `key = value` a line: JSON's strings, numbers and truth values of ASCII are TOML's too."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
