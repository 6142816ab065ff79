"""The optimiser's settings, and its rate over images seen: a warm-up, then constant, cosine, linear or 1/sqrt."""

from __future__ import annotations

import inspect
import math
import re
from types import MappingProxyType
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from curriculum_ray.config import Spec
from curriculum_ray.models.named_code import PYTHON

__all__ = ["ELEMENTWISE", "OPTIMIZERS", "OptimizerSpec", "learning_rate"]

OPTIMIZERS = MappingProxyType(
    {
        "adamw": "AdamW",
        "adam": "Adam",
        "sgd": "SGD",
        "radam": "RAdam",
        "nadam": "NAdam",
        "adafactor": "Adafactor",
    }
)
"""Names of optimisers, and their classes in torch.optim."""
ELEMENTWISE = frozenset(OPTIMIZERS) - {"adafactor"}
"""Those that update each number by itself, so that a shard of a weight is updated as the whole is."""
_PATH = re.compile(rf"{PYTHON}[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_SET_ELSEWHERE = (
    "params",
    "lr",
    "betas",
    "weight_decay",
    "foreach",
    "fused",
    "maximize",
    "capturable",
    "differentiable",
)


class OptimizerSpec(Spec):
    """An optimiser, by default AdamW (Loshchilov & Hutter 2019), with a linear warm-up and a decay."""

    kind: str = "adamw"
    """adamw, adam, sgd, radam, nadam or adafactor, those of torch.optim, or `python:package.module.Class`, a subclass
    of torch.optim.Optimizer that is made as Class(weights, lr=…, **options)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the class, e.g. {momentum: 0.9} for sgd."""
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    """Peak learning rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay: decoupled for adamw and adafactor, of the gradient for the others, unless their option
    decoupled_weight_decay is set."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay rates of the first and second moment, each in [0, 1), of optimisers that have them."""
    warmup_images: int = Field(default=2560, ge=0)
    """Images over which the learning rate rises linearly from 0."""
    schedule: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "constant"
    """The rate after the warm-up; cosine and linear end with the budget."""
    final_share: float = Field(default=0.0, ge=0, le=1)
    """The share of the peak at which cosine and linear end."""
    reference_images: int | None = Field(default=None, ge=1)
    """Images after which inverse_sqrt begins to fall (EDM2's t_ref, Karras et al. 2024, Eq. 67)."""
    clip_grad_norm: float = Field(default=1.0, gt=0)
    """Maximum norm of the whole gradient; larger ones are scaled down to it."""

    @model_validator(mode="after")
    def _betas_in_range(self) -> OptimizerSpec:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optimizer.betas must lie in [0, 1), but got {list(self.betas)}")
        return self

    @model_validator(mode="after")
    def _kind_and_options_are_known(self) -> OptimizerSpec:
        if self.kind not in OPTIMIZERS and not _PATH.fullmatch(self.kind):
            raise ValueError(
                f"optimizer.kind must be {', '.join(OPTIMIZERS)} or python:package.module.Class, but got {self.kind}"
            )
        for key in self.options:
            if key in _SET_ELSEWHERE:
                raise ValueError(
                    f"optimizer.options.{key} is not set here: optimizer has keys for what may be set"
                )
        if self.kind not in OPTIMIZERS:
            return self
        takes = inspect.signature(getattr(torch.optim, OPTIMIZERS[self.kind])).parameters
        unknown = sorted(self.options.keys() - takes.keys())
        if unknown:
            known = [key for key in takes if key not in _SET_ELSEWHERE]
            raise ValueError(
                f"optimizer.options of {self.kind} must be among {', '.join(known)}, but got {unknown[0]}"
            )
        if "betas" not in takes and self.betas != type(self).model_fields["betas"].default:
            raise ValueError(f"optimizer.betas is not taken by {self.kind}, but got {list(self.betas)}")
        return self

    @model_validator(mode="after")
    def _schedule_applies(self) -> OptimizerSpec:
        falls = self.schedule == "inverse_sqrt"
        if falls != (self.reference_images is not None):
            raise ValueError(
                f"optimizer.reference_images belongs to the schedule inverse_sqrt and is needed there, "
                f"but it is {self.reference_images} with {self.schedule}"
            )
        if self.final_share and self.schedule not in ("cosine", "linear"):
            raise ValueError(
                f"optimizer.final_share belongs to the schedules cosine and linear, "
                f"but it is {self.final_share} with {self.schedule}"
            )
        return self


def learning_rate(spec: OptimizerSpec, images: int, total_images: int) -> float:
    """The rate of the update that brings the count to `images`, out of `total_images`.

    warm-up: min(1, images / warmup_images). cosine: f + (1 - f)(1 + cos(pi p))/2 (Loshchilov & Hutter 2017, Eq. 5)
    and linear: 1 - (1 - f) p, with p the share of the time after the warm-up and f = final_share.
    inverse_sqrt: 1 / sqrt(max(images / reference_images, 1)) (Karras et al. 2024, Eq. 67).
    """
    warmup = min(1.0, images / spec.warmup_images) if spec.warmup_images else 1.0
    return spec.learning_rate * warmup * _decay(spec, images, total_images)


def _decay(spec: OptimizerSpec, images: int, total_images: int) -> float:
    if spec.schedule == "constant":
        return 1.0
    if spec.schedule == "inverse_sqrt":
        assert spec.reference_images is not None
        return 1.0 / math.sqrt(max(images / spec.reference_images, 1.0))
    passed = max(images - spec.warmup_images, 0) / max(total_images - spec.warmup_images, 1)
    share = (1.0 + math.cos(math.pi * passed)) / 2 if spec.schedule == "cosine" else 1.0 - passed
    return spec.final_share + (1.0 - spec.final_share) * share
