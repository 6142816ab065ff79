"""What a bundle needs of the files of a study: checked when they are packed, and again when they are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import pydantic

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.curriculum import CurriculumSchedule
from tuning.evidence.arms import Ranking
from tuning.evidence.metrics import MARGIN, direction
from tuning.evidence.records import TrialRecord
from tuning.folder.environment import Environments

__all__ = ["StudyIdentity", "StudySettings", "check_record", "ranked"]


def _known(metric: str) -> str:
    direction(metric)
    return metric


class StudySettings(pydantic.BaseModel):
    """Contents of study.json, and the settings in identity.json."""

    model_config = pydantic.ConfigDict(frozen=True, use_attribute_docstrings=True)

    run: dict[str, Any]
    """The settings that all runs share."""
    metric: Annotated[str, pydantic.AfterValidator(_known)]
    """The one by which arms are ranked."""


class StudyIdentity(pydantic.BaseModel):
    """Contents of identity.json."""

    model_config = pydantic.ConfigDict(frozen=True, use_attribute_docstrings=True)

    kind: Literal["study"]
    id: str = pydantic.Field(min_length=1)
    settings: StudySettings
    data: dict[str, Any]
    """See `describe_content`."""


class _Scheduled(pydantic.BaseModel):
    schedule: CurriculumSchedule


def check_record(record: TrialRecord, source: str) -> None:
    """Raise ConfigError, one line that begins with `source`, where a record has no schedule that can be read."""
    parse(_Scheduled, {"schedule": record.schedule}, source)


def ranked(
    records: Iterable[TrialRecord], identity: StudyIdentity, environments: Environments, source: str
) -> Ranking:
    """The ranking of a study's records; ConfigError, one line that begins with `source`, where they do not compare."""
    ranking = Ranking.of(records, identity.settings.metric, environments.margin or MARGIN)
    try:
        len(ranking.arms)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    return ranking
