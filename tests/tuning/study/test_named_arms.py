"""A study of named arms runs them beside uniform sampling on fresh seeds, and nothing else; bad arms are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curriculum_ray.config import ConfigError, load_yaml, parse
from curriculum_ray.runs.config import RunConfig
from tests.tuning.studies import result, started
from tuning.evidence.keys import TrialKey
from tuning.study.config import FRESH_SEEDS, StudyConfig
from tuning.study.controls import Controls
from tuning.study.named_arms import check_arms, named_arm
from tuning.study.plan import StudyPlan, plain_schedule

LADDER = {
    "clusters": {"by": "uniform", "count": 4},
    "order": {"direction": "easy_to_hard"},
    "pacing": {"rule": "plateau", "patience": 3},
}
ARMS: dict[str, Any] = {"ladder": {"schedule": LADDER}, "min_snr": {"weighting": {"kind": "min_snr"}}}


def test_the_long_runs_arms_are_told_apart_in_words() -> None:
    """The ladders by 2%, 10% and 25% of the budget were described by the same line."""
    config = StudyConfig.model_validate(load_yaml(Path(__file__).parents[3] / "examples/long_runs.yaml"))
    plain, words = plain_schedule(config), []
    for name, keys in config.arms.items():
        arm = named_arm(name, keys, plain, FRESH_SEEDS)
        assert arm.schedule is not None
        words.append(arm.describe(arm.schedule) or arm.schedule.describe())
    assert len(set(words)) == len(config.arms) == 9


def test_an_arm_is_called_what_the_study_calls_it() -> None:
    config = StudyConfig(arms=ARMS)
    plain = plain_schedule(config)
    for name, keys in config.arms.items():
        arm = named_arm(name, keys, plain, FRESH_SEEDS)
        assert arm.schedule is not None
        record = started(arm, RunConfig(schedule=arm.schedule, seed=arm.seed))
        assert (arm.key.named, record.arm, record.name) == (name, name, f"{name} (seed {FRESH_SEEDS})")
    assert TrialKey.uniform().confirmation(FRESH_SEEDS).named is None
    assert TrialKey.search(3).named is None


def _play(config: StudyConfig, fids: dict[str, float], noise: float = 0.1) -> list[str]:
    """Run a plan; each arm has its FID with a small deviation of its own on each seed."""
    plan, keys = StudyPlan(config), []
    while (planned := plan.next()) is not None:
        assert planned.schedule is not None
        assert planned.origin is not None
        run = RunConfig(schedule=planned.schedule, seed=planned.seed)
        deviation = noise * ((planned.seed * len(planned.origin)) % 5 - 2)
        plan.ended(started(planned, run).finished(result(fids[planned.origin] + deviation)))
        keys.append(str(planned.key))
    assert plan.complete
    assert plan.total == len(keys)
    return keys


def test_only_the_arms_and_uniform_sampling_run_seed_by_seed_until_every_answer_stands() -> None:
    config = StudyConfig(arms=ARMS, confirm_seeds=(3, 5))
    assert config.maximum_trials(Controls()) == 15
    assert StudyPlan(config).total == 15
    keys = _play(config, {"control-uniform": 10.0, "arm-ladder": 5.0, "arm-min_snr": 50.0}, noise=0.01)
    seeds = range(FRESH_SEEDS, FRESH_SEEDS + 3)
    wanted = [TrialKey.arm("ladder"), TrialKey.arm("min_snr"), TrialKey.uniform()]
    assert keys == [each.confirmation(seed) for seed in seeds for each in wanted]
    equal = dict.fromkeys(["control-uniform", "arm-ladder", "arm-min_snr"], 10.0)
    assert len(_play(config, equal, noise=1.0)) == 15


def test_an_arm_sets_nested_or_dotted_keys_and_keeps_the_rest_of_uniform_sampling() -> None:
    nested = {"schedule": LADDER, "weighting": {"kind": "p2", "k": 2.0}}
    dotted = {
        "schedule.clusters.count": 4,
        "schedule.clusters.by": "uniform",
        "schedule.order.direction": "easy_to_hard",
        "schedule.pacing.rule": "plateau",
        "schedule.pacing.patience": 3,
        "weighting.kind": "p2",
        "weighting.k": 2.0,
    }
    first = [StudyPlan(StudyConfig(arms={"a": keys})).next() for keys in (nested, dotted)]
    assert first[0] == first[1]
    assert first[0] is not None
    assert first[0].settings == {"weighting.kind": "p2", "weighting.k": 2.0}


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        ({"a b": {"weighting.kind": "p2"}}, "an arm's name must hold letters, digits, - and _ only"),
        ({"a": {}}, "arms.a changes nothing"),
        ({"uniform": {"weighting.kind": "p2"}}, "an arm's name must not be uniform"),
        ({"a": {"images": 1}}, "arms.a: images must not be changed by an arm, because it changes the budget"),
        ({"a": {"schedule": {"base": {"kind": "uniform"}}}}, "arms.a trains like uniform sampling"),
        (
            {"a": {"weighting.kind": "p2"}, "b": {"weighting": {"kind": "p2"}}},
            "arms.b trains like a: every arm must differ from all others",
        ),
        ({"a": {"weighting.kind": "none"}}, "arms.a trains like uniform sampling: every arm"),
        (
            {"a": {"weighting.kind": "p2"}, "b": {"weighting.kind": "p2", "weighting.gamma": 1}},
            "arms.b trains like a",
        ),
        (
            {"a": {"schedule": {**LADDER, "clusters": {"by": "uniform", "count": 900}}}},
            "arms.a: schedule.",
        ),
        ({"a": {"schedule.base.knd": "beta"}}, "arms.a: base.knd is not a known key"),
    ],
)
def test_bad_arms_are_refused_in_one_line(arms: dict[str, Any], says: str) -> None:
    config = StudyConfig(arms=arms)
    with pytest.raises(ConfigError) as caught:
        check_arms(config, plain_schedule(config))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_arm_that_repeats_the_studys_own_settings_is_refused() -> None:
    arms = {"a": {"weighting.kind": "min_snr"}}
    config = StudyConfig.model_validate({"run": {"weighting": {"kind": "min_snr"}}, "arms": arms})
    with pytest.raises(ConfigError, match=r"^arms\.a trains like uniform sampling"):
        check_arms(config, plain_schedule(config))


def test_settings_of_a_search_are_refused_beside_arms() -> None:
    for key, value in {"trials": 3, "rivals": {"r": {"weighting.kind": "p2"}}, "hours": 1.0}.items():
        with pytest.raises(ConfigError, match=f"arms are compared without a search: leave {key} out"):
            parse(StudyConfig, {"arms": ARMS, key: value}, "settings")


def test_studies_without_arms_keep_the_content_that_they_had() -> None:
    assert "arms" not in StudyConfig().decisive()
    config = StudyConfig(arms=ARMS)
    assert parse(StudyConfig, config.decisive(), "study.json").arms == config.arms
