"""The report's view of the search: read from Optuna's storage, and absent where there is none."""

import random

import optuna
import pytest

from tests.tuning.studies import record, schedule
from tuning.evidence.arms import Ranking
from tuning.report import StudyFacts, build_report
from tuning.report.convergence import convergence
from tuning.report.parameters import read_parameters
from tuning.search.samplers import open_storage
from tuning.study.config import StudyConfig


def write_study(folder, trials=12):
    storage = open_storage(None, folder)
    study = optuna.create_study(study_name="curriculum", storage=storage)
    spans = {
        "clusters.<count>": optuna.distributions.IntDistribution(2, 20),
        "order": optuna.distributions.CategoricalDistribution(["easy_to_hard", "random"]),
    }
    for place in range(trials):
        values = {"clusters.<count>": 2 + place, "order": ["easy_to_hard", "random"][place % 2]}
        study.add_trial(
            optuna.trial.create_trial(params=values, distributions=spans, value=8.0 + (place - 3) ** 2)
        )
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
    return storage


def test_complete_trials_alone_count_and_the_parameter_that_matters_leads(tmp_path):
    found = read_parameters(write_study(tmp_path), "curriculum")
    assert found.trials == 12
    assert next(iter(found.importance)) == "clusters.<count>"
    assert found.values["clusters.<count>"][3] == (5, 8.0)


def test_a_parameter_that_only_some_trials_have_gets_no_importance(tmp_path):
    storage = write_study(tmp_path)
    study = optuna.load_study(study_name="curriculum", storage=storage)
    spans = {**study.trials[0].distributions, "patience": optuna.distributions.FloatDistribution(0.0, 1.0)}
    for patience, value in ((0.1, 100.0), (0.9, 1.0)):
        values = {"clusters.<count>": 5, "order": "random", "patience": patience}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=spans, value=value))
    found = read_parameters(storage, "curriculum")
    assert set(found.importance) == {"clusters.<count>", "order"}
    assert found.values["patience"] == [(0.1, 100.0), (0.9, 1.0)]


def test_a_metric_that_is_maximised_has_the_importances_of_its_negative_minimised():
    """The best trials are those of a high `top`, and the worst ones those of a low `low`."""
    drawn, storage = random.Random(0), optuna.storages.InMemoryStorage()
    spans = dict.fromkeys(("low", "top"), optuna.distributions.FloatDistribution(0, 1))
    trials = [{"low": drawn.random(), "top": drawn.random()} for _ in range(200)]
    scores = [-5.0 if each["low"] < 0.2 else each["top"] for each in trials]
    found = []
    for direction, sign in (("maximize", 1.0), ("minimize", -1.0)):
        for more in ([], ["minimize"]):
            directions = [direction, *more]
            study = optuna.create_study(
                study_name="-".join(directions), storage=storage, directions=directions
            )
            for params, score in zip(trials, scores, strict=True):
                values = [sign * score, *(1.0 for _ in more)]
                study.add_trial(optuna.trial.create_trial(params=params, distributions=spans, values=values))
            found.append(read_parameters(storage, study.study_name))
    maximised = found[0]
    assert next(iter(maximised.importance)) == "top"
    assert all(each.importance == maximised.importance for each in found)
    assert [score for _, score in maximised.values["top"]] == scores


def test_without_a_study_or_with_a_damaged_one_there_is_nothing(tmp_path):
    storage = open_storage(None, tmp_path)
    assert read_parameters(storage, "curriculum") is None
    write_study(tmp_path)
    (tmp_path / "optuna.journal").write_text("no journal\n")
    assert read_parameters(storage, "curriculum") is None


def test_the_report_shows_the_search_the_way_and_the_rival(tmp_path):
    storage = write_study(tmp_path)
    way, faster = [[1000, 20.0], [76800, 9.0]], [[1000, 20.0], [38400, 9.0]]
    uniform = {"control": "uniform", "schedule": schedule(1, "none")}
    rival = {"control": "rival", "schedule": schedule(1, "none"), "description": "<i>min-SNR</i>"}
    records = [record(9.0, history=way), record(10.0, history=way, **uniform), record(9.5, **rival)]
    for seed in (7, 8, 9):
        for fid, changes in ((9.0, {}), (10.0, uniform), (9.5, rival)):
            changes = {**changes, "role": "confirmation", "seed": seed, "history": way if changes else faster}
            records.append(record(fid + seed % 2 / 10, **changes))
    facts = StudyFacts(name="s", config=StudyConfig(), searched=read_parameters(storage, "curriculum"))
    text = build_report(records, facts, tmp_path).read_text(encoding="utf-8")
    for words in (
        "Searched parameters",
        "12 trials are few",
        "Convergence",
        "best one-line rival",
        "as good as uniform sampling at its end after 38k images, 2.00 times [2.00, 2.00] as fast, 3 seeds.",
        "<td>1.00 [1.00, 1.00]</td>",
    ):
        assert words in text
    assert "<i>" not in text


@pytest.mark.parametrize(
    ("history", "name"), [([[100, 9.0]], "FID"), ([[100, {"fid": 9.0, "kid": 0.2}]], "KID")]
)
def test_previews_are_titled_by_the_metric_that_they_hold(history, name):
    uniform = record(10.0, history=history, control="uniform", schedule=schedule(1, "none"))
    ranking = Ranking.of([record(9.0, history=history), uniform], "kid")
    assert f'alt="{name} over images seen"' in convergence(ranking, ranking.best)
