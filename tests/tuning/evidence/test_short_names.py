"""Short names of arms: readable, the same at each call, and never those of another arm of the study."""

import pytest

from curriculum_ray.curriculum import CurriculumSchedule
from tuning.evidence.short_names import UNIFORM, arm_name, short_name


def made(count=8, direction="easy_to_hard", by="uniform", pacing=None, **groups):
    return CurriculumSchedule.from_dict(
        {
            "version": 1,
            "clusters": {"by": by, "count": count},
            "order": {"direction": direction},
            "pacing": pacing or {"rule": "plateau", "patience_stage_share": 0.3, "finish_by": 0.5},
            **groups,
        }
    )


def plain(**base):
    return CurriculumSchedule.from_dict({"version": 1, "base": base})


@pytest.mark.parametrize(
    ("schedule", "name"),
    [
        (CurriculumSchedule.uniform(), "uniform"),
        (made(20, pacing={"rule": "plateau", "patience": 200}), "20u e2h p200"),
        (made(by="log_snr", direction="random"), "8s rnd p.3"),
        (made(pacing={"rule": "linear", "full_share": 0.456}), "8u e2h linear.46"),
        (made(pacing={"rule": "fixed", "finish_by": 0.5}), "8u e2h fix.5"),
        (made(pacing={"rule": "fixed", "stage_images": 12800}), "8u e2h fix12.8k"),
        (made(active={"set": "window", "width": 2, "floor": 0.1}), "8u e2h p.3 w2 f.1"),
        (plain(kind="logit_normal"), "logit-normal"),
        (plain(kind="logit_normal", mean=-0.5), "logit-normal -.5"),
        (plain(kind="changing", at_share=0.5), "logit-normal→uniform .5"),
    ],
)
def test_a_schedule_has_a_name_of_a_few_words(schedule, name):
    assert short_name(schedule) == name


def test_the_words_of_the_issue():
    pacing = {"rule": "plateau", "patience_share": 0.003}
    assert short_name(made(3, "hard_to_easy", pacing=pacing)) == "3u h2e p.003"


@pytest.mark.parametrize(
    ("rival", "settings", "schedule", "name"),
    [
        ("min_snr", {"weighting.kind": "min_snr", "weighting.gamma": 5.0}, None, "min-SNR 5"),
        ("logit_normal", {}, plain(kind="logit_normal"), "logit-normal"),
        ("clts", {}, plain(kind="changing", at_share=0.5), "CLTS"),
        ("my_idea", {"optimizer.learning_rate": 2e-3}, None, "my-idea"),
        ("the best schedule's own settings", {"optimizer.learning_rate": 2e-3}, None, "lr.002"),
        (None, {"optimizer.learning_rate": 2e-5, "model.kind": "dit"}, None, "dit lr2e-5"),
    ],
)
def test_a_rival_keeps_its_own_name_with_its_numbers(rival, settings, schedule, name):
    assert short_name(schedule or CurriculumSchedule.uniform(), settings, rival) == name


def test_two_arms_never_have_the_same_name():
    arms = [
        made(pacing={"rule": "plateau", "patience_stage_share": share, "finish_by": finish, **more})
        for share in (0.3, 0.3001, 0.3000000001)
        for finish in (0.5, 0.6)
        for more in ({}, {"smoothing": 0.9}, {"normalize": True})
    ]
    known: dict[str, str] = {}
    for place, schedule in enumerate(arms):
        known[str(place)] = arm_name(str(place), schedule, {}, known)
    assert len(set(known.values())) == len(arms)
    assert known["0"] == "8u e2h p.3"
    assert known["1"] == "8u e2h p.3 finish-by.5 smoothing.9"


def test_an_arm_keeps_its_name():
    known = {"a": "8u e2h p.3"}
    assert arm_name("a", made(4), {}, known) == "8u e2h p.3"
    assert arm_name("b", made(8), {}, known) != "8u e2h p.3"
    assert arm_name("u", CurriculumSchedule.uniform(), {}, {}, given=UNIFORM) == "uniform"
    assert arm_name("r", CurriculumSchedule.uniform(), {}, {"u": "uniform"}, rival="uniform") == "uniform #r"
