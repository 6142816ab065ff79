"""`best` asks MLflow alone, and gives what the study stands for: not the schedule that looked best in the search."""

import json
import shutil

import pytest
import yaml

from curriculum_ray.config import ConfigError
from tests.tuning.studies import (
    EXPERIMENT,
    FINGERPRINT,
    UNIFORM,
    fresh,
    named_runs,
    record,
    schedule,
    trials,
)
from tuning.evidence.keys import TrialKey
from tuning.tracking.best import best


def test_the_best_finished_trial_comes_from_mlflow_alone(write, output):
    write(*trials(9.0, 7.0, 8.0), record(8.4, **UNIFORM), record(None, key="search-099"))
    found = best(output)
    assert (found.trial, found.study, found.experiment) == ("search-007", "a", EXPERIMENT)
    assert (found.curriculum.mean, found.uniform.mean) == (7.0, 8.4)
    assert found.schedule["clusters"]["count"] == 7
    assert (
        "16.7% better than 8.40 of uniform sampling, after 77k images (not confirmed on fresh seeds)"
        in found.sentence
    )


def test_a_larger_precision_is_better(write, output):
    for fid, precision in ((7.0, 0.1), (8.0, 0.3), (9.0, 0.2)):
        write(*trials(fid, metrics={"fid": fid, "precision": precision}))
    assert best(output, metric="precision").trial == "search-008"
    assert best(output, metric="fid").trial == "search-007"


def test_equal_scores_go_to_fewer_images(write, output):
    write(*(record(7.0, key=TrialKey.search(images), images=images) for images in (900, 300, 600)))
    assert best(output).images == 300


def test_uniform_sampling_is_that_of_the_same_study(write, output):
    write(*trials(9.0), record(1.5, **UNIFORM), study="other")
    write(*trials(7.0), record(8.0, **UNIFORM), study="a")
    assert best(output).uniform.mean == 8.0
    assert best(output, study="other").uniform.mean == 1.5


def test_a_lost_schedule_file_is_one_line(write, output):
    write(*trials(7.0))
    shutil.rmtree(output / "mlartifacts")
    with pytest.raises(ConfigError, match=r"has no readable artifact schedule\.yaml"):
        best(output)


def test_a_trial_at_a_smaller_budget_is_never_the_best(write, output):
    write(*trials(7.0), record(5.0, key="rung0-005", role="rung", schedule=schedule(5), images=100))
    assert best(output).trial == "search-007"


WON = (*trials(7.0, 8.0), record(8.4, **UNIFORM), *fresh([9.0, 10.01, 9.49], 7), *fresh([8.0, 9.01, 8.49], 8))
UNIFORM_FRESH = fresh([10.0, 11.01, 10.49], 1)
LOST = (*trials(7.0, 8.0), record(8.4, **UNIFORM), *fresh([10.2, 10.9, 10.5], 7))


def test_a_schedule_that_beat_uniform_sampling_on_fresh_seeds_is_the_best(write, output):
    write(*WON, *UNIFORM_FRESH)
    found = best(output)
    assert (found.verdict, found.trial, found.description) == ("beats", "search-008", "8 clusters")
    assert found.curriculum.mean == pytest.approx(8.5)
    assert found.curriculum.spread == pytest.approx(0.505, abs=1e-3)
    assert found.uniform.mean == pytest.approx(10.5)
    assert (found.curriculum.seeds, found.curriculum.fresh) == (3, True)
    assert found.sentence.startswith("8 clusters beats uniform sampling by 19.1% FID [17.4, 20.8], 3 seeds")
    assert [difference.name for difference in found.confirmation] == ["8 clusters", "7 clusters"]
    assert best(output, curriculum=True) == found


def test_where_no_schedule_won_uniform_sampling_is_the_best_and_the_curriculum_is_to_be_had(write, output):
    write(*LOST, *UNIFORM_FRESH)
    found = best(output)
    assert (found.verdict, found.trial, found.control) == ("undecided", "control-uniform", "uniform")
    assert found.schedule["clusters"]["count"] == 1
    assert found.curriculum.name == "7 clusters"
    assert found.curriculum.mean == pytest.approx(31.6 / 3)
    asked = best(output, curriculum=True)
    assert (asked.verdict, asked.trial, asked.control) == ("undecided", "search-007", None)
    assert (asked.curriculum, asked.uniform, asked.sentence) == (
        found.curriculum,
        found.uniform,
        found.sentence,
    )
    assert asked.to_json().keys() == found.to_json().keys()


def test_without_fresh_seeds_the_first_schedule_is_unconfirmed(write, output):
    write(*trials(9.0, 8.0), record(7.5, **UNIFORM))
    found = best(output)
    assert (found.verdict, found.trial, found.curriculum.fresh) == ("unconfirmed", "search-008", False)
    assert found.sentence.startswith(
        "uniform sampling is the best: FID 7.50, 6.2% better than 8.00 of the best schedule"
    )


def test_arms_of_one_schedule_that_differ_in_their_weighting_are_not_mixed(write, output):
    arms = [(TrialKey.search(0), 6.0), (TrialKey.search(1), 9.0)]
    both = [record(fid, key=key, arm_id=f"arm of {key}") for key, fid in arms]
    tested = [
        record(fid, key=key.confirmation(seed), role="confirmation", seed=seed, arm_id=f"arm of {key}")
        for key, fid in arms
        for seed in (1000, 1001)
    ]
    write(record(10.0, **UNIFORM), *both, *tested, *fresh([10.0, 10.0], 1))
    found = best(output)
    assert (found.curriculum.mean, found.uniform.mean) == (6.0, 10.0)
    assert (found.curriculum.seeds, found.trial) == (2, "search-000")
    assert sorted(difference.mean for difference in found.confirmation) == pytest.approx([1.0, 4.0])


