"""`best` asks MLflow alone, compares like with like, and says when uniform sampling is the best."""

import json
import shutil

import pytest
import yaml

from curriculum_ray.config import ConfigError
from tests.tuning.studies import FINGERPRINT, record, schedule, write_trial
from tuning.evidence.keys import TrialKey
from tuning.tracking import Tracker
from tuning.tracking.best import best

EXPERIMENT = "digits/ddpm-epsilon"
UNIFORM = {"role": "control", "control": "uniform", "schedule": schedule(1, "none"), "key": "control-uniform"}


@pytest.fixture
def write(output, tmp_path):
    """Write records as the trials of a study."""

    def write(*records, study="a", experiment=EXPERIMENT, fingerprint=FINGERPRINT, data="digits"):
        files = tmp_path / "files"
        with Tracker.open(None, output, experiment) as tracker:
            run = tracker.study(study, {}, {"data": data, "process": "ddpm", "fingerprint": fingerprint})
            for values in records:
                write_trial(tracker, run, values, files)
            tracker.finish(run, "FINISHED")
        assert not tracker.problems
        shutil.rmtree(files, ignore_errors=True)

    return write


def trials(*fids, **changes):
    return [
        record(fid, key=TrialKey.search(int(fid)), schedule=schedule(int(fid)), **changes) for fid in fids
    ]


def test_the_best_finished_trial_comes_from_mlflow_alone(write, output):
    write(*trials(9.0, 7.0, 8.0), record(8.4, **UNIFORM), record(None, key="search-099"))
    found = best(output)
    assert (found.value, found.trial, found.study, found.experiment) == (7.0, "search-007", "a", EXPERIMENT)
    assert found.schedule["clusters"]["count"] == 7
    assert found.uniform == 8.4
    assert not found.uniform_is_best
    assert (
        "16.7% better than 8.40 of uniform sampling, after 77k images (one seed: not confirmed"
        in found.sentence
    )


def test_arms_of_one_schedule_that_differ_in_their_weighting_are_not_mixed(write, output):
    plain = record(10.0, **UNIFORM)
    arms = [(TrialKey.search(0), 6.0), (TrialKey.search(1), 9.0)]
    both = [record(fid, key=key, arm_id=f"arm of {key}") for key, fid in arms]
    tested = [
        record(fid, key=key.confirmation(seed), role="confirmation", seed=seed, arm_id=f"arm of {key}")
        for key, fid in arms
        for seed in (1000, 1001)
    ]
    uniform = [
        record(
            10.0,
            **{
                **UNIFORM,
                "key": TrialKey.uniform().confirmation(seed),
                "role": "confirmation",
                "seed": seed,
            },
        )
        for seed in (1000, 1001)
    ]
    write(plain, *both, *tested, *uniform)
    found = best(output)
    assert (found.value, found.uniform, found.seeds, found.trial) == (6.0, 10.0, 2, "search-000")
    assert sorted(difference.mean for difference in found.confirmation) == [1.0, 4.0]


def test_a_larger_precision_is_better(write, output):
    for fid, precision in ((7.0, 0.1), (8.0, 0.3), (9.0, 0.2)):
        write(*trials(fid, metrics={"fid": fid, "precision": precision}))
    assert best(output, metric="precision").trial == "search-008"
    assert best(output, metric="fid").trial == "search-007"


def test_equal_scores_go_to_fewer_images(write, output):
    write(*(record(7.0, key=TrialKey.search(images), images=images) for images in (900, 300, 600)))
    assert best(output).images == 300


def test_uniform_sampling_being_the_best_is_said(write, output):
    write(*trials(9.0, 8.0), record(7.5, **UNIFORM))
    found = best(output)
    assert found.uniform_is_best
    assert found.trial == "search-008"
    assert found.sentence.startswith(
        "uniform sampling is the best: FID 7.50, 6.7% better than 8.00 of the best schedule"
    )


def test_fresh_seeds_decide_where_there_are_any(write, output):
    fresh = [
        record(
            value + luck,
            key=TrialKey(key).confirmation(seed),
            role="confirmation",
            seed=seed,
            control=control,
            schedule=schedule(count),
        )
        for key, count, control, value in (
            ("search-007", 7, None, 9.0),
            ("search-008", 8, None, 8.0),
            ("control-uniform", 1, "uniform", 10.0),
        )
        for seed, luck in ((1000, 0.0), (1001, 1.01), (1002, 0.49))
    ]
    write(*trials(7.0, 8.0), record(8.4, **UNIFORM), *fresh)
    found = best(output)
    assert (found.trial, found.description, found.seeds) == ("search-008", "8 clusters", 3)
    assert found.value == pytest.approx(8.5)
    assert found.uniform == pytest.approx(10.5)
    assert found.sentence.startswith("8 clusters beats uniform sampling by 19.0% FID [19.0, 19.0], 3 seeds")
    assert [difference.name for difference in found.confirmation] == ["8 clusters", "7 clusters"]


