"""What was seen of published claims: the contents of claims.json, from which the table and the page are made."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import pydantic

from curriculum_ray.config import load_json
from curriculum_ray.config.stored import Stored
from curriculum_ray.data import load_data
from curriculum_ray.diffusion import build_process
from curriculum_ray.models import build_model
from curriculum_ray.runs.config import RunConfig
from tuning.claims.claim import ArmRole, Claim
from tuning.evidence.arms import Ranking
from tuning.evidence.compared import Compared, compared
from tuning.evidence.in_turn import Answers, answers_of
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord, load_records
from tuning.folder.layout import RECORD_FILE

__all__ = [
    "ArmResult",
    "ClaimEntry",
    "ClaimResult",
    "ClaimsTable",
    "Setting",
    "entry_of",
    "setting_of",
]


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Setting(_Frozen):
    """The size at which a claim was put to the test."""

    data: str
    shape: tuple[int, ...]
    """Of an item."""
    process: str
    """E.g. ddpm-epsilon."""
    network: str
    """Its kind."""
    parameters: int
    images: int
    """The budget of each run."""


class ArmResult(_Frozen):
    """An arm of a claim's study."""

    name: str
    role: ArmRole
    about: str
    mean: float | None
    """Its metric over the fresh seeds; None without a finished run."""
    runs: int
    """Finished runs."""
    against_uniform: Compared | None
    """None with fewer than three fresh seeds."""
    against_claim: Compared | None
    """The claim's arm against this one; None for that arm itself, and with fewer than three fresh seeds."""
    asked: bool
    """Whether `against_claim` counts: all comparisons before it were won."""


class ClaimResult(_Frozen):
    """What was seen of a claim."""

    arms: tuple[ArmResult, ...]
    """That of the claim first."""
    uniform: float | None
    """Uniform sampling's mean metric."""
    seeds: int
    """Fresh seeds that all arms have."""
    settled: bool
    """Whether every answer stands, so that no further seed was needed."""
    fingerprint: str
    """Of the protocol."""
    date: str
    """When the last run ended: YYYY-MM-DD, UTC."""
    digest: str
    """Of the settings in the claim's file."""
    setting: Setting


class ClaimEntry(_Frozen):
    """A claim and what was seen of it."""

    name: str
    title: str
    source: str
    link: str
    where: str
    says: str
    asks: str
    metric: str
    margin: float
    seeds: tuple[int, int]
    """The least and the most that are allowed."""
    result: ClaimResult | None
    """None where it was not run yet."""


class ClaimsTable(Stored):
    """The contents of claims.json."""

    kind: Literal["curriculum-ray claims"]
    """Tells the file from those of others."""
    claims: tuple[ClaimEntry, ...]

    @classmethod
    def load(cls, path: Path) -> ClaimsTable:
        """Read it; empty where there is no such file. ConfigError where it is another one, not to be written over."""
        return cls.from_json(load_json(path), str(path)) if path.exists() else cls.of([])

    @classmethod
    def of(cls, entries: Iterable[ClaimEntry]) -> ClaimsTable:
        """The table of these claims."""
        return cls(kind="curriculum-ray claims", claims=tuple(entries))

    def updated(self, claims: Iterable[Claim], output: Path) -> ClaimsTable:
        """The table of these claims, by their studies in the folder `output`.

        A claim without a study there keeps its earlier result if its settings are the same.
        """
        earlier = {entry.name: entry.result for entry in self.claims}
        entries = []
        for claim in claims:
            entry, before = entry_of(claim, output), earlier.get(claim.name)
            if entry.result is None and before is not None and before.digest == claim.digest:
                entry = entry.model_copy(update={"result": before})
            entries.append(entry)
        return ClaimsTable.of(entries)


def setting_of(run: RunConfig) -> Setting:
    """The size of the runs of a study: reads the data and builds the network."""
    data = load_data(run.data)
    network = build_model(run.model, data.shape, data.conditioning)
    return Setting(
        data=data.name,
        shape=tuple(data.shape),
        process=build_process(run.process).name,
        network=run.model.kind,
        parameters=sum(value.numel() for value in network.parameters()),
        images=run.total_images,
    )


def entry_of(claim: Claim, output: Path) -> ClaimEntry:
    """A claim and what its study in the folder `output` has seen so far."""
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
        result=_result(claim, output / claim.study_name),
    )


def _result(claim: Claim, folder: Path) -> ClaimResult | None:
    records = load_records(folder)
    finished = [record for record in records.values() if record.status == "finished"]
    if not finished:
        return None
    ranking = Ranking.of(records.values(), claim.metric, claim.margin)
    answers = answers_of(ranking, list(claim.arms))
    by_arm = _values(finished, claim.metric)
    uniform = by_arm.get(TrialKey.uniform(), {})
    values = {name: by_arm.get(TrialKey.arm(name), {}) for name in claim.arms}
    shared = set(uniform).intersection(*values.values())
    ended = max((record.ran_in / RECORD_FILE).stat().st_mtime for record in finished)
    return ClaimResult(
        arms=tuple(_arm(claim, name, values[name], answers) for name in claim.arms),
        uniform=_mean(uniform),
        seeds=len(shared),
        settled=answers.settled,
        fingerprint=finished[0].fingerprint or "",
        date=datetime.datetime.fromtimestamp(ended, datetime.UTC).date().isoformat(),
        digest=claim.digest,
        setting=setting_of(claim.run),
    )


def _values(records: Iterable[TrialRecord], metric: str) -> dict[str, dict[int, float]]:
    """The metric by seed of each arm, by the key of what it repeats."""
    found: dict[str, dict[int, float]] = {}
    for record in records:
        if record.origin is not None and metric in record.metrics:
            found.setdefault(record.origin, {})[record.seed] = record.metrics[metric]
    return found


def _arm(claim: Claim, name: str, values: Mapping[int, float], answers: Answers) -> ArmResult:
    return ArmResult(
        name=name,
        role=claim.arms[name].role,
        about=claim.arms[name].about,
        mean=_mean(values),
        runs=len(values),
        against_uniform=compared(answers.against_uniform.get(name)),
        against_claim=compared(answers.in_turn.get(name)),
        asked=name in answers.asked,
    )


def _mean(values: Mapping[int, float]) -> float | None:
    return sum(values.values()) / len(values) if values else None
