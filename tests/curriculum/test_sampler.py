"""The sampler: decisions at the next step or one window later, exact resume, and the same draws at any world size."""

import itertools
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler
from curriculum_ray.diffusion.levels import DiscreteTimesteps, FlowTimes, Sigmas

PLATEAU = {"rule": "plateau", "patience": 3}
FIXED = {"rule": "fixed", "stage_images": 64}


def schedule(pacing=None, **groups) -> CurriculumSchedule:
    return CurriculumSchedule.from_dict(
        {
            "clusters": {"by": "uniform", "count": 4},
            "order": {"direction": "easy_to_hard"},
            "pacing": pacing or PLATEAU,
            **groups,
        }
    )


def sampler(pacing=None, groups=None, **options) -> TimestepSampler:
    return TimestepSampler(schedule(pacing, **(groups or {})), num_timesteps=1000, **options)


def train(run: TimestepSampler, losses, batch: int = 8) -> list[tuple[int, int]]:
    """(images, stage) before each step."""
    history = []
    for loss in losses:
        history.append((run.images, run.stage))
        run.sample(batch)
        run.update(torch.tensor(loss, dtype=torch.float64))
    return history


def test_timesteps_are_long_and_inside_the_active_clusters():
    run = sampler()
    t = run.sample(64)
    assert t.dtype == torch.long
    assert t.shape == (64,)
    assert 750 <= int(t.min()) <= int(t.max()) <= 999
    assert torch.equal((run.last_u * 1000).long(), t)


def test_independent_draws_follow_the_active_part_and_are_the_same_at_every_world_size():
    alone = sampler(FIXED | {"stage_images": 10_000}, stratified=False)
    one = alone.sample(4096)
    u = alone.last_u.clone()
    parts = []
    for rank in range(2):
        run = sampler(
            FIXED | {"stage_images": 10_000}, stratified=False, rank=rank, world_size=2, accumulation=2
        )
        parts += [run.sample(1024), (run.update(1.0), run.sample(1024))[1]]
    assert torch.equal(torch.cat(parts).sort().values, one.sort().values)
    assert stats.kstest(u * 4 - 3, "uniform").pvalue > 0.001
    # Even places would leave one in each of 4,096 cells; independent ones leave about exp(-1) of the cells empty.
    filled = len(((u * 4 - 3) * 4096).long().unique())
    assert filled / 4096 == pytest.approx(1 - math.exp(-1), abs=0.03)
    with pytest.raises(ConfigError, match="stratified False, but needs True"):
        sampler(FIXED | {"stage_images": 10_000}).load_state_dict(alone.state_dict())


@pytest.mark.parametrize(
    ("options", "base", "domain"),
    [
        ({"flow": True}, {"kind": "logit_normal"}, FlowTimes()),
        ({"sigma": True}, {"kind": "log_normal_sigma"}, Sigmas()),
        ({"levels": FlowTimes()}, {"kind": "laplace_logsnr"}, FlowTimes()),
    ],
)
def test_continuous_levels_are_float32_and_the_noisiest_come_first(options, base, domain):
    run = TimestepSampler(schedule(base=base), **options)
    level = run.sample(512)
    assert level.dtype == torch.float32
    full = TimestepSampler(CurriculumSchedule.from_dict({"base": base}), **options)
    everything = full.sample(4096)
    assert float(level.min()) >= float(everything.quantile(0.75)) * (1 - 0.01)
    assert domain.log_snr(level.double()).max() <= domain.log_snr(everything.double()).quantile(0.25) + 0.05


def test_a_decision_takes_effect_one_window_after_its_losses():
    run = sampler(window=3)
    history = train(run, [1.0] * 30)
    # The first loss is the best; the third without improvement is step 4, in window 2, read at the end of 3.
    assert [stage for _, stage in history[:10]] == [0] * 9 + [1]


def test_one_rank_decides_at_each_step_and_obeys_at_the_next():
    # The first loss is the best; after three without improvement the next stage begins, at step 4.
    history = train(sampler(), [1.0] * 13)
    assert [stage for _, stage in history] == [0] * 4 + [1] * 4 + [2] * 4 + [3]


