"""FID, KID, precision and recall under a protocol that has a fingerprint."""

from curriculum_ray.evaluation.evaluator import Evaluator, prepare
from curriculum_ray.evaluation.grid import save_grid
from curriculum_ray.evaluation.spec import EvaluationSpec, require_same_fingerprint

__all__ = ["EvaluationSpec", "Evaluator", "prepare", "require_same_fingerprint", "save_grid"]