def test_uniform_sampling_is_that_of_the_same_study(write, output):
    write(*trials(9.0), record(1.5, **UNIFORM), study="other")
    write(*trials(7.0), record(8.0, **UNIFORM), study="a")
    assert best(output).uniform == 8.0
    assert best(output, study="other").uniform == 1.5


def test_filters_pick_data_process_study_and_experiment(write, output):
    write(*trials(7.0), study="a")
    write(*trials(5.0), study="b", experiment="photos/ddpm", data="photos")
    assert best(output).value == 5.0
    assert best(output, data="digits").value == 7.0
    assert best(output, study="a").value == 7.0
    assert best(output, experiment=EXPERIMENT).value == 7.0
    with pytest.raises(
        ConfigError, match=r"no experiment 'x' in .*: there is digits/ddpm-epsilon, photos/ddpm"
    ):
        best(output, experiment="x")
    with pytest.raises(ConfigError, match="there is no trial"):
        best(output, process="edm")


def test_numbers_of_different_protocols_are_never_compared(write, output):
    write(*trials(7.0, 8.0), study="a", fingerprint="aaaa1")
    write(*trials(5.0), study="b", fingerprint="bbbb2")
    with pytest.raises(
        ConfigError, match=r"aaaa1 \(2 trials\), bbbb2 \(1 trials\); pick one with --fingerprint"
    ) as error:
        best(output)
    assert "\n" not in str(error.value)
    assert best(output, fingerprint="aaaa1").value == 7.0
    assert best(output, fingerprint="bb").value == 5.0
    with pytest.raises(ConfigError, match="--fingerprint must name one protocol, but got 'cc'"):
        best(output, fingerprint="cc")


def test_no_store_no_trial_and_no_finished_trial_are_told_apart(write, output, tmp_path):
    with pytest.raises(ConfigError, match="there is no MLflow store"):
        best(tmp_path / "none")
    with pytest.raises(ConfigError, match="there is no trial"):
        best(output)
    write(record(None, key="search-099"))
    with pytest.raises(ConfigError, match=r"no finished trial with the metric fid .* \(1 failed\)"):
        best(output)
    write(record(7.0, **UNIFORM))
    with pytest.raises(ConfigError, match="only uniform sampling has finished"):
        best(output)


def test_an_unknown_metric_and_impossible_quotes_are_refused(output):
    with pytest.raises(ConfigError, match="metric must be one of"):
        best(output, metric="fidelity")
    with pytest.raises(ConfigError, match="both kinds of quotes"):
        best(output, study="""it's "odd" """)


def test_a_lost_schedule_file_is_one_line(write, output):
    write(*trials(7.0))
    shutil.rmtree(output / "mlartifacts")
    with pytest.raises(ConfigError, match=r"has no readable artifact schedule\.yaml"):
        best(output)


def test_the_schedule_is_written_with_its_source_and_the_answer(write, output, tmp_path):
    write(*trials(7.0), record(8.4, **UNIFORM), study="it's a\nstudy")
    found = best(output, study="it's a\nstudy")
    path = tmp_path / "schedule.yaml"
    found.write(path)
    text = path.read_text()
    assert text.startswith(
        "# best curriculum of the study it's a study by FID (digits/ddpm-epsilon)\n# 7 clusters reached"
    )
    assert yaml.safe_load(text) == found.schedule
    with pytest.raises(ConfigError, match="cannot be written"):
        found.write(tmp_path / "no" / "folder.yaml")


def test_everything_goes_into_json(write, output):
    write(*trials(7.0), record(8.4, **UNIFORM))
    values = json.loads(json.dumps(best(output).to_json(), allow_nan=False))
    assert values["schedule"]["clusters"]["count"] == 7
    assert values["metrics"] == {"fid": 7.0, "kid": 0.7, "precision": 0.5, "recall": 0.25, "loss": 0.1}
    assert (values["uniform"], values["fingerprint"], values["images"]) == (8.4, FINGERPRINT, 76800)


def test_only_confirmed_studies_count_when_asked_for(write, output):
    write(*trials(5.0), study="lucky")
    with pytest.raises(ConfigError, match=r"no schedule .* was confirmed on fresh seeds"):
        best(output, confirmed=True)
    fresh = [
        record(
            seed - 992.0,
            key=TrialKey.search(7).confirmation(seed),
            role="confirmation",
            seed=seed,
            schedule=schedule(7),
        )
        for seed in (1000, 1001)
    ]
    write(*trials(7.0), *fresh, study="sound")
    assert best(output).study == "lucky"
    assert best(output, confirmed=True).study == "sound"


def test_a_trial_at_a_smaller_budget_is_never_the_best(write, output):
    write(*trials(7.0), record(5.0, key="rung0-005", role="rung", schedule=schedule(5), images=100))
    assert best(output).trial == "search-007"
