"""Settings of an evaluation, and the fingerprint that two numbers must share to be compared."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from curriculum_ray.config import LocalPath, Shorthand, Spec
from curriculum_ray.config.parsing import SHA256
from curriculum_ray.evaluation.clip_score import ClipSpec

__all__ = ["EvaluationSpec", "ExtractorName", "fingerprint"]

ExtractorName = Literal["auto", "digits-cnn", "inception-v3", "dinov2", "random-cnn", "random-fourier", "raw"]


class EvaluationSpec(Spec):
    """How samples are drawn from a model and compared."""

    extractor: ExtractorName = "auto"
    """Network whose features are compared; `auto` selects digits-cnn for grey 8x8 images, random-cnn
    for the embedded photos and shapes, inception-v3 for other images and decoded latents, random-fourier for
    points, raw for signals, and that of a reference file, where there is one."""
    weights: LocalPath | None = None
    """Local copy of inception-v3's weights-inception-2015-12-05-6726825d.pth, by default a download; for dinov2 the
    folder of a DINOv2 as transformers writes it, which it needs."""
    sha256: str | None = Field(default=None, pattern=SHA256)
    """SHA-256 that `weights` must have: by default that of the published file of inception-v3; for dinov2 that of its
    files' SHA-256 in the order of their names, which is checked only where it is given."""
    reference: LocalPath | None = None
    """File of statistics to compare with, from `tune reference`, or an `.npz` of mu and sigma as ADM and EDM publish,
    which gives FID only; by default the training items, or of latents the held-out ones, decoded."""
    num_samples: int = Field(default=2_000, ge=1, le=1_000_000)
    """Images to generate; FID falls with their number, so that only equal numbers are comparable."""
    features: int = Field(default=10_000, ge=0, le=1_000_000)
    """Samples, and real items, whose features are kept for KID, precision and recall, at least 16; 0 leaves these
    metrics out. FID counts all of them, in memory that does not grow with their number."""
    sampler: Literal["auto", "ddim", "ancestral", "heun", "euler", "stochastic"] = "auto"
    """How the process is run backwards; `auto` is ddim for DDPM, heun for EDM and flow matching. EDM's
    stochastic sampler uses process.churn."""
    steps: int = Field(default=20, ge=1, le=100_000)
    """Steps of the sampler; the model is evaluated once per step, with heun twice."""
    batch_size: int = Field(default=500, ge=1, le=1_000_000)
    """The most images generated at a time; an eighth of all is enough. With ddim it affects only memory and speed."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the sampling noise: equal for all arms of a comparison, whatever their training seeds."""
    ema: bool = True
    """Whether the average of the weights is evaluated instead of the weights."""
    guidance: tuple[float, ...] | float = 1.0
    """Scale of classifier-free guidance at which a conditional model is scored, 1 is none; or several, each of which
    draws its samples: the first is that of `fid` and the other metrics, the second of e.g. `fid_at_2`."""
    guidance_interval: tuple[float, float] | None = None
    """The lowest and highest noise that is guided, as sigma, its standard deviation on unscaled data (Kynkäänniemi et
    al. 2024); null for all."""

    clip_score: Annotated[ClipSpec | None, Shorthand.of("path", str)] = None
    """How samples fit their captions (CLIP score, Hessel et al. 2021), where the data have captions as words; null for
    none."""

    @field_validator("guidance")
    @classmethod
    def _scales(cls, guidance: tuple[float, ...] | float) -> tuple[float, ...] | float:
        scales = guidance if isinstance(guidance, tuple) else (guidance,)
        if not scales or len(set(scales)) < len(scales) or not all(0 <= scale < math.inf for scale in scales):
            raise ValueError(f"guidance must be scales of at least 0, all different, but got {guidance}")
        return guidance

    @model_validator(mode="after")
    def _an_interval_of_what_is_guided(self) -> EvaluationSpec:
        if self.guidance_interval is None:
            return self
        low, high = self.guidance_interval
        if not 0 <= low < high:
            raise ValueError(f"guidance_interval must rise from at least 0, but got {self.guidance_interval}")
        if self.scales == (1.0,):
            raise ValueError("guidance_interval needs a guidance other than 1, which is none")
        return self

    @property
    def scales(self) -> tuple[float, ...]:
        """The scales of guidance, the first of which is that of the metrics without a suffix."""
        return self.guidance if isinstance(self.guidance, tuple) else (self.guidance,)

    def at_first_scale(self) -> EvaluationSpec:
        """The same evaluation at the first scale only."""
        first = self.scales[0]
        interval = None if first == 1 else self.guidance_interval
        return self.model_copy(update={"guidance": first, "guidance_interval": interval})

    @model_validator(mode="after")
    def _weights_apply(self) -> EvaluationSpec:
        if self.weights is not None and self.extractor not in ("inception-v3", "dinov2"):
            raise ValueError(
                f"weights needs the extractor inception-v3 or dinov2, but extractor is {self.extractor}"
            )
        if self.weights is None and self.extractor == "dinov2":
            raise ValueError("extractor dinov2 needs weights, the folder of a DINOv2, but weights is None")
        if self.sha256 is not None and self.weights is None:
            raise ValueError(f"sha256 needs a file given as weights, but weights is {self.weights}")
        return self

    @field_validator("features")
    @classmethod
    def _enough_for_kid(cls, features: int) -> int:
        if 0 < features < 16:
            raise ValueError(f"features must be 0 or at least 16, but got {features}")
        return features


def fingerprint(protocol: Mapping[str, Any]) -> str:
    """Return 12 hexadecimal digits that identify `protocol`, a mapping of JSON values in any order."""
    text = json.dumps(protocol, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
