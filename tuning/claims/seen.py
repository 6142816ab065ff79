"""What was seen of claims: their entries in the table, from the records of their studies or from an earlier table."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tuning.claims.claim import Claim
from tuning.claims.results import ArmResult, ClaimEntry, ClaimResult, ClaimsTable, Setting, setting_of
from tuning.claims.tested import OtherStudy, tested_by
from tuning.evidence.arms import Ranking
from tuning.evidence.compared import compared
from tuning.evidence.in_turn import Answers, answers_of
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord, load_records
from tuning.folder.layout import RECORD_FILE
from tuning.study.config import StudyConfig

__all__ = ["entry_of", "updated"]


def updated(
    table: ClaimsTable, claims: Iterable[Claim], output: Path, note: Callable[[str], None] | None = None
) -> ClaimsTable:
    """The table of these claims by their studies in the folder `output`.

    A claim without a study there keeps its result in the earlier `table` if it is of the same settings; it is judged by
    the claim's margin. note: is given a line for each study that is passed over, see `entry_of`.
    """
    earlier = {entry.name: entry.result for entry in table.claims}
    entries = []
    for claim in claims:
        before = earlier.get(claim.name)
        if before is not None and before.digest != claim.digest:
            before = None
        entry = entry_of(claim, output, note, None if before is None else before.setting)
        if entry.result is None and before is not None:
            entry = entry.model_copy(update={"result": _judged(before, claim)})
        entries.append(entry)
    return ClaimsTable.of(entries)


def entry_of(
    claim: Claim, output: Path, note: Callable[[str], None] | None = None, setting: Setting | None = None
) -> ClaimEntry:
    """A claim and what its study in the folder `output` has seen so far.

    A study of other settings than the claim has now is passed over; `note` is given a line that says so. setting: that
    of the claim where it is known, so that its data need not be read.
    """
    folder, result = output / claim.study_name, None
    if records := load_records(folder):
        try:
            result = _result(claim, records.values(), tested_by(claim, folder), setting)
        except OtherStudy as error:
            if note is not None:
                note(f"{error}: its runs are passed over")
    return ClaimEntry(
        name=claim.name,
        title=claim.title,
        source=claim.source.in_words(),
        link=claim.source.link,
        where=claim.source.where,
        says=claim.says,
        asks=claim.asks,
        metric=claim.metric,
        margin=claim.margin,
        seeds=claim.seeds,
        result=result,
    )


def _result(
    claim: Claim, records: Collection[TrialRecord], ran: StudyConfig, setting: Setting | None
) -> ClaimResult:
    """What the runs that ended say. ran: the settings of their study; setting: see `entry_of`."""
    answers = answers_of(Ranking.of(records, claim.metric, claim.margin), list(claim.arms))
    uniform = _Runs.of(TrialKey.uniform(), records, claim.metric)
    runs = {name: _Runs.of(TrialKey.arm(name), records, claim.metric) for name in claim.arms}
    arms = tuple(_arm(claim, name, runs[name], answers) for name in claim.arms)
    ended = max((record.ran_in / RECORD_FILE).stat().st_mtime for record in records)
    return ClaimResult(
        arms=arms,
        uniform=uniform.mean,
        uniform_failed=len(uniform.failed),
        seeds=len(uniform.seeds.intersection(*(each.seeds for each in runs.values()))),
        allowed=ran.least_and_most_seeds,
        settled=_settled(arms),
        fingerprint=next((each.fingerprint for each in records if each.fingerprint is not None), ""),
        date=datetime.datetime.fromtimestamp(ended, datetime.UTC).date().isoformat(),
        digest=claim.digest,
        setting=setting or setting_of(ran.run),
    )


@dataclass(frozen=True)
class _Runs:
    """The runs of an arm on fresh seeds, as far as they have ended."""

    values: dict[int, float]
    """The metric by seed, of those that finished with one."""
    failed: frozenset[int]
    """The seeds of the others."""

    @classmethod
    def of(cls, key: TrialKey, records: Iterable[TrialRecord], metric: str) -> _Runs:
        own = [record for record in records if record.origin == key]
        return cls(
            {record.seed: record.metrics[metric] for record in own if record.measured(metric)},
            frozenset(record.seed for record in own if not record.measured(metric)),
        )

    @property
    def seeds(self) -> set[int]:
        return {*self.values, *self.failed}

    @property
    def mean(self) -> float | None:
        return fmean(self.values.values()) if self.values else None


def _arm(claim: Claim, name: str, runs: _Runs, answers: Answers) -> ArmResult:
    return ArmResult(
        name=name,
        role=claim.arms[name].role,
        about=claim.arms[name].about,
        mean=runs.mean,
        runs=len(runs.values),
        failed=len(runs.failed),
        against_uniform=compared(answers.against_uniform.get(name)),
        against_claim=compared(answers.in_turn.get(name)),
        asked=name in answers.asked,
    )


def _judged(result: ClaimResult, claim: Claim) -> ClaimResult:
    """An earlier result of the same settings, by the margin and in the words that the claim's file has now."""
    arms = tuple(
        arm.model_copy(
            update={
                "role": claim.arms[arm.name].role,
                "about": claim.arms[arm.name].about,
                "against_uniform": arm.against_uniform and arm.against_uniform.judged(claim.margin),
                "against_claim": arm.against_claim and arm.against_claim.judged(claim.margin),
            }
        )
        for arm in result.arms
    )
    return result.model_copy(update={"arms": arms, "settled": _settled(arms)})


def _settled(arms: Iterable[ArmResult]) -> bool:
    """Whether every answer stands: of all arms against uniform sampling, and of those asked about in turn."""
    answers = [
        answer
        for arm in arms
        for answer in (arm.against_uniform, *([arm.against_claim] if arm.asked else []))
    ]
    return all(answer is not None and answer.word != "undecided" for answer in answers)