def test_a_mean_loss_may_be_a_plain_number():
    tensors, numbers = sampler(), sampler()
    generator = torch.Generator().manual_seed(2)
    for value in torch.rand(40, generator=generator, dtype=torch.float64).tolist():
        for run, loss in ((tensors, torch.tensor(value, dtype=torch.float64)), (numbers, value)):
            run.sample(8)
            run.update(loss)
    assert numbers.state_dict() == tensors.state_dict()


def test_losses_of_an_older_stage_say_nothing_about_the_present_one():
    # Window 2 ends stage 0 at step 9. Window 3 was drawn in stage 0 too, and is not read in stage 1.
    run = sampler(window=3)
    history = train(run, [1.0] * 40)
    starts = [step for step, (_, stage) in enumerate(history) if step and stage != history[step - 1][1]]
    assert starts == [9, 18, 27]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_deadline_amid_a_window_leaves_the_losses_of_the_stage_before_it_unread(resumed):
    # Losses fall throughout each stage, and rise with each new one: there is no plateau. The deadlines, steps 17, 34
    # and 50, lie amid windows of three steps.
    pacing = {**PLATEAU, "finish_by": 0.5}
    run, starts = sampler(pacing, total_images=800, window=3), []
    for step in range(100):
        run.sample(8)
        if not starts or run.stage != len(starts) - 1:
            starts.append(step)
        run.update(1.0 + run.stage - 0.001 * (step - starts[-1]))
        if resumed:
            state = run.state_dict()
            run = sampler(pacing, total_images=800, window=3)
            run.load_state_dict(state)
    assert starts == [0, 17, 34, 50]


