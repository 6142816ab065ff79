"""The ladder is always walked: whole runs of the sampler, whatever the rule, its settings and the losses."""

from collections import Counter

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler

SHARES = st.floats(0.01, 1.0)
PACINGS = st.one_of(
    st.fixed_dictionaries(
        {
            "rule": st.just("plateau"),
            "patience_stage_share": st.floats(0.01, 0.99),
            "finish_by": SHARES,
            "smoothing": st.sampled_from([0.0, 0.5, 0.95]),
        }
    ),
    st.fixed_dictionaries({"rule": st.just("plateau"), "patience": st.integers(1, 12), "finish_by": SHARES}),
    st.fixed_dictionaries(
        {"rule": st.just("plateau"), "patience_share": st.floats(0.002, 0.1), "finish_by": SHARES}
    ),
    st.fixed_dictionaries({"rule": st.just("fixed"), "finish_by": SHARES}),
    st.fixed_dictionaries({"rule": st.just("fixed"), "stage_share": st.floats(0.005, 0.2)}),
    st.fixed_dictionaries(
        {
            "rule": st.sampled_from(["linear", "root", "quad", "exp", "log", "step"]),
            "full_share": SHARES,
            "start_fraction": st.floats(0.01, 0.6),
        }
    ),
    st.fixed_dictionaries(
        {
            "rule": st.sampled_from(["fixed_exponential", "single_step"]),
            "step_share": st.floats(0.01, 0.5),
            "start_fraction": st.floats(0.05, 0.6),
        }
    ),
)


def build(pacing: dict, count: int, **active) -> CurriculumSchedule:
    return CurriculumSchedule.from_dict(
        {
            "clusters": {"by": "uniform", "count": count},
            "order": {"direction": "easy_to_hard"},
            "pacing": pacing,
            **({"active": active} if active else {}),
        }
    )


def accepted(schedule: CurriculumSchedule, budget: int, batch: int) -> bool:
    try:
        schedule.check_ladder(batch, budget)
    except ConfigError:
        return False
    return True


def deadline(pacing: dict, budget: int) -> float:
    """The images by which the settings say that the last stage has begun."""
    if "finish_by" in pacing:
        return max(1, round(pacing["finish_by"] * budget))
    if "full_share" in pacing:
        return max(1, round(pacing["full_share"] * budget))
    return budget


def walk(
    schedule: CurriculumSchedule, budget: int, batch: int, window: int | None, seed: int = 0
) -> list[int]:
    """The stage of each step of a whole run on a loss that falls and is noisy."""
    run = TimestepSampler(schedule, num_timesteps=1000, total_images=budget, window=window)
    noise = torch.Generator().manual_seed(seed)
    stages = []
    while run.images < budget:
        run.sample(batch)
        stages.append(run.stage)
        run.update(1.0 / (1 + run.images / budget) + 0.1 * float(torch.randn((), generator=noise)))
    assert run.images == budget
    return stages


@settings(max_examples=150, deadline=None)
@given(
    pacing=PACINGS,
    count=st.integers(1, 24),
    steps=st.integers(2, 250),
    batch=st.sampled_from([1, 7, 64]),
    ranks=st.sampled_from([1, 2]),
    width=st.sampled_from([None, 1, 3]),
)
def test_a_ladder_that_is_accepted_is_walked_rung_by_rung(pacing, count, steps, batch, ranks, width):
    budget = steps * batch
    active = {} if width is None else {"set": "window", "width": width}
    schedule = build(pacing, count, **active)
    assume(accepted(schedule, budget, batch))
    rule = schedule.pacing.build(schedule.num_stages, budget, batch)
    # Several ranks exchange losses in windows; what they decide is what one rank decides with that window.
    stages = walk(schedule, budget, batch, None if ranks == 1 else rule.window)
    visited = list(dict.fromkeys(stages))
    assert stages == sorted(stages)
    assert visited == list(rule.ladder)
    assert visited[-1] == schedule.num_stages - 1
    last = stages.index(visited[-1]) * batch
    assert last < deadline(pacing, budget) + batch
    assert sum(Counter(stages).values()) * batch == budget


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(pacing=PACINGS, count=st.integers(2, 24), steps=st.integers(20, 250))
def test_a_run_is_as_early_as_the_settings_allow_where_no_loss_improves_and_as_late_where_all_do(
    pacing, count, steps
):
    batch = 8
    schedule = build(pacing, count)
    assume(accepted(schedule, steps * batch, batch))
    bounds = [
        bound(schedule.num_stages, steps * batch, batch)
        for bound in (schedule.pacing.earliest, schedule.pacing.latest)
    ]
    for better, wanted in zip((0.0, 1.0), bounds, strict=True):
        run = TimestepSampler(schedule, num_timesteps=1000, total_images=steps * batch)
        begins: dict[int, int] = {}
        for step in range(steps):
            run.sample(batch)
            begins.setdefault(run.stage, run.images)
            run.update(1000.0 - better * step)
        assert tuple(begins.items()) == wanted


@settings(max_examples=60, deadline=None)
@given(one=st.integers(2, 40), other=st.integers(2, 40), count=st.integers(2, 12), finish=st.floats(0.2, 0.9))
def test_two_patiences_that_are_accepted_sample_differently(one, other, count, finish):
    assume(one != other)
    batch, steps = 8, 400
    schedules = [
        build({"rule": "plateau", "patience_images": patience * batch, "finish_by": finish}, count)
        for patience in (one, other)
    ]
    assume(all(accepted(schedule, steps * batch, batch) for schedule in schedules))
    walks = [schedule.pacing.earliest(count, steps * batch, batch) for schedule in schedules]
    assert walks[0] != walks[1]


@pytest.mark.parametrize("count", [8, 12, 20])
def test_eight_clusters_and_more_walk_every_stage_at_the_budget_of_a_default_study(count):
    # 350 steps: with windows of ten steps and one jump at the half these ladders went 0, 1, 2, 7, or 0, 1, 11.
    pacing = {"rule": "plateau", "patience_stage_share": 0.4, "finish_by": 0.5}
    stages = walk(build(pacing, count), 44_800, 128, None)
    assert list(dict.fromkeys(stages)) == list(range(count))
    assert min(Counter(stages).values()) >= 2
