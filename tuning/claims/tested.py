"""The study that tested a claim, as it was run: its settings, which must be those that the claim's file has now."""

from __future__ import annotations

from pathlib import Path

from curriculum_ray.config import ConfigError, differences, load_yaml, parse
from tuning.claims.claim import Claim
from tuning.folder.environment import Environments
from tuning.folder.layout import ENVIRONMENT_FILE, STUDY_FILE
from tuning.study.config import StudyConfig
from tuning.study.ranges import with_batch_size
from tuning.study.space import SearchSpace

__all__ = ["OtherStudy", "tested_by"]


class OtherStudy(ConfigError):
    """A folder does not hold the study of a claim, or not as its file has it now."""


def tested_by(claim: Claim, folder: Path) -> StudyConfig:
    """The settings of the study in `folder`, with the seeds that its last start allowed.

    OtherStudy where they cannot be read, or where the claim's file has others now. Files count by their paths here, as
    none is read: a study whose files were moved counts once the same command has continued it.
    """
    file = folder / STUDY_FILE
    asked = (Environments.read(folder / ENVIRONMENT_FILE) or Environments()).asked
    try:
        settings = {**load_yaml(file), "confirm_seeds": asked.get("confirm_seeds", claim.seeds)}
        ran = parse(StudyConfig, settings, str(file))
    except ConfigError as error:
        raise OtherStudy(f"{folder} holds a study of unknown settings ({error})") from None
    if changed := differences(ran.decisive(), _as_started(claim, ran).decisive()):
        raise OtherStudy(f"{folder} holds a study of other settings than claim {claim.name} has ({changed})")
    return ran


def _as_started(claim: Claim, ran: StudyConfig) -> StudyConfig:
    """The claim's study as a start settles it: with its batch size, and the hash of the weights that `ran` began at."""
    study, _ = with_batch_size(claim.study(), SearchSpace.of_arms())
    own, before = study.run.init_from, ran.run.init_from
    if own is None or before is None or own.sha256 is not None:
        return study
    start = own.model_copy(update={"sha256": before.sha256})
    return study.model_copy(update={"run": study.run.model_copy(update={"init_from": start})})
