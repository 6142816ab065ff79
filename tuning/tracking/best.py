"""`best`: ask MLflow, and nothing else, what a study stands for: its best curriculum, or uniform sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from curriculum_ray.config import ConfigError
from curriculum_ray.own_files import write_own
from curriculum_ray.runs.folder import CONFIG_FILE
from tuning.evidence.answer import answer
from tuning.evidence.arms import Ranking
from tuning.evidence.differences import Difference, against_uniform
from tuning.evidence.metrics import metric_name
from tuning.evidence.records import TrialRecord
from tuning.evidence.scores import Score, scores
from tuning.evidence.winner import Verdict, choose
from tuning.tracking.finished import (
    FinishedTrial,
    artifact_text,
    failed_confirmations,
    finished_trials,
    schedule_file,
    study_rule,
)
from tuning.tracking.store import open_store

__all__ = ["BestRun", "best"]


@dataclass(frozen=True)
class BestRun:
    """What a study stands for, with the scores of its best curriculum and of uniform sampling.

    Of a study in which no arm has a curriculum, the best arm takes its place.
    """

    experiment: str
    study: str
    verdict: Verdict
    among: Literal["curriculum", "arm"]
    """What it was chosen among: curricula or, where no arm of the study has one, arms."""
    curriculum: Score
    """Of the best-looking one of these, on fresh seeds where it has them."""
    uniform: Score | None
    """Of uniform sampling on the same seeds; None where it has no finished run."""
    trial: str
    """The first run of the chosen arm; what follows is about this run."""
    run_id: str
    data: str
    process: str
    fingerprint: str
    """Evaluation protocol of all numbers here."""
    metric: str
    metrics: dict[str, float]
    """Metrics of this one run, at its end; the search's own flatter what it chose."""
    images: int
    seed: int
    control: str | None
    """Set when the chosen arm is one of the study's controls, e.g. "uniform" or "reversed"."""
    description: str
    """The chosen arm in words."""
    name: str
    """Its short name in the study."""
    schedule: dict[str, Any]
    schedule_text: str
    """The run's artifact schedule.yaml."""
    besides: dict[str, str]
    """Settings besides the schedule in which the run differs from uniform sampling's, by dotted key, as texts."""
    settings_text: str | None
    """The run's artifact config.yaml, with which `train --config` repeats it; None where it is gone."""
    confirmation: list[Difference]
    """Differences from uniform sampling on fresh seeds, the largest gain first; or empty."""
    sentence: str
    """The answer in one sentence, with its interval where the study has fresh seeds."""

    @property
    def reason(self) -> str:
        """Why this arm is the one."""
        if self.verdict == "beats":
            return "it beat uniform sampling on fresh seeds"
        if self.verdict == "unconfirmed":
            return "unconfirmed, as it was not compared with uniform sampling on three or more fresh seeds"
        if self.control == "uniform":
            return f"no {self.among} beat it on fresh seeds"
        return "asked for, though it did not beat uniform sampling on fresh seeds"

    @property
    def besides_in_words(self) -> str:
        """What the run sets besides its schedule: "weighting.kind min_snr, …"; empty where that is nothing."""
        return ", ".join(f"{key} {value}" for key, value in self.besides.items())

    def write(self, path: Path, *, force: bool = False) -> Path | None:
        """Write the schedule file, headed by where it comes from; see `write_own` for what is kept aside."""
        lacks = self.besides_in_words
        more = [f"the schedule alone does not repeat its run, which also sets {lacks}"] if lacks else []
        return write_own(path, self._head(*more) + self.schedule_text, force=force)

    def write_settings(self, path: Path, *, force: bool = False) -> Path | None:
        """Write the settings that repeat the run, if it has any, with the same heading."""
        if self.settings_text is None:
            return None
        return write_own(path, self._head() + self.settings_text, force=force)

    def _head(self, *more: str) -> str:
        what = "uniform sampling" if self.control == "uniform" else f"the best {self.among}"
        source = f"{what} of the study {self.study} by {metric_name(self.metric)} ({self.experiment})"
        texts = (f"{source}: {self.reason}", self.sentence, *more)
        return "".join(f"# {' '.join(text.split())}\n" for text in texts)

    def to_json(self) -> dict[str, Any]:
        """Return all fields, ready for `json.dumps`."""
        fields = asdict(self)
        del fields["schedule_text"], fields["settings_text"]
        return {**fields, "confirmation": [difference.to_json() for difference in self.confirmation]}


