"""What was seen of published claims: the contents of claims.json, from which the table and the page are made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pydantic

from curriculum_ray.config import load_json
from curriculum_ray.config.stored import Stored
from curriculum_ray.data import data_info
from curriculum_ray.data.summary import quiet
from curriculum_ray.diffusion import build_process
from curriculum_ray.models import build_model
from curriculum_ray.runs.config import RunConfig
from tuning.claims.claim import ArmRole
from tuning.evidence.compared import Compared

__all__ = [
    "ArmResult",
    "ClaimEntry",
    "ClaimResult",
    "ClaimsTable",
    "Setting",
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
    failed: int = 0
    """Runs that failed."""
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
    """Uniform sampling's mean metric; None without a finished run."""
    uniform_failed: int = 0
    """Runs of uniform sampling that failed."""
    seeds: int
    """Fresh seeds on which the runs of all arms have ended, those that failed among them."""
    allowed: tuple[int, int] | None = None
    """The least and the most fresh seeds that the study's last start allowed; None for those of the claim's file."""
    settled: bool
    """Whether every answer stands, so that no further seed was needed."""
    fingerprint: str
    """Of the protocol; empty without a finished run."""
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
    """The least and the most that are allowed by its file."""
    result: ClaimResult | None
    """None where it was not run yet."""

    @property
    def allowed(self) -> tuple[int, int]:
        """The least and the most fresh seeds of its study."""
        return (self.result and self.result.allowed) or self.seeds


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


def setting_of(run: RunConfig) -> Setting:
    """The size of the runs of a study: reads the data, of a stream only its headers, and builds the network."""
    # Each `DataWarning` is also in the summary, which the study printed.
    with quiet():
        data = data_info(run.data)
    network = build_model(run.model, data.shape, data.conditioning)
    return Setting(
        data=data.name,
        shape=tuple(data.shape),
        process=build_process(run.process).name,
        network=run.model.kind,
        parameters=sum(value.numel() for value in network.parameters()),
        images=run.total_images,
    )