def test_only_confirmed_studies_count_when_asked_for(write, output):
    write(*trials(5.0), study="lucky")
    with pytest.raises(ConfigError, match=r"no schedule .* was confirmed on fresh seeds"):
        best(output, confirmed=True)
    write(*trials(7.0), *fresh([8.0, 9.0], 7), study="sound")
    assert best(output).study == "lucky"
    assert best(output, confirmed=True).study == "sound"


def test_the_files_say_where_they_come_from_and_what_the_study_found(write, output, tmp_path):
    write(*LOST, *UNIFORM_FRESH, study="it's a\nstudy")
    path = tmp_path / "schedule.yaml"
    for curriculum, says in (
        (
            False,
            "uniform sampling of the study it's a study by FID (digits/ddpm-epsilon): no curriculum beat it on ",
        ),
        (
            True,
            "the best curriculum of the study it's a study by FID (digits/ddpm-epsilon): asked for, though it did not",
        ),
    ):
        found = best(output, study="it's a\nstudy", curriculum=curriculum)
        found.write(path)
        lines = path.read_text().splitlines()
        assert lines[0].startswith(f"# {says}")
        assert lines[1].startswith("# undecided: no schedule beat uniform sampling beyond noise")
        assert yaml.safe_load(path.read_text()) == found.schedule
    with pytest.raises(ConfigError, match="cannot be written"):
        found.write(tmp_path / "no" / "folder.yaml")


def test_everything_goes_into_json(write, output):
    write(*trials(7.0), record(8.4, **UNIFORM))
    values = json.loads(json.dumps(best(output).to_json(), allow_nan=False))
    assert values["schedule"]["clusters"]["count"] == 7
    assert values["metrics"] == {"fid": 7.0, "kid": 0.7, "precision": 0.5, "recall": 0.25, "loss": 0.1}
    assert (values["uniform"]["mean"], values["fingerprint"], values["images"]) == (8.4, FINGERPRINT, 76800)


def test_a_schedule_that_failed_on_a_fresh_seed_is_not_the_best(write, output):
    failed = record(
        None, key=TrialKey.search(8).confirmation(1003), role="confirmation", seed=1003, schedule=schedule(8)
    )
    lost = [each for each in WON if each.schedule["clusters"]["count"] != 7]
    write(*lost, *fresh([10.0, 11.01, 10.49, 10.2], 1), failed)
    found = best(output)
    assert (found.verdict, found.trial) == ("undecided", "control-uniform")
    assert "3 seeds, failed on 1 more" in found.sentence


def test_another_metric_than_the_study_s_says_that_its_level_does_not_cover_it(write, output):
    write(*WON, *UNIFORM_FRESH, params={"metric": "fid"})
    assert "95%" not in best(output).sentence
    assert best(output, metric="kid").sentence.endswith(
        "; KID is not the metric of this study, which is FID: the 95% do not cover what is said here"
    )


ARMS = (
    *named_runs("uniform", [10.0, 11.0, 10.5]),
    *named_runs("min_snr", [7.0, 7.71, 7.36], curriculum=False),
)
LADDER = named_runs("ladder", [8.0, 8.81, 8.39])


def test_a_named_arm_without_a_curriculum_is_no_curriculum(write, output):
    write(*ARMS, *LADDER)
    found = best(output)
    assert (found.trial, found.among, found.verdict) == (
        "confirm-arm-ladder-seed1000",
        "curriculum",
        "beats",
    )
    assert found.sentence.startswith("min_snr beats uniform sampling by 29.9% FID")
    assert best(output, curriculum=True) == found


def test_among_arms_without_a_curriculum_the_best_arm_is_written_and_its_schedule_is_not_all_of_it(
    write, output, tmp_path
):
    write(*ARMS, settings={"min_snr": {"weighting": {"kind": "min_snr", "gamma": 5.0}}})
    found = best(output)
    assert (found.trial, found.among) == ("confirm-arm-min_snr-seed1000", "arm")
    assert found.besides == {"weighting.gamma": "5.0", "weighting.kind": "min_snr"}
    found.write(tmp_path / "schedule.yaml")
    first, second, third, *_ = (tmp_path / "schedule.yaml").read_text().splitlines()
    assert first == (
        "# the best arm of the study a by FID (digits/ddpm-epsilon): it beat uniform sampling on fresh seeds"
    )
    assert second.startswith("# min_snr beats uniform sampling by 29.9% FID")
    assert third == (
        "# the schedule alone does not repeat its run, which also sets weighting.gamma 5.0, weighting.kind min_snr"
    )
    with pytest.raises(ConfigError, match=r"no arm .* has a curriculum: leave --curriculum out"):
        best(output, curriculum=True)


def test_a_schedule_that_is_all_that_sets_its_run_apart_is_said_to_be_no_less(write, output, tmp_path):
    write(*ARMS, *LADDER)
    found = best(output)
    found.write(tmp_path / "schedule.yaml")
    assert found.besides == {}
    assert "does not repeat" not in (tmp_path / "schedule.yaml").read_text()
