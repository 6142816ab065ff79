"""FID, KID, precision and recall by torch-fidelity's `calculate_metrics` with any network.

FID: Heusel et al. 2017, Eq. 6. KID: Bińkowski et al. 2018, §4. Precision and recall: Kynkäänniemi et al.
2019, §2.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["calculate", "extract_features", "register_extractor"]

_PRC_BATCH_SIZE = 1_000


def register_extractor(name: str, network: nn.Module) -> nn.Module:
    """Register `network` with torch-fidelity as `name`, unless that exists; return the registered network.

    The registered extractor also accepts features, floats (B, D), and returns them, so that those of the
    reference are extracted once per process. torch-fidelity's own cache unpickles files, and is not used.
    """
    from torch_fidelity import FeatureExtractorBase, register_feature_extractor
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    if name in FEATURE_EXTRACTORS_REGISTRY:
        known: nn.Module = FEATURE_EXTRACTORS_REGISTRY[name].shared
        return known

    class Extractor(FeatureExtractorBase):  # type: ignore[misc]
        shared = network

        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)
            self.network = self.shared

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("features",)

        @staticmethod
        def get_default_feature_layer_for_metric(_: str) -> str:
            return "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, batch: Tensor) -> tuple[Tensor]:
            return (self.network(batch) if batch.dtype == torch.uint8 else batch,)

    register_feature_extractor(name, Extractor)
    return network


@torch.no_grad()
def extract_features(network: nn.Module, images: Tensor, batch_size: int, device: torch.device) -> Tensor:
    """Return the features (n, D) of `images` (n, *shape) on the CPU; `network` is on `device`."""
    return torch.cat([network(batch.to(device)).cpu() for batch in images.split(batch_size)])


class _Tensors(torch.utils.data.Dataset[Tensor]):
    """The rows of a tensor as a data set for torch-fidelity."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return self.rows[index]


def calculate(
    extractor: str,
    samples: Tensor,
    reference: Tensor,
    *,
    batch_size: int,
    kid_subsets: int,
    kid_subset_size: int,
    device: torch.device,
) -> dict[str, float]:
    """Return fid, kid, precision and recall of `samples` against the features `reference` (m, D).

    Precision is the share of samples within the manifold of the reference, recall the reverse. samples: uint8
    images (n, C, H, W), or features (n, D). Torch's random state is preserved.
    """
    import torch_fidelity

    on_gpu = device.type == "cuda"
    # torch-fidelity's data loader draws a seed from the global stream.
    with torch.random.fork_rng(devices=[]), torch.cuda.device(device) if on_gpu else nullcontext():
        metrics = torch_fidelity.calculate_metrics(
            input1=_Tensors(samples),
            input2=_Tensors(reference),
            feature_extractor=extractor,
            fid=True,
            kid=True,
            prc=True,
            kid_subsets=kid_subsets,
            kid_subset_size=kid_subset_size,
            prc_batch_size=_PRC_BATCH_SIZE,
            batch_size=batch_size,
            cuda=on_gpu,
            cache=False,
            save_cpu_ram=True,  # starts no loader processes
            verbose=False,
        )
    return {
        "fid": metrics[torch_fidelity.KEY_METRIC_FID],
        "kid": metrics[torch_fidelity.KEY_METRIC_KID_MEAN],
        "precision": metrics[torch_fidelity.KEY_METRIC_PRECISION],
        "recall": metrics[torch_fidelity.KEY_METRIC_RECALL],
    }
