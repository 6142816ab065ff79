"""Timestep curricula: which noise levels to train when. Torch only; usable in anybody's training loop."""

from curriculum_ray.curriculum.active import ActiveSpec, CumulativeSet, NewestWeightedSet, WindowSet
from curriculum_ray.curriculum.base import (
    EDM,
    EDM2,
    BaseSpec,
    Beta,
    LaplaceLogSnr,
    LogitNormal,
    LogNormalSigma,
    Mode,
    Speed,
    Uniform,
    default_base,
)
from curriculum_ray.curriculum.clusters import (
    ClustersSpec,
    CurveClusters,
    ExplicitClusters,
    GradientClusters,
    LogSnrClusters,
    UniformClusters,
    cluster_edges,
)
from curriculum_ray.curriculum.curve import DifficultyCurve
from curriculum_ray.curriculum.order import (
    ExplicitOrder,
    NoOrder,
    OrderSpec,
    RandomOrder,
    SortedOrder,
    join_order,
)
from curriculum_ray.curriculum.pacing import (
    FamilyPacing,
    FixedExponentialPacing,
    FixedPacing,
    PacingSpec,
    PlateauPacing,
    SingleStepPacing,
)
from curriculum_ray.curriculum.sampler import TimestepSampler
from curriculum_ray.curriculum.schedule import CurriculumSchedule

__all__ = [
    "EDM",
    "EDM2",
    "ActiveSpec",
    "BaseSpec",
    "Beta",
    "ClustersSpec",
    "CumulativeSet",
    "CurriculumSchedule",
    "CurveClusters",
    "DifficultyCurve",
    "ExplicitClusters",
    "ExplicitOrder",
    "FamilyPacing",
    "FixedExponentialPacing",
    "FixedPacing",
    "GradientClusters",
    "LaplaceLogSnr",
    "LogNormalSigma",
    "LogSnrClusters",
    "LogitNormal",
    "Mode",
    "NewestWeightedSet",
    "NoOrder",
    "OrderSpec",
    "PacingSpec",
    "PlateauPacing",
    "RandomOrder",
    "SingleStepPacing",
    "SortedOrder",
    "Speed",
    "TimestepSampler",
    "Uniform",
    "UniformClusters",
    "WindowSet",
    "cluster_edges",
    "default_base",
    "join_order",
]
