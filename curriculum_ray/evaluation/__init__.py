"""FID, KID, precision and recall under a protocol with a fingerprint.

For the digits, with the shipped extractor (64 features, 99.72% accuracy on the held-out digits) and the
default protocol (DDIM, 20 steps), `benchmarks/metric_noise_floor.py` gives mean ± standard deviation

                                              n   FID          KID         precision      recall
    half of the digits against the rest     898    3.0 ± 0.7   0.0 ± 0.7    0.90 ± 0.01   0.90 ± 0.01
    one model over sampling seeds         1,797   11.2 ± 1.8   7.4 ± 1.8    0.48 ± 0.01   0.91 ± 0.01
                                          2,000   10.9 ± 1.4   7.5 ± 1.7    0.48 ± 0.01   0.91 ± 0.01
                                          5,000   10.1 ± 0.7   7.1 ± 1.0    0.47 ± 0.01   0.91 ± 0.01
    two models' difference, seeds shared  1,797   -0.3 ± 0.6   0.3 ± 0.8   -0.02 ± 0.02   0.00 ± 0.01
                                          2,000   -0.4 ± 0.6   0.3 ± 0.6   -0.02 ± 0.01   0.01 ± 0.01
                                          5,000   -0.2 ± 0.4   0.5 ± 0.7   -0.03 ± 0.01   0.01 ± 0.00

So arms share the sampling seed, which is part of the protocol, and are compared in pairs.
"""

from curriculum_ray.evaluation.evaluator import Evaluator
from curriculum_ray.evaluation.grid import grid_png, save_grid
from curriculum_ray.evaluation.preparation import prepare
from curriculum_ray.evaluation.spec import EvaluationSpec

__all__ = ["EvaluationSpec", "Evaluator", "grid_png", "prepare", "save_grid"]