def best(
    output: Path,
    uri: str | None = None,
    *,
    metric: str = "fid",
    experiment: str | None = None,
    data: str | None = None,
    process: str | None = None,
    study: str | None = None,
    fingerprint: str | None = None,
    confirmed: bool = False,
    curriculum: bool = False,
) -> BestRun:
    """Return what the best study among the finished trials that the filters leave stands for; see `choose`.

    The store is found as `Tracker.open` finds it, but never made. The best trial by `metric` (equal ones by
    images seen) names the study; with `confirmed` only studies with runs on fresh seeds count. `curriculum` asks for
    the best-looking curriculum even where it did not beat uniform sampling, and for no other arm. Raises `ConfigError`
    when there is no store or no finished trial that fits, and when the trials were measured by more than one protocol
    (`fingerprint`, or its start, picks one).
    """
    store = open_store(uri, output, create=False)
    trials = finished_trials(
        store,
        metric,
        experiment=experiment,
        data=data,
        process=process,
        study=study,
        fingerprint=fingerprint,
    )
    contending = _contending(trials, metric)
    if not contending:
        raise ConfigError(
            f"only uniform sampling has finished in {store.shown}: there is no schedule to choose yet"
        )
    if curriculum:
        contending = [each for each in contending if each.record.has_curriculum]
        if not contending:
            raise ConfigError(
                f"no arm in {store.shown} that fits has a curriculum: leave --curriculum out to ask for the best arm"
            )
    if confirmed:
        tested = {each.parent for each in contending if each.record.role == "confirmation"}
        contending = [each for each in contending if each.parent in tested]
        if not contending:
            raise ConfigError(f"no schedule in {store.shown} that fits was confirmed on fresh seeds")
    top = next((each for each in contending if each.record.role != "confirmation"), contending[0])
    study_of = {each.record.key: each for each in trials if each.parent == top.parent}
    margin, own = study_rule(store, top.parent)
    records = [*(each.record for each in study_of.values()), *failed_confirmations(store, top.parent)]
    ranking = Ranking.of(records, metric, margin)
    choice = choose(ranking)
    assert choice is not None
    arm = choice.curriculum if curriculum else choice.arm
    record = arm.records[0]
    found = study_of[record.key]
    ours, theirs = scores(choice.curriculum, ranking.uniform, metric)
    plain = None if ranking.uniform is None else study_of[ranking.uniform.records[0].key]
    text, schedule = schedule_file(store, found.run_id)
    return BestRun(
        experiment=found.experiment,
        study=found.study,
        verdict=choice.verdict,
        among="curriculum" if choice.curriculum.has_curriculum else "arm",
        curriculum=ours,
        uniform=theirs,
        trial=record.key,
        run_id=found.run_id,
        data=found.data,
        process=found.process,
        fingerprint=record.fingerprint or "",
        metric=metric,
        metrics=record.metrics,
        images=record.images,
        seed=record.seed,
        control=arm.control,
        description=arm.description,
        name=arm.name,
        schedule=schedule,
        schedule_text=text,
        besides={} if plain is None else _besides_schedule(found.settings, plain.settings),
        settings_text=artifact_text(store, found.run_id, CONFIG_FILE),
        confirmation=against_uniform(ranking) if choice.curriculum.confirmed else [],
        sentence=answer(ranking) if own in (None, metric) else f"{answer(ranking)}; {_not_own(metric, own)}",
    )


def _contending(trials: Sequence[FinishedTrial], metric: str) -> list[FinishedTrial]:
    """The runs of the arms that their studies may stand for, in the order of `trials`."""
    studies: dict[str, list[TrialRecord]] = {}
    for each in trials:
        studies.setdefault(each.parent, []).append(each.record)
    keys = {
        (parent, record.key)
        for parent, records in studies.items()
        for arm in Ranking.of(records, metric).contenders
        for record in arm.records
    }
    return [each for each in trials if (each.parent, each.record.key) in keys]


def _besides_schedule(ours: Mapping[str, str], uniform: Mapping[str, str]) -> dict[str, str]:
    """What sets a run apart from uniform sampling's besides its schedule; empty where either is not known."""
    alike = ("schedule.", "seed", "preview")
    return {
        key: value
        for key, value in sorted(ours.items())
        if uniform and value != uniform.get(key) and not key.startswith(alike)
    }


def _not_own(metric: str, own: str) -> str:
    """What a comparison by another metric than the study's is not."""
    return (
        f"{metric_name(metric)} is not the metric of this study, which is {metric_name(own)}: "
        "the 95% do not cover what is said here"
    )