def test_loss_free_pacing_takes_effect_at_once():
    history = train(sampler(FIXED), [1.0] * 40)
    assert all(stage == min(images // 64, 3) for images, stage in history)


def test_the_stage_at_an_image_count_is_a_function_of_the_losses_alone():
    losses = [1.0 / (1 + i % 7) for i in range(200)]
    histories = [train(sampler(seed=seed, images=0), losses) for seed in (0, 1)]
    assert histories[0] == histories[1]


def test_without_a_curriculum_every_timestep_is_drawn_alike():
    run = TimestepSampler(CurriculumSchedule.uniform(), num_timesteps=100)
    counts = torch.zeros(100)
    for _ in range(10):
        counts += torch.bincount(run.sample(1000), minlength=100)
        run.update(torch.tensor(0.0))
    assert torch.equal(counts, torch.full((100,), 100.0))


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_a_million_draws_follow_the_truncated_renormalised_density(stage):
    base = {"kind": "logit_normal", "mean": -0.3}
    active = {"set": "cumulative", "floor": 0.2}
    pacing = {"rule": "fixed", "stage_images": 10**9, "start_stage": stage}
    run = TimestepSampler(schedule(pacing, base=base, active=active), flow=True)
    draws = []
    for _ in range(1000):
        draws.append(run.sample(1000))
        run.update(torch.tensor(0.0))
    edges = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)
    observed = torch.bincount(torch.searchsorted(edges, torch.cat(draws).double()), minlength=50).tolist()

    def cumulative(t: float) -> float:
        u = stats.norm.cdf(math.log(t / (1 - t)), -0.3)
        border, mass = 1 - (stage + 1) / 4, (stage + 1) / 4 + 0.2 * (1 - (stage + 1) / 4)
        return (0.2 * min(u, border) + max(u - border, 0)) / mass

    values = [0.0, *map(cumulative, edges.tolist()), 1.0]
    expected = [1e6 * (b - a) for a, b in itertools.pairwise(values)]
    # Stratified draws lie closer to their density than independent ones: only a large distance is a fault.
    assert stats.chisquare(observed, expected, sum_check=False).pvalue > 1e-3


@settings(deadline=None, max_examples=40)
@given(
    world=st.integers(1, 6), local=st.integers(1, 8), parts=st.integers(1, 3), images=st.integers(0, 10**9)
)
def test_the_union_of_all_ranks_and_micro_batches_is_the_draw_of_one_worker(world, local, parts, images):
    options = {"seed": 5, "images": images}
    alone = TimestepSampler(schedule({"rule": "fixed", "stage_images": 1000}), flow=True, **options)
    expected, expected_u = alone.sample(world * local * parts), alone.last_u
    drawn, drawn_u = [], []
    for rank in range(world):
        run = TimestepSampler(
            schedule({"rule": "fixed", "stage_images": 1000}),
            flow=True,
            rank=rank,
            world_size=world,
            accumulation=parts,
            **options,
        )
        for _ in range(parts):
            drawn.append(run.sample(local))
            drawn_u.append(run.last_u)
            run.update(torch.zeros(local))
        assert run.images == images + world * local * parts
    assert torch.equal(torch.cat(drawn).sort().values, expected.sort().values)
    assert torch.equal(torch.cat(drawn_u).sort().values, expected_u.sort().values)


def test_each_place_in_the_batch_is_spread_as_the_whole():
    # Data that come in a fixed order must not meet the same noise levels at every step.
    run = TimestepSampler(CurriculumSchedule.uniform(), flow=True, rank=1, world_size=4)
    firsts = []
    for _ in range(2000):
        firsts.append(float(run.sample(2)[0]))
        run.update(torch.tensor(0.0))
    assert stats.kstest(firsts, "uniform").pvalue > 1e-3


def test_accumulated_losses_count_as_one_step():
    losses = [1.0, 3.0] * 30
    run = sampler(accumulation=2, window=2)
    train(run, losses)
    whole = sampler(window=2)
    train(whole, [2.0] * 30, batch=16)
    assert run.state_dict()["losses"] == whole.state_dict()["losses"]
    assert (run.images, run.stage) == (whole.images, whole.stage)


def resumed(run: TimestepSampler, *args, **kwargs) -> TimestepSampler:
    fresh = sampler(*args, **kwargs)
    fresh.load_state_dict(json.loads(json.dumps(run.state_dict())))
    return fresh


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_resume_at_any_step_repeats_the_uninterrupted_run(normalize, accumulation):
    pacing = {**PLATEAU, "smoothing": 0.5, "normalize": normalize}
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(150, 8, generator=generator) + 0.1

    def go(run, steps):
        seen = []
        for step in steps:
            seen.append((run.sample(8).tolist(), run.stage, run.images, run.at_boundary))
            run.update(losses[step])
        return seen

    options = {"window": 3, "accumulation": accumulation}
    whole = go(sampler(pacing, **options), range(150))
    assert max(stage for _, stage, _, _ in whole) >= 2
    for stop in (1, 4, 7, 12, 53, 140):
        first = sampler(pacing, **options)
        go(first, range(stop))
        second = resumed(first, pacing, **options)
        assert second.state_dict() == first.state_dict()
        assert go(second, range(stop, 150)) == whole[stop:]


def test_the_boundary_is_where_no_loss_of_the_window_is_in():
    run = sampler({"rule": "plateau", "patience": 1000}, window=3)
    flags = []
    for _ in range(7):
        flags.append(run.at_boundary)
        run.sample(4)
        run.update(torch.tensor(1.0))
    assert flags == [True, False, False, True, False, False, True]


def test_the_last_stage_reads_no_losses_and_has_nothing_pending():
    run = sampler({**PLATEAU, "finish_by": 0.5}, total_images=400, window=3)
    train(run, [1.0 / (i + 1) for i in range(26)])
    assert run.stage == 3
    assert run.at_boundary
    assert run.state_dict()["losses"] == {"pending": None, "stages": [], "images": [], "rows": []}


def test_a_loss_that_is_not_finite_is_kept_json_safe_and_is_no_improvement():
    run = sampler(window=2)
    train(run, [1.0, math.nan, math.inf, 1.0, 1.0])
    text = json.dumps(run.state_dict(), allow_nan=False)
    other = sampler(window=2)
    other.load_state_dict(json.loads(text))
    history = train(run, [1.0] * 9)
    assert train(other, [1.0] * 9) == history
    assert train(sampler(window=2), [1.0, 9.0, 9.0, 1.0, 1.0] + [1.0] * 9)[5:] == history


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"schedule_id": "0"}, "schedule_id '0'"),
        ({"version": 2}, "version 2"),
        ({"seed": 9}, "seed 9"),
        ({"window": 3}, "window 3"),
    ],
)
def test_the_state_of_something_else_is_refused(change, line):
    state = sampler(window=2).state_dict()
    with pytest.raises(ConfigError, match=f"the sampler's state has {line}, but needs"):
        sampler(window=2).load_state_dict({**state, **change})


