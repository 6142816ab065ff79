"""A published claim about timesteps as a file: its source, what it says, and the study that puts it to the test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from curriculum_ray.config import YAML_SUFFIXES, ConfigError, Spec, load_yaml, parse
from curriculum_ray.config.shown import fits_a_line, shown
from curriculum_ray.distributed.resources import ResourceSpec
from curriculum_ray.models.named_code import check_named_code
from curriculum_ray.runs.config import RunConfig
from tuning.study.config import Metric, StudyConfig
from tuning.study.named_arms import check_arms
from tuning.study.plan import plain_schedule

__all__ = ["CLAIMS", "ArmRole", "Claim", "ClaimArm", "Source", "claim_files", "load_claim", "load_claims"]

CLAIMS = Path("examples/claims")
"""Where the claims that come with the project lie, seen from its root."""

ArmRole = Literal["claim", "reverse", "control", "rival"]


def _line(text: str) -> str:
    """One line without bars, which divide the cells of a table."""
    if not fits_a_line(text) or "|" in text or text != text.strip():
        raise ValueError(
            f"a text must be one line, without | and without spaces at its ends, but got {shown(text)}"
        )
    return text


Line = Annotated[str, Field(min_length=1, max_length=400), AfterValidator(_line)]


class Source(Spec):
    """Where a claim was published."""

    authors: Line
    """E.g. Hang et al."""
    year: int = Field(ge=1950, le=2100)
    """The year of the version that is cited."""
    title: Line
    """The title of the publication."""
    arxiv: str | None = Field(default=None, pattern=r"^\d{4}\.\d{4,5}$")
    """Its number on arXiv, in quotes; null where it has none."""
    doi: str | None = Field(default=None, pattern=r"^10\.\d{4,9}/[^\s|]+$")
    """Its DOI, where it has no number on arXiv."""
    where: Line
    """The section and equation, and the values that are tested."""

    @model_validator(mode="after")
    def _can_be_found(self) -> Source:
        if (self.arxiv is None) == (self.doi is None):
            got = "neither" if self.arxiv is None else "both"
            raise ValueError(f"a source must have either an arxiv number or a doi, but got {got}")
        return self

    def in_words(self) -> str:
        """E.g. "Hang et al. 2023, arXiv 2303.09556"."""
        number = f"arXiv {self.arxiv}" if self.arxiv else f"doi {self.doi}"
        return f"{self.authors} {self.year}, {number}"

    @property
    def link(self) -> str:
        """Its address."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else f"https://doi.org/{self.doi}"


class ClaimArm(Spec):
    """An arm of the study that tests a claim."""

    role: ArmRole
    """claim is what was published; reverse does the opposite, control lacks what is said to matter, and rival is the
    best other change."""
    about: Line
    """What it does, in a few words."""
    set: dict[str, Any] = Field(min_length=1)
    """The settings in which it differs from uniform sampling, nested or with dotted keys."""


class Claim(Spec):
    """A claim about timesteps and the study of named arms that tests it; equal values continue the same study."""

    version: Literal[1]
    """The version of the file's format."""
    name: str = Field(pattern=r"^[a-z0-9_]{1,40}$")
    """The name of its file without the ending."""
    title: Line
    """A few words for the table."""
    source: Source
    """Where it was published."""
    says: Line
    """What the publication says, in one sentence."""
    asks: Line
    """What is asked here, in one sentence."""
    arms: dict[str, ClaimArm] = Field(min_length=1, max_length=6)
    """The arms beside uniform sampling: that of the claim first, then those that it is compared with, in turn."""
    run: RunConfig = RunConfig()
    """The run that all arms share: data, network, budget, evaluation."""
    metric: Metric = "fid"
    """The metric that is compared."""
    margin: float = Field(default=0.02, gt=0, lt=1)
    """A difference known to be smaller than this share of uniform sampling's metric counts as equal."""
    seeds: tuple[int, int] = (3, 6)
    """The least and the most fresh seeds."""

    @model_validator(mode="after")
    def _one_claim_first(self) -> Claim:
        roles = [arm.role for arm in self.arms.values()]
        if roles[0] != "claim" or roles.count("claim") > 1:
            raise ValueError(
                f"the first arm, and no other, must have the role claim, but got {', '.join(roles)}"
            )
        return self

    @model_validator(mode="after")
    def _can_be_compared(self) -> Claim:
        study = self.study()
        check_arms(study, plain_schedule(study))
        return self

    def study(
        self, seeds: int | tuple[int, int] | None = None, resources: ResourceSpec | None = None
    ) -> StudyConfig:
        """The study that tests it. seeds: the least and the most, instead of its own."""
        return parse(
            StudyConfig,
            {
                "run": self.run,
                "arms": {name: arm.set for name, arm in self.arms.items()},
                "confirm_seeds": seeds or self.seeds,
                "margin": self.margin,
                "metric": self.metric,
                "resources": resources or ResourceSpec(),
            },
            "study",
        )

    @property
    def study_name(self) -> str:
        """The name of its study and of the study's folder."""
        return f"claim-{self.name}"

    @property
    def digest(self) -> str:
        """Of what decides its results, as the file gives it: 12 hex digits."""
        arms = {name: arm.set for name, arm in self.arms.items()}
        parts = [arms, self.run.model_dump(mode="json", exclude_unset=True), self.metric]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def load_claim(path: Path, trusted: bool = False) -> Claim:
    """Read a claim from a YAML file; ConfigError, one line, for anything that is wrong with it.

    trusted: whether it may name code to import.
    """
    data = load_yaml(path)
    if "name" in data:
        raise ConfigError(f"{path}: remove the key name: a claim is named after its file")
    check_named_code(data, str(path), trusted=trusted)
    return parse(Claim, {"name": path.stem, **data}, str(path))


def claim_files(folder: Path) -> list[Path]:
    """The files of claims in a folder, sorted; none where there is no folder."""
    return sorted(path for path in folder.glob("*") if path.suffix in YAML_SUFFIXES)


def load_claims(names: Iterable[str], folder: Path, trusted: bool = False) -> list[Claim]:
    """Read the claims of these names from `folder`, or all of it; a name may also be the path of a file.

    ConfigError names those that there are where there is none of a name.
    """
    files = claim_files(folder)
    known = {path.stem for path in files}
    paths = []
    for name in dict.fromkeys(names):
        if name in known:
            paths += [path for path in files if path.stem == name]
            continue
        path = Path(name)
        if path.suffix not in YAML_SUFFIXES:
            there = f"{folder} has {', '.join(sorted(known))}" if known else f"{folder} has none"
            raise ConfigError(f"no claim is called {shown(name)}: {there}")
        paths.append(path)
    if not paths and not files:
        raise ConfigError(
            f"{folder} holds no claims, i.e. no {' or '.join(YAML_SUFFIXES)} files: name another folder with --from"
        )
    claims = [load_claim(path, trusted) for path in paths or files]
    if twice := next(
        (each.name for each in claims if sum(each.name == one.name for one in claims) > 1), None
    ):
        raise ConfigError(f"two claims are called {twice}: a file's name is the name of its claim")
    return claims
