"""FID, KID, precision and recall by torch-fidelity's formulas, from statistics instead of images.

FID: Heusel et al. 2017, Eq. 6. KID: Bińkowski et al. 2018, §4. Precision and recall: Kynkäänniemi et al.
2019, §2.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from curriculum_ray.evaluation.tally import Tally

__all__ = ["Statistics", "calculate"]

_PRC_BATCH_SIZE = 1_000


@dataclass(frozen=True)
class Statistics:
    """What the metrics need of one side: mean (D,) and covariance (D, D) in float64, and features (n, D) or None."""

    mean: Tensor
    covariance: Tensor
    features: Tensor | None = None

    @classmethod
    def of(cls, tally: Tally) -> Statistics:
        """Those of a tally."""
        return cls(tally.moments.mean, tally.moments.covariance, tally.features.rows)


def calculate(
    samples: Statistics, reference: Statistics, *, kid_subsets: int, kid_subset_size: int
) -> dict[str, float]:
    """Return fid, and where both sides have features kid, precision and recall, of `samples` against `reference`.

    Precision is the share of samples within the manifold of the reference, recall the reverse.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    first, second = (
        {"mu": side.mean.numpy(), "sigma": side.covariance.numpy()} for side in (samples, reference)
    )
    metrics = {"fid": fid_statistics_to_metric(first, second, verbose=False)[KEY_METRIC_FID]}
    if samples.features is None or reference.features is None:
        return metrics
    kid = kid_features_to_metric(
        samples.features,
        reference.features,
        kid_subsets=kid_subsets,
        kid_subset_size=kid_subset_size,
        verbose=False,
    )
    near = prc_features_to_metric(
        samples.features,
        reference.features,
        prc_batch_size=_PRC_BATCH_SIZE,
        save_cpu_ram=True,  # whole matrices of distances would take gigabytes
        verbose=False,
    )
    return {
        **metrics,
        "kid": kid[KEY_METRIC_KID_MEAN],
        "precision": near[KEY_METRIC_PRECISION],
        "recall": near[KEY_METRIC_RECALL],
    }
