"""How hard each noise level is, measured without a model: log-SNR and relative entropy. Torch only."""

from curriculum_ray.curriculum.difficulty.curves import gaussian_curve, relative_entropy_curve, snr_curve
from curriculum_ray.curriculum.difficulty.gaussian import gaussian_relative_entropy, principal_moments
from curriculum_ray.curriculum.difficulty.marginals import Mixture, level_scales
from curriculum_ray.curriculum.difficulty.monte_carlo import (
    RelativeEntropy,
    choose_timesteps,
    relative_entropy,
)

__all__ = [
    "Mixture",
    "RelativeEntropy",
    "choose_timesteps",
    "gaussian_curve",
    "gaussian_relative_entropy",
    "level_scales",
    "principal_moments",
    "relative_entropy",
    "relative_entropy_curve",
    "snr_curve",
]