def test_a_resume_keeps_the_window_that_the_run_began_with():
    run = sampler()
    train(run, [1.0])
    assert run.window == 0
    of_many = sampler()
    of_many.load_state_dict({**run.state_dict(), "window": 5})
    assert of_many.window == 5


def test_an_update_without_a_sample_is_refused():
    with pytest.raises(ValueError, match=r"call sample\(\) before each update\(\)"):
        sampler().update(torch.tensor(1.0))


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1, but got 0"):
        sampler().sample(0)


def test_the_mean_of_half_precision_losses_keeps_small_differences():
    run = sampler(window=2)
    run.sample(8)
    run.update(torch.tensor([1.0] * 7 + [1.0078125], dtype=torch.bfloat16))
    assert run.state_dict()["losses"]["rows"] == [[1.0009765625]]


def test_normalised_pacing_sums_half_precision_losses_as_whole_ones():
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        run = sampler({**PLATEAU, "normalize": True}, window=2)
        run.sample(1024)
        run.update(torch.full((1024,), 0.3).to(torch.bfloat16).to(dtype))
        rows.append(run.state_dict()["losses"]["rows"])
    assert rows[0] == rows[1]


def test_a_run_that_begins_at_an_image_count_is_in_the_stage_that_it_would_have_come_to():
    root = {"rule": "root", "full_images": 6400}
    groups = {"clusters": {"by": "uniform", "count": 50}}
    whole = sampler(root, groups)
    for images in range(0, 6400, 64):
        begun = sampler(root, groups, images=images)
        assert torch.equal(begun.sample(64), whole.sample(64))
        assert begun.stage == whole.stage, images
        whole.update(torch.tensor(1.0))


def test_normalised_pacing_refuses_a_mean_loss():
    run = sampler({**PLATEAU, "normalize": True})
    run.sample(8)
    with pytest.raises(ValueError, match=r"pacing\.normalize needs losses of shape \(8,\)"):
        run.update(torch.tensor(1.0))


def test_a_mean_and_its_per_sample_losses_decide_alike():
    generator = torch.Generator().manual_seed(1)
    losses = torch.rand(60, 8, generator=generator, dtype=torch.float64)
    per_sample, mean = sampler(), sampler()
    for loss in losses:
        for run, value in ((per_sample, loss), (mean, loss.mean())):
            run.sample(8)
            run.update(value)
    assert per_sample.state_dict() == mean.state_dict()


