"""How hard each noise level is to learn, measured on probe models: convergence speed and gradients."""

from curriculum_ray.training.difficulty.convergence import final_loss, normalised, steps_until
from curriculum_ray.training.difficulty.curves import convergence_curve, gradient_curve, loss_curve
from curriculum_ray.training.difficulty.gradients import (
    GradientMoments,
    cosines,
    gradient_moments,
    noise_scale,
)
from curriculum_ray.training.difficulty.probe import ProbeRun, ProbeSpec, evaluation_steps, train_probe

__all__ = [
    "GradientMoments",
    "ProbeRun",
    "ProbeSpec",
    "convergence_curve",
    "cosines",
    "evaluation_steps",
    "final_loss",
    "gradient_curve",
    "gradient_moments",
    "loss_curve",
    "noise_scale",
    "normalised",
    "steps_until",
    "train_probe",
]
