"""Pacing: when the next cluster joins. One file per rule, with its settings beside its state machine."""

from typing import Annotated

from pydantic import Field

from curriculum_ray.curriculum.pacing.base import Pacing, PacingState, caught_up
from curriculum_ray.curriculum.pacing.by_images import ByImages, FixedPacing
from curriculum_ray.curriculum.pacing.fractions import FamilyPacing, FixedExponentialPacing, SingleStepPacing
from curriculum_ray.curriculum.pacing.plateau import NormalizedPlateau, Plateau, PlateauPacing

__all__ = [
    "ByImages",
    "FamilyPacing",
    "FixedExponentialPacing",
    "FixedPacing",
    "NormalizedPlateau",
    "Pacing",
    "PacingSpec",
    "PacingState",
    "Plateau",
    "PlateauPacing",
    "SingleStepPacing",
    "caught_up",
]

PacingSpec = Annotated[
    PlateauPacing | FixedPacing | FamilyPacing | FixedExponentialPacing | SingleStepPacing,
    Field(discriminator="rule"),
]
