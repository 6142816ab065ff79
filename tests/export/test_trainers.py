"""Schedules for other trainers: what is written draws as ours does at each stage, and nothing else is written."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler
from curriculum_ray.diffusion.betas import alphas_cumprod
from curriculum_ray.diffusion.levels import DiscreteTimesteps, NoiseLevels
from curriculum_ray.export.trainers import Plan, make_plan, schedule_files

BATCH = 1000
STAGE_STEPS = 200
DRAWS = BATCH * STAGE_STEPS
# Five standard deviations of a share of one half among 200,000 independent draws.
CLOSE = 5 * (0.25 / DRAWS) ** 0.5
FOUR = {
    "version": 1,
    "clusters": {"by": "uniform", "count": 4},
    "order": {"direction": "easy_to_hard"},
    "pacing": {"rule": "fixed", "stage_images": DRAWS},
}
WINDOWED = {**FOUR, "active": {"set": "window", "width": 2}}
TURNED = {**FOUR, "order": {"direction": "hard_to_easy"}}
UNEVEN = {**FOUR, "order": {"direction": "random", "seed": 1}, "active": {"set": "cumulative", "floor": 0.25}}
WEIGHTED = {**FOUR, "active": {"set": "newest_weighted", "newest_weight": 3.0}}
LOGISTIC = {**FOUR, "base": {"kind": "logit_normal"}}
BASES = [
    {"kind": "uniform"},
    {"kind": "logit_normal", "mean": 0.4, "std": 0.8},
    {"kind": "normal", "mean": 0.3, "std": 0.3},
    {"kind": "mode", "scale": 1.29},
    {"kind": "cosmap"},
    {"kind": "beta", "alpha": 0.8},
    {"kind": "asymmetric", "k": 5.0, "tau": 0.7},
    {"kind": "shifted", "shift": 3.0, "of": {"kind": "cosmap"}},
    {"kind": "sqrt_shifted", "tokens": 4096, "reference": 1024},
    {"kind": "flux_shifted", "tokens": 1024},
    {"kind": "laplace_logsnr", "loc": -1.0, "scale": 0.7},
    {"kind": "log_normal_sigma", "mean": -0.4, "std": 1.0},
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch's threads wait for each other in every small operation where other programs run too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def planned(content: dict[str, Any], kind: str, stages: int = 4, **more: Any) -> Plan:
    """A plan with stages of `STAGE_STEPS` steps each."""
    schedule = CurriculumSchedule.from_dict(content)
    more = {"source": "schedule.yaml", "images": DRAWS * stages, "batch_size": BATCH, **more}
    return make_plan(schedule, kind=kind, **more)


def ours(plan: Plan) -> Iterator[tuple[int, Tensor]]:
    """(stage, noise levels of all of its steps as float64) of a run of our own sampler."""
    levels = plan.levels
    sampler = TimestepSampler(plan.schedule, levels=levels, total_images=plan.steps * BATCH)
    drawn: dict[int, list[Tensor]] = {}
    for _ in range(plan.steps):
        level = sampler.sample(BATCH)
        drawn.setdefault(sampler.stage, []).append(level)
        sampler.update(1.0)
    for stage, parts in drawn.items():
        yield stage, torch.cat(parts).double()


def histogram(levels: Tensor, end: float) -> Tensor:
    """Shares of 20 equal bins of [0, end)."""
    return torch.histc(levels.clamp(0, end * (1 - 1e-7)), 20, 0, end) / len(levels)


def check_alike(plan: Plan, theirs: Callable[[int], Tensor], end: float, close: float = CLOSE) -> None:
    """Each stage of our run, and what the exported thing draws in each of its steps, have the same histogram."""
    for number, (planned_stage, (stage, levels)) in enumerate(zip(plan.stages, ours(plan), strict=True)):
        assert stage == planned_stage.stage
        assert planned_stage.end - planned_stage.start == len(levels) // BATCH
        drawn = theirs(number).double()
        assert drawn.min() >= 0
        assert drawn.max() <= end
        difference = (histogram(drawn, end) - histogram(levels, end)).abs().max()
        assert difference < close, f"stage {stage}: {difference}"


def namespace(text: str) -> dict[str, Any]:
    """What a written Python file defines, run by itself."""
    names: dict[str, Any] = {"__name__": "written"}
    exec(compile(text, "written.py", "exec"), names)
    return names


def stage_draws(plan: Plan, draw: Callable[[int], Tensor]) -> Callable[[int], Tensor]:
    """All draws of the steps of a stage, by the number of the stage in the plan."""

    def of(number: int) -> Tensor:
        stage = plan.stages[number]
        return torch.cat([draw(step) for step in range(stage.start, stage.end)])

    return of


@pytest.mark.parametrize("content", [FOUR, TURNED, UNEVEN, LOGISTIC], ids=str)
def test_diffusers_timesteps_are_drawn_as_ours(content: dict[str, Any]) -> None:
    plan = planned(content, "timesteps")
    levels = namespace(str(schedule_files(plan, "diffusers")))["CurriculumTimesteps"]()
    drawn = levels.sample(BATCH, 0)
    assert drawn.dtype == torch.long
    assert drawn.shape == (BATCH,)
    check_alike(plan, stage_draws(plan, lambda step: levels.sample(BATCH, step)), 1000)


@pytest.mark.parametrize("content", [WINDOWED, WEIGHTED], ids=["window", "newest_weighted"])
def test_sets_with_a_last_stage_of_their_own_are_drawn_as_ours(content: dict[str, Any]) -> None:
    plan = planned(content, "timesteps", stages=5)
    levels = namespace(str(schedule_files(plan, "diffusers")))["CurriculumTimesteps"]()
    check_alike(plan, stage_draws(plan, lambda step: levels.sample(BATCH, step)), 1000)


def usage(text: str) -> str:
    """The lines of code in the docstring of a written file."""
    described = ast.get_docstring(ast.parse(text)) or ""
    return textwrap.dedent("\n".join(line for line in described.splitlines() if line.startswith("    ")))


@pytest.mark.parametrize(
    "settings",
    [{"shift": 1.0}, {"shift": 3.0}, {"shift": 3.0, "use_dynamic_shifting": True}],
    ids=["unshifted", "shifted", "dynamic"],
)
def test_diffusers_flow_u_has_noise_at_0_and_undoes_the_shift_of_the_scheduler(
    settings: dict[str, Any],
) -> None:
    schedulers = pytest.importorskip("diffusers.schedulers")
    plan = planned(LOGISTIC, "flow")
    text = str(schedule_files(plan, "diffusers"))
    names = namespace(text)
    levels = names["CurriculumTimes"]()
    scheduler = schedulers.FlowMatchEulerDiscreteScheduler(**settings)
    as_described = compile(usage(text), "usage.py", "exec")

    def draw(step: int) -> Tensor:
        script = {**names, "noise_scheduler": scheduler, "batch_size": BATCH, "global_step": step}
        exec(as_described, script)
        indices = (script["u"] * scheduler.config.num_train_timesteps).long()
        return scheduler.timesteps[indices] / 1000

    # The scheduler's times are 1/1000 apart, and up to 3/1000 where it shifts: more than a bin's border may hold.
    check_alike(plan, stage_draws(plan, draw), 1.0, CLOSE + 0.01)
    check_alike(plan, stage_draws(plan, lambda step: levels.sample(BATCH, step)), 1.0)


@pytest.mark.parametrize("content", [FOUR, TURNED, UNEVEN, LOGISTIC], ids=str)
def test_torchtitan_times_are_drawn_as_ours_with_steps_from_1(content: dict[str, Any]) -> None:
    plan = planned(content, "flow")
    draw = namespace(str(schedule_files(plan, "torchtitan")))["curriculum_times"]
    assert draw(8, 1).dtype == torch.float32
    check_alike(plan, stage_draws(plan, lambda step: draw(BATCH, step + 1)), 1.0)


def test_the_first_stage_of_easy_to_hard_is_noise_for_every_trainer() -> None:
    flow, timesteps = planned(FOUR, "flow"), planned(FOUR, "timesteps")
    titan = namespace(str(schedule_files(flow, "torchtitan")))["curriculum_times"]
    assert titan(BATCH, 1).min() >= 0.75
    density = namespace(str(schedule_files(flow, "diffusers")))["CurriculumTimes"]()
    assert density.density(BATCH, 0).max() <= 0.25
    ddpm = namespace(str(schedule_files(timesteps, "diffusers")))["CurriculumTimesteps"]()
    assert ddpm.sample(BATCH, 0).min() >= 750
    assert (
        settings(timesteps, "kohya")[0] | {"min_timestep": 750, "max_timestep": 1000}
        == (settings(timesteps, "kohya")[0])
    )
    toolkit = settings(flow, "ai-toolkit")[0]["train"]
    assert (toolkit["min_denoising_steps"], toolkit["max_denoising_steps"]) == (0, 250)


def settings(plan: Plan, target: str) -> list[dict[str, Any]]:
    """What the written files hold, read as their trainer reads them."""
    files = schedule_files(plan, target)
    assert isinstance(files, dict)
    read = tomllib.loads if target == "kohya" else yaml.safe_load
    return [read(text) for text in files.values()]


@pytest.mark.parametrize("content", [FOUR, TURNED, {**FOUR, "pacing": {"rule": "fixed", "finish_by": 0.75}}])
def test_kohya_windows_draw_as_ours(content: dict[str, Any]) -> None:
    plan = planned(content, "timesteps")
    launches = settings(plan, "kohya")

    def draw(number: int) -> Tensor:
        keys = launches[number]
        return torch.randint(keys["min_timestep"], keys["max_timestep"], (DRAWS,))

    check_alike(plan, draw, 1000)


def test_kohya_launches_follow_one_another_by_their_states() -> None:
    launches = settings(planned(FOUR, "timesteps"), "kohya")
    allowed = {"min_timestep", "max_timestep", "max_train_steps", "output_dir", "output_name"}
    allowed |= {"resume", "initial_step", "save_state_on_train_end"}
    assert all(set(launch) <= allowed for launch in launches)
    assert [launch["max_train_steps"] for launch in launches] == [STAGE_STEPS] * 4
    assert "resume" not in launches[0]
    assert "save_state_on_train_end" not in launches[-1]
    for before, after in itertools.pairwise(launches):
        assert before["save_state_on_train_end"] is True
        assert after["resume"] == f"{before['output_dir']}/{before['output_name']}-state"
        assert after["initial_step"] == 0


@pytest.mark.parametrize(
    "base",
    [
        {"kind": "uniform"},
        {"kind": "logit_normal", "std": 0.7},
        {"kind": "shifted", "shift": 3.0, "of": {"kind": "logit_normal", "std": 0.7}},
    ],
    ids=lambda base: base["kind"],
)
def test_kohya_flow_keys_draw_as_ours(base: dict[str, Any]) -> None:
    plan = planned({"version": 1, "base": base}, "flow", stages=1)
    (keys,) = settings(plan, "kohya")
    assert keys["max_train_steps"] == STAGE_STEPS
    scale, shift = keys.get("sigmoid_scale", 1.0), keys.get("discrete_flow_shift", 1.0)
    sampling = keys["timestep_sampling"]

    def draw(number: int) -> Tensor:
        if sampling == "uniform":
            return torch.rand(DRAWS)
        sigmas = torch.sigmoid(scale * torch.randn(DRAWS))
        return shift * sigmas / (1 + (shift - 1) * sigmas) if sampling == "shift" else sigmas

    check_alike(plan, draw, 1.0)


@pytest.mark.parametrize("content", [FOUR, TURNED, LOGISTIC], ids=str)
def test_ai_toolkit_indices_count_from_the_noise_and_draw_as_ours(content: dict[str, Any]) -> None:
    plan = planned(content, "flow")
    launches = [launch["train"] for launch in settings(plan, "ai-toolkit")]
    assert [launch["steps"] for launch in launches] == [200, 400, 600, 800]
    keys = {"noise_scheduler", "timestep_type", "content_or_style", "steps"}
    assert all(set(launch) == keys | {"min_denoising_steps", "max_denoising_steps"} for launch in launches)

    def draw(number: int) -> Tensor:
        train = launches[number]
        low, high = train["min_denoising_steps"], train["max_denoising_steps"]
        indices = torch.randint(low, high, (DRAWS,))
        if train["timestep_type"] == "linear":
            return torch.linspace(1000, 1, 1000)[indices] / 1000
        # Its 1,000 times are drawn anew in each step.
        times = torch.sigmoid(torch.randn(STAGE_STEPS, 1000)).sort(descending=True).values
        return times.gather(1, indices.view(STAGE_STEPS, BATCH)).flatten()

    # Its times are 1/1000 apart and the cleanest one is never drawn; in a window of a quarter one of 250.
    check_alike(plan, draw, 1.0, CLOSE + 2 / 250)


@pytest.mark.parametrize("base", BASES, ids=lambda base: base["kind"])
def test_the_written_quantile_function_is_that_of_the_base(base: dict[str, Any]) -> None:
    plan = planned({"version": 1, "base": base}, "flow", stages=1)
    written = namespace(str(schedule_files(plan, "torchtitan")))["quantile"]
    u = torch.arange(1000, dtype=torch.float64) / 1000
    own = plan.schedule.base.to_levels(u, plan.levels)
    assert torch.allclose(written(u), own, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["laplace_logsnr", "log_normal_sigma"])
def test_timesteps_of_a_base_over_noise_are_drawn_from_a_table(kind: str) -> None:
    content = {**FOUR, "base": {"kind": kind}}
    plan = planned(content, "timesteps", betas="linear")
    levels = namespace(str(schedule_files(plan, "diffusers")))["CurriculumTimesteps"]()
    check_alike(plan, stage_draws(plan, lambda step: levels.sample(BATCH, step)), 1000)


def test_speed_keeps_its_density_and_its_weights() -> None:
    content = {"version": 1, "base": {"kind": "speed"}}
    plan = planned(content, "timesteps", stages=1, betas="linear")
    levels = namespace(str(schedule_files(plan, "diffusers")))["CurriculumTimesteps"]()
    drawn = stage_draws(plan, lambda step: levels.sample(BATCH, step))(0)
    theirs: NoiseLevels = DiscreteTimesteps(alphas_cumprod("linear", 1000))
    sampler = TimestepSampler(plan.schedule, levels=theirs)
    own = sampler.sample(DRAWS)
    assert (histogram(drawn.double(), 1000) - histogram(own.double(), 1000)).abs().max() < CLOSE
    assert sampler.weights is not None
    assert torch.equal(levels.weights(own), sampler.weights)


def test_stages_of_a_plateau_are_those_that_a_run_recorded() -> None:
    plateau = {**FOUR, "pacing": {"rule": "plateau", "patience": 5}}
    starts = [(0, 0), (1500, 1), (9000, 2), (40_000, 3)]
    plan = planned(plateau, "timesteps", images=80_000, stage_starts=starts)
    assert [(stage.stage, stage.start, stage.end) for stage in plan.stages] == [
        (0, 0, 2),
        (1, 2, 9),
        (2, 9, 40),
        (3, 40, 80),
    ]


REFUSED: list[tuple[dict[str, Any], str, str, dict[str, Any], str]] = [
    (
        {**FOUR, "pacing": {"rule": "plateau", "patience": 5}},
        "diffusers",
        "timesteps",
        {},
        "pacing.rule .* plateau",
    ),
    (
        {**FOUR, "importance": {"rule": "loss_second_moment"}},
        "diffusers",
        "flow",
        {},
        "importance.rule .* loss_second",
    ),
    (
        {"version": 1, "base": {"kind": "changing", "at_share": 0.5}},
        "torchtitan",
        "flow",
        {},
        "base.kind .* changing",
    ),
    ({"version": 1, "base": {"kind": "speed"}}, "torchtitan", "flow", {}, "speed does not apply to flow"),
    (
        {"version": 1, "base": {"kind": "laplace_logsnr"}},
        "diffusers",
        "timesteps",
        {},
        "--betas .* laplace_logsnr",
    ),
    (LOGISTIC, "kohya", "timesteps", {}, "base.kind must be uniform .* logit_normal"),
    (UNEVEN, "kohya", "timesteps", {}, "active.floor must be 0 .* 0.25"),
    (WEIGHTED, "kohya", "timesteps", {"images": 5 * DRAWS}, "active.set .* newest_weighted"),
    ({**UNEVEN, "active": {"set": "cumulative"}}, "kohya", "timesteps", {}, "order.direction .* random"),
    (FOUR, "kohya", "flow", {}, "order.direction must be none .* easy_to_hard"),
    ({"version": 1, "base": {"kind": "cosmap"}}, "kohya", "flow", {}, "base.kind .* cosmap"),
    ({"version": 1, "base": {"kind": "logit_normal", "mean": 1}}, "kohya", "flow", {}, "mean 0.* mean=1.0"),
    ({"version": 1, "base": {"kind": "logit_normal", "std": 2}}, "ai-toolkit", "flow", {}, "std 1.* std=2.0"),
    (UNEVEN, "ai-toolkit", "flow", {}, "active.floor must be 0 for ai-toolkit"),
    (FOUR, "kohya", "timesteps", {"images": 2 * DRAWS}, "stage"),
]


@pytest.mark.parametrize(("content", "target", "kind", "more", "message"), REFUSED)
def test_what_a_trainer_cannot_draw_is_refused_by_key_and_value(
    content: dict[str, Any], target: str, kind: str, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        schedule_files(planned(content, kind, **more), target)
    assert "\n" not in str(refused.value)


def test_clusters_finer_than_the_indices_of_a_trainer_are_refused() -> None:
    edges = [0.0, 0.5, 0.9999, 1.0]
    content = {**FOUR, "clusters": {"by": "explicit", "edges": edges}}
    with pytest.raises(ConfigError, match=re.escape("clusters.count 3 is too fine for ai-toolkit")):
        schedule_files(planned(content, "flow"), "ai-toolkit")


def test_written_python_files_are_clean(tmp_path: Path) -> None:
    for base, target in itertools.product(BASES, ["diffusers", "torchtitan"]):
        plan = planned({**FOUR, "base": base}, "flow", source='a """ path\nimport os')
        text = str(schedule_files(plan, target))
        assert "import os" not in text.splitlines()
        (tmp_path / f"{base['kind']}_{target}.py").write_text(text)
    for kind, betas in (("uniform", None), ("speed", "linear")):
        plan = planned({"version": 1, "base": {"kind": kind}}, "timesteps", stages=1, betas=betas)
        (tmp_path / f"{kind}.py").write_text(str(schedule_files(plan, "diffusers")))
    rules = ["--isolated", "--select", "E,F,I,B,UP,SIM,RUF100,ERA", "--line-length", "110"]
    command = [sys.executable, "-m", "ruff", "check", *rules, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_step_before_the_first_is_refused() -> None:
    draw = namespace(str(schedule_files(planned(FOUR, "flow"), "torchtitan")))["curriculum_times"]
    with pytest.raises(ValueError, match="step must be at least 0, but got -1"):
        draw(8, 0)
