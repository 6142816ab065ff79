"""The schedule: round trips, one-line refusals, descriptions and controls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum_ray.config import ConfigError
from curriculum_ray.curriculum import (
    CurriculumSchedule,
    DifficultyCurve,
    TimestepSampler,
    Uniform,
    cluster_edges,
    join_order,
)
from curriculum_ray.curriculum.order import random_ranking
from curriculum_ray.diffusion.levels import FlowTimes

PAPER = """\
version: 1
base: {kind: uniform}
clusters: {by: log_snr, count: 20}
order: {by: noise_level, direction: easy_to_hard}
pacing: {rule: plateau, patience: 200, smoothing: 0.0, min_delta: 0.0}
active: {set: cumulative, floor: 0.0}
"""


def paper(**groups):
    data = CurriculumSchedule.from_dict({"version": 1}).to_dict()
    data |= {
        "clusters": {"by": "uniform", "count": 4},
        "order": {"direction": "easy_to_hard"},
        "pacing": {"rule": "plateau", "patience": 5},
    }
    return CurriculumSchedule.from_dict({**data, **groups})


@st.composite
def schedules(draw):
    base = draw(
        st.sampled_from(
            [
                {"kind": "uniform"},
                {"kind": "speed", "k": 3.0},
                {"kind": "log_normal_sigma", "std": 1.0},
                {"kind": "shifted", "shift": 2.0, "of": {"kind": "mode"}},
                {"kind": "changing", "at_share": 0.25, "blend_images": 640},
            ]
        )
    )
    clusters = draw(
        st.sampled_from(
            [
                {"by": "uniform", "count": 4},
                {"by": "log_snr_dp", "count": 4},
                {"by": "explicit", "edges": [0, 0.3, 0.7, 1]},
            ]
        )
    )
    order = draw(
        st.sampled_from(
            [
                {"direction": "hard_to_easy"},
                {"direction": "random", "seed": 3},
                {"direction": "explicit", "ranking": [1, 0, *range(2, clusters.get("count", 3))]},
            ]
        )
    )
    pacing = draw(
        st.sampled_from(
            [
                {"rule": "plateau", "patience_share": 0.1, "normalize": True},
                {"rule": "fixed", "finish_by": 0.5},
                {"rule": "exp", "full_share": 0.3},
                {"rule": "fixed_exponential", "step_images": 10},
                {"rule": "single_step", "step_share": 0.5},
            ]
        )
    )
    active = draw(
        st.sampled_from([{"set": "cumulative"}, {"set": "window", "width": 2}, {"set": "newest_weighted"}])
    )
    floor = draw(st.floats(0, 1))
    return CurriculumSchedule.from_dict(
        {
            "base": base,
            "clusters": clusters,
            "order": order,
            "pacing": pacing,
            "active": {**active, "floor": floor},
        }
    )


@given(schedule=schedules())
def test_a_schedule_survives_its_file_to_the_bit(tmp_path_factory, schedule):
    path = tmp_path_factory.getbasetemp() / "schedule.yaml"
    schedule.to_file(path)
    again = CurriculumSchedule.from_file(path)
    assert again == schedule
    assert again.schedule_id == schedule.schedule_id
    assert again.to_yaml() == schedule.to_yaml()


def test_the_paper_s_schedule_reads_and_describes_itself(tmp_path):
    path = tmp_path / "schedule.yaml"
    path.write_text(PAPER)
    schedule = CurriculumSchedule.from_file(path)
    assert schedule.describe() == "20 log_snr clusters, easy_to_hard, plateau patience 200, cumulative"
    assert schedule.flat()["clusters.count"] == 20
    assert schedule.flat()["pacing.rule"] == "plateau"
    assert schedule.to_yaml().splitlines()[2] == "clusters: {by: log_snr, count: 20}"


def test_uniform_is_no_curriculum():
    schedule = CurriculumSchedule.uniform()
    assert schedule.describe() == "no curriculum"
    sampler = TimestepSampler(schedule, num_timesteps=10)
    assert (sampler.num_stages, sampler.stage, sampler.at_boundary) == (1, 0, True)
    assert sorted(sampler.sample(10).tolist()) == list(range(10))


def test_the_identity_of_a_schedule_is_its_content():
    assert (
        CurriculumSchedule.uniform().schedule_id == CurriculumSchedule.from_dict({"version": 1}).schedule_id
    )
    # Identities are written into run stores: a change of this constant breaks what was stored.
    assert paper().schedule_id == "663163d2a76b"
    assert paper().schedule_id != paper(active={"set": "cumulative", "floor": 0.5}).schedule_id
    assert paper(active={"set": "cumulative", "floor": 0}).schedule_id == paper().schedule_id


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (PAPER.replace("version: 1", "version: 2"), "version must be 1, but got 2"),
        (PAPER.replace("version: 1\n", ""), "version is required"),
        (PAPER.replace("count: 20", "count: 0"), "count must be greater than or equal to 1, but got 0"),
        (PAPER.replace("count: 20", "count: many"), "count"),
        (
            PAPER.replace("patience: 200", "patience: 0"),
            "patience must be greater than or equal to 1, but got 0",
        ),
        (PAPER.replace("easy_to_hard", "easy_to_hard, seed: 3"), "seed is not a known key"),
        (PAPER.replace("direction: easy_to_hard", "direction: sideways"), "order"),
        (PAPER.replace("floor: 0.0", "floor: 2"), "floor"),
        (PAPER.replace("base:", "bass:"), "bass is not a known key"),
        (
            PAPER.replace("by: log_snr", "by: relative_entropy, difficulty: no.json"),
            "names no.json, which does not exist",
        ),
        (PAPER.replace("by: noise_level", "by: no.json"), "order.by names no.json, which does not exist"),
        ("- 1", "must hold a mapping"),
        ("version: 1\norder: {direction: easy_to_hard}\n", "pacing is required"),
        ("version: 1\npacing: {rule: plateau, patience: 3}\n", "pacing does not apply"),
        ("version: 1\nactive: {set: cumulative, floor: 0.5}\n", "active does not apply"),
    ],
)
def test_a_faulty_file_is_refused_in_one_line_that_names_file_and_key(tmp_path, text, line):
    path = tmp_path / "schedule.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        CurriculumSchedule.from_file(path)
    assert line in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_difficulty_file_beside_the_schedule_is_found(tmp_path):
    curve = DifficultyCurve(kind="loss", data="d", process="p", u=(0, 0.5, 1), difficulty=(3.0, 1.0))
    curve.to_file(tmp_path / "curve.json")
    path = tmp_path / "schedule.yaml"
    path.write_text(
        "version: 1\nclusters: {by: loss, count: 2, difficulty: curve.json}\n"
        "order: {direction: easy_to_hard, by: curve.json}\npacing: {rule: fixed, stage_images: 10}\n"
    )
    schedule = CurriculumSchedule.from_file(path)
    # Its identity does not change with the folder.
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "curve.json").write_text((tmp_path / "curve.json").read_text())
    (tmp_path / "moved" / "schedule.yaml").write_text(path.read_text())
    assert (
        CurriculumSchedule.from_file(tmp_path / "moved" / "schedule.yaml").schedule_id == schedule.schedule_id
    )
    sampler = TimestepSampler(schedule, flow=True)
    assert sampler.edges == pytest.approx([0, 1 / 3, 1])
    assert sampler.order == (1, 0)


def test_a_pinned_schedule_needs_no_file_and_draws_the_same(tmp_path):
    path = tmp_path / "curve.json"
    curve = DifficultyCurve(kind="loss", data="d", process="p", u=(0, 0.5, 1), difficulty=(1.0, 3.0))
    curve.to_file(path)
    schedule = paper(
        clusters={"by": "loss", "difficulty": str(path), "count": 3},
        order={"by": str(path), "direction": "easy_to_hard"},
    )
    pinned = schedule.pinned(FlowTimes())
    path.unlink()
    again = CurriculumSchedule.from_dict(pinned.to_dict())
    edges = cluster_edges(again.clusters, Uniform(), FlowTimes())
    assert edges.tolist() == pytest.approx([0, 5 / 9, 7 / 9, 1])
    assert join_order(again.order, edges, Uniform(), FlowTimes()) == (0, 2, 1)


def test_controls_change_the_order_and_nothing_else():
    schedule = paper()
    for control in (schedule.reversed_order(), schedule.random_order(3)):
        assert control.model_copy(update={"order": schedule.order}) == schedule
    assert schedule.reversed_order().order.direction == "hard_to_easy"
    assert schedule.reversed_order().reversed_order() == schedule
    explicit = paper(order={"direction": "explicit", "ranking": [2, 0, 1, 3]})
    assert explicit.reversed_order().order.ranking == (3, 1, 0, 2)
    with pytest.raises(ValueError, match="has no reverse"):
        schedule.random_order(0).reversed_order()
    with pytest.raises(ValueError, match="no random control"):
        CurriculumSchedule.uniform().random_order(0)
    with pytest.raises(ValueError, match="no random control"):
        paper(clusters={"by": "uniform", "count": 2}).random_order(0)


EASY_TO_HARD, HARD_TO_EASY = {"direction": "easy_to_hard"}, {"direction": "hard_to_easy"}
FIXED = {"rule": "fixed", "stage_images": 8}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"clusters": {"by": "uniform", "count": 1}}, None),
        ({"active": {"set": "cumulative", "floor": 1.0}}, None),
        ({"pacing": {**FIXED, "start_stage": 3}}, None),
        ({"active": {"set": "window", "width": 4}}, {}),
        ({"active": {"set": "window", "width": 9}}, {"active": {"set": "window", "width": 5}}),
        ({"order": {"direction": "explicit", "ranking": [3, 2, 1, 0]}}, {"order": EASY_TO_HARD}),
        ({"order": {"direction": "explicit", "ranking": [0, 1, 2, 3]}}, {"order": HARD_TO_EASY}),
        (
            {"order": {"direction": "random", "seed": 1}},
            {"order": {"direction": "explicit", "ranking": list(random_ranking(4, 1))}},
        ),
        (
            {"pacing": {"rule": "step", "full_images": 16}},
            {"pacing": {"rule": "single_step", "step_images": 16}},
        ),
    ],
)
def test_schedules_that_train_alike_have_one_simplest_form(one, other):
    plain = CurriculumSchedule.uniform()
    schedules = [
        paper(**{"pacing": FIXED, **one}),
        plain if other is None else paper(**{"pacing": FIXED, **other}),
    ]
    assert schedules[0] != schedules[1]
    assert schedules[0].simplest().schedule_id == schedules[1].simplest().schedule_id
    draws = []
    for schedule in schedules:
        sampler = TimestepSampler(schedule, num_timesteps=100)
        seen = []
        for _ in range(12):
            seen.append(sampler.sample(4).tolist())
            sampler.update(1.0)
        draws.append(seen)
    assert draws[0] == draws[1]


def test_schedules_that_train_differently_keep_their_simplest_forms_apart():
    kinds = [
        paper(pacing=FIXED),
        paper(pacing=FIXED, order=HARD_TO_EASY),
        paper(pacing=FIXED, order={"direction": "random", "seed": 0}),
        paper(pacing=FIXED, active={"set": "window", "width": 2}),
        paper(pacing=FIXED, active={"set": "newest_weighted", "floor": 1.0}),
        paper(pacing=FIXED, active={"set": "cumulative", "floor": 0.5}),
        CurriculumSchedule.uniform(),
    ]
    assert len({schedule.simplest().schedule_id for schedule in kinds}) == len(kinds)


@pytest.mark.parametrize(
    ("groups", "line"),
    [
        (
            {"order": {"direction": "explicit", "ranking": [0, 1, 2]}},
            r"order\.ranking must hold each cluster 0\.\.3 once, but got \[0, 1, 2\]",
        ),
        (
            {"pacing": {**FIXED, "start_stage": 4}},
            r"pacing\.start_stage must be below 4 stages, but got 4",
        ),
        (
            {"pacing": {**FIXED, "start_stage": 5}, "active": {"set": "window", "width": 1}},
            r"pacing\.start_stage must be below 5 stages, but got 5",
        ),
    ],
)
def test_an_order_or_a_start_that_the_clusters_lack_is_refused_when_the_schedule_is_read(groups, line):
    with pytest.raises(ConfigError, match=line):
        paper(**groups)