def test_a_loss_keeps_no_graph():
    run = sampler(window=2)
    weight = torch.ones(8, requires_grad=True)
    run.sample(8)
    run.update(weight * 2)
    assert run.state_dict()["losses"]["rows"] == [[2.0]]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "exactly one of num_timesteps, sigma, flow and levels"),
        ({"sigma": True, "flow": True}, "exactly one of num_timesteps, sigma, flow and levels"),
        ({"num_timesteps": 0}, "num_timesteps must be at least 1, but got 0"),
        ({"num_timesteps": 3}, r"clusters\.count must be at most the 3 timesteps .*, but got 4"),
        ({"flow": True, "window": -1}, "window must be at least 0"),
        ({"flow": True, "rank": 2, "world_size": 2}, r"rank must be in 0\.\.1, but got 2"),
        ({"flow": True, "rank": 0}, "rank and world_size must be given together"),
        ({"flow": True, "rank": 0, "world_size": 2}, r"world_size 2 needs torch\.distributed"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(options, line):
    with pytest.raises(ConfigError, match=line):
        TimestepSampler(schedule(), **options)


def test_the_snapshot_shows_the_stage_and_is_json_safe():
    run = sampler(window=3)
    train(run, [1.0] * 12)
    shown = json.loads(json.dumps(run.snapshot(), allow_nan=False))
    assert (shown["stage"], shown["num_stages"], shown["images"]) == (1, 4, 96)
    assert shown["active"] == [[pytest.approx(0.5), 1.0, 1.0]]


def test_timesteps_without_mass_are_never_drawn():
    levels = DiscreteTimesteps(torch.linspace(0.9999, 0.0001, 200, dtype=torch.float64))
    base = {"kind": "laplace_logsnr", "loc": 0.0, "scale": 0.05}
    run = TimestepSampler(CurriculumSchedule.from_dict({"base": base}), levels=levels)
    t = run.sample(4096)
    assert 70 < int(t.min()) <= int(t.max()) < 130


def test_a_ladder_that_steps_of_this_size_cannot_walk_is_refused_at_the_first_sample():
    run = sampler({**PLATEAU, "finish_by": 0.5}, total_images=400)
    with pytest.raises(ConfigError, match=r"4 stages need 3 steps before finish_by, .* has 2 of 80 images"):
        run.sample(80)


def test_a_window_above_the_patience_is_refused_at_the_first_sample():
    run = sampler(window=4)
    with pytest.raises(
        ConfigError, match=r"window must be at most the patience, 3 steps by pacing\.patience 3, but got 4"
    ):
        run.sample(8)
    sampler(FIXED, window=4).sample(8)


def test_no_step_reads_a_loss_before_the_end_of_the_next_window():
    # Tensors on the meta device have no values: whoever reads one fails.
    run = sampler(window=3)
    for step in range(5):
        run.sample(8)
        run.update(torch.empty(8, device="meta"))
        assert run.at_boundary == (step == 2)
    run.sample(8)
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        run.update(torch.empty(8, device="meta"))


@pytest.mark.gpu
@pytest.mark.parametrize("normalize", [False, True])
def test_nothing_synchronises_with_the_gpu(normalize):
    run = sampler({**PLATEAU, "normalize": normalize})
    losses = torch.rand(8, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(35):
            assert run.sample(8, device="cuda").device.type == "cuda"
            run.update(losses)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert run.stage >= 1


@pytest.mark.gpu
@pytest.mark.parametrize("window", [0, 3])
def test_losses_on_a_gpu_move_the_schedule_as_losses_on_a_cpu_do(cuda, window):
    values = [5.0, 4.0, 3.0, *[3.0] * 40]
    histories = []
    for device in (cuda, torch.device("cpu")):
        run, history = sampler(window=window), []
        for value in values:
            history.append((run.stage, run.sample(8, device=device).tolist()))
            run.update(torch.full((8,), value, device=device))
        histories.append(history)
    assert histories[0] == histories[1]
    assert histories[0][-1][0] >= 2


@pytest.mark.gpu
@pytest.mark.parametrize("window", [0, 3])
def test_a_resume_amid_a_stage_draws_on_a_gpu_as_the_uninterrupted_run(cuda, window):
    def steps(run, count):
        drawn = []
        for _ in range(count):
            drawn.append(run.sample(8, device=cuda))
            run.update(1 + run.last_u.float().to(cuda))
        return torch.stack(drawn)

    whole = sampler({**PLATEAU, "normalize": True}, window=window)
    steps(whole, 13)
    state = json.loads(json.dumps(whole.state_dict()))
    resumed = sampler({**PLATEAU, "normalize": True}, window=window)
    resumed.load_state_dict(state)
    assert torch.equal(steps(resumed, 30), steps(whole, 30))
    assert resumed.stage == whole.stage >= 1


@pytest.mark.gpu
def test_weights_lie_on_the_gpu_and_are_those_of_a_cpu(cuda):
    groups = {"importance": {"rule": "gradient_norm", "bins": 4, "history": 1}}
    found = []
    for device in (cuda, torch.device("cpu")):
        run = TimestepSampler(CurriculumSchedule.from_dict(groups), num_timesteps=1000, window=2)
        for _ in range(20):
            run.sample(16, device=device)
            weights = run.weights
            run.update((1 + run.last_u).float().to(device))
        assert weights.device.type == device.type
        found.append(weights.cpu())
    torch.testing.assert_close(*found)
    assert len(found[0].unique()) > 1


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize(
    "groups",
    [
        {"pacing": {**PLATEAU, "normalize": True}},
        {"base": {"kind": "changing", "at_images": 16, "blend_images": 64}},
        {"base": {"kind": "speed"}, "clusters": {"by": "log_snr", "count": 4}},
        {"importance": {"rule": "gradient_norm", "bins": 4, "history": 1}},
    ],
    ids=["normalize", "changing", "speed", "importance"],
)
def test_another_default_device_changes_no_draw(groups, stratified):
    alphas = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)

    def drawn() -> list:
        run = TimestepSampler(
            schedule(**groups), levels=DiscreteTimesteps(alphas), window=1, stratified=stratified
        )
        seen = []
        for _ in range(30):
            levels, weights = run.sample(16, device="cpu"), run.weights
            seen.append((run.stage, levels.tolist(), None if weights is None else weights.tolist()))
            run.update((1 + run.last_u).float())
        seen.append(run.density(torch.linspace(0, 1, 5, dtype=torch.float64, device="cpu")).tolist())
        seen.append(run.state_dict())
        run.load_state_dict(run.state_dict())
        return [*seen, run.sample(16).tolist()]

    expected = drawn()
    # Nothing can be read from the meta device.
    with torch.device("meta"):
        assert drawn() == expected
        run = sampler()
        run.sample(8)
        run.update(0.5)


@pytest.mark.parametrize(
    ("made", "resumed", "line"),
    [
        ({"num_timesteps": 1000}, {"num_timesteps": 4000}, "has num_levels 1000, but needs 4000"),
        ({"flow": True}, {"num_timesteps": 1000}, "has levels 'flow', but needs 'timestep'"),
    ],
)
def test_a_state_of_other_levels_is_refused(made, resumed, line):
    state = json.loads(json.dumps(TimestepSampler(schedule(), **made).state_dict()))
    TimestepSampler(schedule(), **made).load_state_dict(state)
    with pytest.raises(ConfigError, match=line):
        TimestepSampler(schedule(), **resumed).load_state_dict(state)
    # States of before levels were named.
    del state["levels"], state["num_levels"], state["total_images"]
    TimestepSampler(schedule(), **resumed).load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "other", "line"),
    [
        (
            {"at_share": 0.5},
            2000,
            "total_images 1000, of which the base has changed by 1 after 640 images, but 2000",
        ),
        ({"at_share": 0, "blend_share": 1}, 2000, r"changed by 0\.64 .* would take it back to 0\.32$"),
        ({"at_share": 0.5}, 900, None),
        ({"at_share": 0.8}, 2000, None),
        ({"at_images": 500}, 2000, None),
    ],
)
def test_a_budget_that_would_take_a_changing_base_back_is_refused_at_resume(change, other, line):
    groups = {"base": {"kind": "changing", **change}}
    run = sampler(FIXED, groups, total_images=1000)
    for _ in range(20):
        run.sample(32)
        run.update(1.0)
    state, resumed = run.state_dict(), sampler(FIXED, groups, total_images=other)
    if line is None:
        resumed.load_state_dict(state)
        assert resumed.images == 640
    else:
        with pytest.raises(ConfigError, match=line):
            resumed.load_state_dict(state)
    sampler(FIXED, groups, total_images=1000).load_state_dict(state)


