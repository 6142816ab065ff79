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
from curriculum_ray.curriculum.pacing import PacingState, Plateau


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
    return [rule.advance(rule.init(), count).stage for count in images]


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


def test_the_last_stage_is_forced_by_its_share_of_the_budget():
    stages = run(
        PlateauPacing(patience=1000, finish_by=0.5).build(5, 1000), [1.0 / (i + 1) for i in range(100)]
    )
    assert stages == [0] * 49 + [4] * 51
    assert stages_at(FixedPacing(stage_images=100, finish_by=0.3), [0, 299, 300]) == [0, 2, 9]


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
