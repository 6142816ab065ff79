"""Pacing: plateau decisions, the published families at hand-computed points, and their limits."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.curriculum import (
    CurriculumSchedule,
    FamilyPacing,
    FixedExponentialPacing,
    FixedPacing,
    PlateauPacing,
    SingleStepPacing,
)
from curriculum_ray.curriculum.pacing import PacingState, Plateau, caught_up


def run(rule, losses, batch: int = 10, images: int = 0) -> list[int]:
    """The stage after each loss."""
    state, stages = rule.init(), []
    for loss in losses:
        images += batch
        state = rule.advance(rule.update(state, (loss,), images), images)
        stages.append(state.stage)
    return stages


def stages_at(spec, images, num_stages: int = 10, total: int | None = 1000) -> list[int]:
    rule = spec.build(num_stages, total)
    return [caught_up(rule, count).stage for count in images]


def test_a_plateau_ends_a_stage_after_patience_losses_without_improvement():
    rule = PlateauPacing(patience=3).build(5, None)
    assert run(rule, [1.0, 0.9, 0.95, 0.9, 0.91]) == [0, 0, 0, 0, 1]


def test_the_best_loss_is_forgotten_when_a_harder_cluster_joins():
    rule = PlateauPacing(patience=2).build(5, None)
    # Stage 1 starts at a higher loss: its first one is its best, and only what follows is compared.
    assert run(rule, [1.0, 1.0, 1.0, 9.0, 8.0, 7.0, 7.0, 7.0]) == [0, 0, 1, 1, 1, 1, 1, 2]


def test_min_delta_is_how_much_lower_counts():
    losses = [1.0, 0.95, 0.9, 0.85, 0.8]
    assert run(PlateauPacing(patience=2).build(9, None), losses) == [0] * 5
    assert run(PlateauPacing(patience=2, min_delta=0.2).build(9, None), losses) == [0, 0, 1, 1, 1]
    # Small steps add up against the same best.
    assert run(PlateauPacing(patience=3, min_delta=0.12).build(9, None), losses) == [0] * 5


def test_smoothing_is_the_running_mean_of_the_docstring():
    rule = PlateauPacing(patience=50, smoothing=0.75).build(9, None)
    state = rule.init()
    for i, loss in enumerate([4.0, 0.0, 8.0]):
        state = rule.update(state, (loss,), i)
    assert state.smoothed == 0.75 * (0.75 * 4.0 + 0.25 * 0.0) + 0.25 * 8.0
    assert state.best == 3.0


def test_patience_in_images_does_not_depend_on_the_batch_size():
    spec = PlateauPacing(patience_images=400)
    for batch in (10, 20, 50, 100):
        stages = run(spec.build(5, None), [1.0] * 200, batch)
        # The first loss of a stage is its best; after it 400 images go by.
        assert (stages.index(1) + 1) * batch == batch + 400


def test_patience_as_a_share_of_the_budget_is_patience_in_images():
    share, images = (
        PlateauPacing(patience_share=0.05).build(5, 8000),
        PlateauPacing(patience_images=400).build(5, None),
    )
    assert run(share, [1.0] * 200) == run(images, [1.0] * 200)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_no_improvement_and_leaves_the_mean_alone(bad):
    rule = PlateauPacing(patience=3, smoothing=0.5).build(5, None)
    state = rule.update(rule.init(), (1.0,), 10)
    after = rule.update(state, (bad,), 20)
    assert (after.best, after.smoothed, after.waited) == (1.0, 1.0, 1)


@given(losses=st.lists(st.floats(0, 10), min_size=1, max_size=200), patience=st.integers(1, 10))
def test_stages_rise_by_one_and_stop_at_the_last(losses, patience):
    stages = [0, *run(PlateauPacing(patience=patience).build(4, None), losses)]
    assert all(b - a in (0, 1) for a, b in itertools.pairwise(stages))
    assert max(stages) <= 3


@given(scale=st.floats(0.001, 1000), losses=st.lists(st.integers(0, 50), max_size=100))
def test_the_scale_of_the_loss_does_not_matter(scale, losses):
    rule = PlateauPacing(patience=3).build(6, None)
    assert run(rule, [float(loss) for loss in losses]) == run(rule, [loss * scale for loss in losses])


def test_a_warm_start_begins_at_its_stage():
    assert run(PlateauPacing(patience=5, start_stage=2).build(5, None), [1.0]) == [2]
    assert stages_at(FixedPacing(stage_images=100, start_stage=2), [0, 100, 900], 5) == [2, 3, 4]
    assert stages_at(FamilyPacing(rule="linear", full_images=1000, start_stage=3), [0, 200, 1000]) == [
        3,
        3,
        9,
    ]
    with pytest.raises(ConfigError, match=r"pacing\.start_stage must be below 5 stages, but got 5"):
        PlateauPacing(patience=5, start_stage=5).build(5, None)


def test_each_stage_is_left_by_its_deadline():
    falling = [1.0 / (i + 1) for i in range(100)]
    # f·B·(k+1)/(N-1) = 500·(k+1)/4 images, in steps of 10 after 13, 25, 38 and 50 steps.
    stages = run(PlateauPacing(patience=20, finish_by=0.5).build(5, 1000), falling)
    assert stages == [0] * 12 + [1] * 12 + [2] * 13 + [3] * 12 + [4] * 51


def test_a_plateau_leaves_a_stage_before_its_deadline_but_moves_no_other_deadline():
    losses = [1.0] * 4 + [1.0 / (i + 1) for i in range(60)]
    stages = run(PlateauPacing(patience=3, finish_by=0.6).build(4, 1000), losses)
    # Stage 0 ends on its plateau at step 4; stages 1 and 2 fall until 2/3 and 3/3 of 600 images.
    assert stages == [0] * 3 + [1] * 36 + [2] * 20 + [3] * 5


def test_the_patience_of_a_stage_is_a_share_of_its_longest_length():
    relative = PlateauPacing(patience_stage_share=0.25, finish_by=0.5).build(5, 8000)
    images = PlateauPacing(patience_images=250, finish_by=0.5).build(5, 8000)
    losses = [1.0, 0.5, *[0.7] * 400]
    assert run(relative, losses) == run(images, losses)
    # A stage of two steps, where a quarter is less than one: patience is one step.
    short = run(PlateauPacing(patience_stage_share=0.25, finish_by=0.5).build(5, 160), [1.0] * 16)
    assert short == [0, 1, 1, 2, 2, 3, 3, 4, *[4] * 8]


def test_equal_stages_that_end_by_a_share_of_the_budget():
    assert stages_at(FixedPacing(finish_by=0.9), [0, 99, 100, 250, 900]) == [0, 0, 1, 2, 9]
    assert stages_at(FixedPacing(finish_by=0.3, start_stage=7), [0, 149, 150, 300]) == [7, 7, 8, 9]


def test_clusters_that_a_family_asks_for_together_join_one_after_another_and_in_time():
    # e^10 makes the last clusters of 20 join within 1% of the length; in steps of 10 each gets its step.
    rule = FamilyPacing(rule="exp", start_fraction=0.05, full_images=400).build(20, 1000, step=10)
    assert rule.stages == tuple(range(20))
    gaps = [b - a for a, b in itertools.pairwise(rule.begins)]
    assert min(gaps) == 10
    assert rule.begins[-1] == 400


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (
            PlateauPacing(patience=1, finish_by=0.5),
            r"20 stages need 19 steps before finish_by, but 0.5 of 1,000 images has 5 of 100 images each: at most 6 "
            r"stages fit$",
        ),
        (
            PlateauPacing(patience_images=99),
            "patience_images must be at least 100, one step of 100 images, but got 99",
        ),
        (
            PlateauPacing(patience_share=0.01),
            r"patience_share must be at least 0.1, one step of 100 images, but got 0.01 \(10 images\)",
        ),
        (FixedPacing(stage_images=50), "stage_images must be at least 100"),
        (
            FixedPacing(stage_share=0.2),
            "the last stage must begin at least one step of 100 images before the budget",
        ),
        (FixedPacing(finish_by=0.1), "20 stages need 19 steps .* leaves 1: at most 2 stages fit"),
        (FixedPacing(finish_by=0.05), "20 stages need 19 steps .* leaves 0: at most 1 stage fits, or"),
        (FixedPacing(finish_by=0.6), "20 stages need 19 steps .* leaves 6: at most 7 stages fit"),
        (
            FamilyPacing(rule="root", full_share=0.9),
            "20 stages need 18 steps .* leaves 9: at most 11 stages fit",
        ),
        (SingleStepPacing(step_images=10), "step_images must be at least 100"),
        (
            SingleStepPacing(step_share=1.0),
            "the last stage must begin at least one step of 100 images before",
        ),
        (
            PlateauPacing(patience=3),
            "20 stages, each of at least 4 steps by patience 3, do not fit into the 10 steps of 1,000 images: at most "
            "3 stages fit",
        ),
    ],
)
def test_a_ladder_that_cannot_be_walked_is_refused_with_what_would_fit(spec, line):
    with pytest.raises(ConfigError, match=line):
        spec.check(20, 1000, 100)


def test_a_patience_that_no_stage_is_long_enough_for_is_refused():
    # Stages of 5 steps: the first loss is the best, and after 3 more the stage can end before its deadline.
    PlateauPacing(patience=3, finish_by=0.5).check(5, 4000, 100)
    line = "patience 4 never ends a stage, .* ends each of 5 stages after at most 500 images: at most 3 steps"
    with pytest.raises(ConfigError, match=line):
        PlateauPacing(patience=4, finish_by=0.5).check(5, 4000, 100)


def test_the_stage_that_a_run_starts_with_has_the_time_of_those_before_it():
    # It lasts until image 600, after which the deadlines end each stage within 10 steps.
    PlateauPacing(patience=15, finish_by=0.9, start_stage=5).check(10, 1000, 10)
    with pytest.raises(
        ConfigError, match=r"never ends a stage, .* after at most 600 images: at most 58 steps"
    ):
        PlateauPacing(patience=59, finish_by=0.9, start_stage=5).check(10, 1000, 10)


@pytest.mark.parametrize(
    ("patience", "window"), [(3, 1), (8, 2), (19, 2), (20, 5), (39, 5), (40, 10), (999, 10)]
)
def test_ranks_exchange_losses_at_least_four_times_within_the_patience(patience, window):
    assert PlateauPacing(patience=patience).build(5, None).window == window
    assert PlateauPacing(patience_images=128 * patience).build(5, None, step=128).window == window


def test_fixed_stages_are_equally_long():
    assert stages_at(FixedPacing(stage_images=100), [0, 99, 100, 250, 10**9]) == [0, 0, 1, 2, 9]
    assert stages_at(FixedPacing(stage_share=0.1), [0, 99, 100, 250]) == [0, 0, 1, 2]


# Wu et al. 2021 with b = 0.2 over 10 clusters at x = 0, 1/4, 1/2, 1, computed by hand from their formulas:
# root 0.2 + 0.8·(0, .5, .707, 1); exp 0.2 + 0.8·(0, 5.1e-4, 6.7e-3, 1); log 0.2 + 0.8·(0, .86138, .93069, 1).
FAMILIES = {
    "root": (0.2, 0.6, 0.76569, 1.0),
    "linear": (0.2, 0.4, 0.6, 1.0),
    "quad": (0.2, 0.25, 0.4, 1.0),
    "exp": (0.2, 0.20041, 0.20535, 1.0),
    "log": (0.2, 0.88912, 0.94456, 1.0),
    "step": (0.2, 0.2, 0.2, 1.2),
}


@pytest.mark.parametrize("rule", FAMILIES)
def test_the_families_of_wu_et_al_take_their_values(rule):
    spec = FamilyPacing(rule=rule, start_fraction=0.2, full_images=400)
    values = [spec.fraction(x) for x in (0, 0.25, 0.5, 1.0)]
    assert values == pytest.approx(FAMILIES[rule], abs=2e-5)
    actives = [stage + 1 for stage in stages_at(spec, [0, 100, 200, 400])]
    assert actives == [max(1, math.ceil(min(g, 1) * 10 - 1e-6)) for g in FAMILIES[rule]]


def test_a_fraction_that_is_whole_but_for_rounding_is_not_rounded_up():
    spec = FamilyPacing(rule="linear", start_fraction=0.1, full_images=900)
    assert stages_at(spec, [0, 100, 200, 300, 600, 700]) == [0, 1, 2, 3, 6, 7]


def test_fixed_exponential_pacing_grows_by_its_factor_after_each_step():
    spec = FixedExponentialPacing(start_fraction=0.1, increase=2.0, step_images=100)
    assert [spec.fraction(i / 100) for i in (0, 99, 100, 250, 399, 400)] == [0.1, 0.1, 0.2, 0.4, 0.8, 1.0]
    assert stages_at(spec, [0, 99, 100, 250, 399, 400, 10**9]) == [0, 0, 1, 3, 7, 9, 9]


def test_single_step_pacing_has_one_step():
    assert stages_at(SingleStepPacing(start_fraction=0.3, step_share=0.5), [0, 499, 500]) == [2, 2, 9]


@settings(max_examples=60)
@given(
    spec=st.one_of(
        st.builds(
            FamilyPacing,
            rule=st.sampled_from(sorted(FAMILIES)),
            start_fraction=st.floats(0.01, 1),
            full_share=st.floats(0.01, 1),
        ),
        st.builds(
            FixedExponentialPacing,
            start_fraction=st.floats(0.01, 1),
            increase=st.floats(1.01, 9),
            step_share=st.floats(0.001, 0.01),
        ),
        st.builds(SingleStepPacing, start_fraction=st.floats(0.01, 1), step_share=st.floats(0.01, 1)),
        st.builds(FixedPacing, stage_share=st.floats(0.01, 0.1)),
    ),
    num_stages=st.integers(1, 10),
)
def test_stages_never_go_back_and_reach_the_last(spec, num_stages):
    stages = stages_at(spec, [0, *range(1, 10_001, 97), 10**6], num_stages, total=10_000)
    assert stages == sorted(stages)
    assert stages[-1] == num_stages - 1
    assert stages[0] >= 0


@pytest.mark.parametrize(
    ("spec", "lengths"),
    [
        (PlateauPacing(patience=3), {"patience": 3}),
        (PlateauPacing(patience_images=30), {"patience_images": 30}),
        (PlateauPacing(patience_share=0.1), {}),
        (FixedPacing(stage_images=100), {"stage_images": 100}),
        (FixedPacing(finish_by=0.5), {}),
        (FamilyPacing(rule="root", full_images=500), {"full_images": 500}),
        (FamilyPacing(rule="root", full_share=0.5), {}),
        (FixedExponentialPacing(step_images=50), {"step_images": 50}),
        (SingleStepPacing(step_share=0.1), {}),
    ],
    ids=repr,
)
def test_a_rule_knows_which_of_its_lengths_hold_whatever_the_budget(spec, lengths):
    assert spec.absolute_lengths() == lengths
    if lengths:
        assert spec.build(5, None) == spec.build(5, 100_000)
    else:
        with pytest.raises(ConfigError, match="share of the budget"):
            spec.build(5, None)


def test_a_share_without_a_budget_is_refused_by_name():
    for spec, name in (
        (FixedPacing(stage_share=0.1), "stage_share"),
        (PlateauPacing(patience_share=0.1), "patience_share"),
        (PlateauPacing(patience=3, finish_by=0.5), "finish_by"),
        (FamilyPacing(rule="log", full_share=0.5), "full_share"),
        (SingleStepPacing(step_share=0.5), "step_share"),
    ):
        with pytest.raises(ConfigError, match=rf"pacing\.{name} is a share of the budget: pass total_images"):
            spec.build(4, None)


@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "plateau"},
        {"rule": "plateau", "patience": 3, "patience_images": 3},
        {"rule": "plateau", "patience": 0},
        {"rule": "plateau", "patience": 3, "smoothing": 1.0},
        {"rule": "plateau", "patience": 3, "stage_images": 5},
        {"rule": "plateau", "patience_stage_share": 0.5},
        {"rule": "plateau", "patience_stage_share": 1.0, "finish_by": 0.5},
        {"rule": "fixed", "stage_share": 0.1, "finish_by": 0.5},
        {"rule": "linear", "full_share": 0.5, "finish_by": 0.5},
        {"rule": "fixed"},
        {"rule": "fixed", "stage_images": 5, "stage_share": 0.5},
        {"rule": "linear", "full_share": 1.5},
        {"rule": "linear", "full_share": 0.5, "increase": 2},
        {"rule": "cubic", "full_share": 0.5},
    ],
)
def test_impossible_pacing_is_refused_in_one_line(settings):
    data = {"order": {"direction": "easy_to_hard"}, "pacing": settings}
    with pytest.raises(ConfigError, match=r"s\.yaml: pacing") as caught:
        parse(CurriculumSchedule, data, "s.yaml")
    assert "\n" not in str(caught.value)


def test_normalised_losses_read_each_cluster_against_its_own_mean():
    rule = PlateauPacing(patience=100, normalize=True).build(2, None)
    # Sum and number by cluster: the second cluster's losses are ten times as high.
    state = rule.update(rule.init(), (2.0, 2.0, 20.0, 2.0), 4)
    assert state.smoothed == pytest.approx(1.0)
    state = rule.update(state, (1.0, 2.0, 10.0, 2.0), 8)
    # Means so far 0.75 and 7.5 a sample: both clusters are at 2/3 of theirs.
    assert state.smoothed == pytest.approx(2 / 3)


def test_a_harder_cluster_is_no_worsening_of_a_normalised_loss():
    plain = PlateauPacing(patience=100).build(2, None)
    scaled = PlateauPacing(patience=100, normalize=True).build(2, None)
    state = scaled.init()
    for step in range(5):
        state = scaled.update(state, (0.0, 0.0, 1.0 - 0.1 * step, 1.0), step)
    before = state.smoothed
    joined = scaled.update(state, (50.0, 0.5, 0.3, 0.5), 6)
    assert joined.smoothed <= 1.0 + 1e-9
    assert before is not None
    assert joined.smoothed - before < 1.0 < plain.update(PacingState(best=before), (50.3,), 6).smoothed


def test_the_docstring_of_the_plateau_carries_its_formula():
    assert "m_i < best - min_delta" in (Plateau.__doc__ or "")


def test_a_last_stage_that_begins_within_the_last_whole_step_is_refused():
    # It begins at the eighth step, after 896 images, and 1,000 images have seven whole steps of 128.
    spec = FixedPacing(stage_images=290)
    with pytest.raises(ConfigError, match=r"lets it begin after 870, in whole steps 896$"):
        spec.check(4, 1000, 128)
    spec.check(4, 1024, 128)