@pytest.mark.parametrize(
    ("groups", "total", "batch", "line"),
    [
        (
            {"base": {"kind": "changing", "at_images": 60_000}},
            40_000,
            100,
            r"^base: the change must begin at least one step of 100 images before the budget of 40,000 ends, but it "
            r"begins after 60,000$",
        ),
        (
            {"base": {"kind": "changing", "at_share": 0.95}},
            1000,
            128,
            r"one step of 128 images before the budget of 1,000 ends, but it begins after 950, in whole steps 1,024$",
        ),
        (
            {"importance": {"rule": "gradient_norm", "history": 1000}},
            500 * 64,
            64,
            r"^importance\.history must be below 500, the steps of 64 images .* 32,000, .* but got 1000$",
        ),
        ({"base": {"kind": "changing", "at_share": 0, "blend_share": 1}}, 1000, 128, None),
        ({"base": {"kind": "changing", "at_share": 0.5, "blend_images": 10**6}}, 1000, 128, None),
        ({"importance": {"rule": "gradient_norm", "history": 499}}, 500 * 64, 64, None),
        ({"base": {"kind": "changing", "at_images": 60_000}}, None, 128, None),
    ],
)
def test_what_no_step_of_the_budget_would_see_is_refused_at_the_first_sample(groups, total, batch, line):
    run = TimestepSampler(CurriculumSchedule.from_dict(groups), num_timesteps=1000, total_images=total)
    if line is None:
        run.sample(batch)
        return
    with pytest.raises(ConfigError, match=line):
        run.sample(batch)
