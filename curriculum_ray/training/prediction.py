"""The default prediction of DDPM, which depends on the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curriculum_ray.data import DataSpec
from curriculum_ray.diffusion import DDPMSpec

__all__ = ["with_prediction"]


def with_prediction(process: Any, data: Any) -> Any:
    """Fill in the kind of `process`, and the prediction of DDPM, where they are missing; both are mappings or specs.

    For images, whose samples are clipped to [-1, 1], the network predicts epsilon. Points, signals and latents are
    unbounded: there it predicts v, which is well conditioned at every noise level (Salimans & Ho 2022, §4), as are the
    predictions of EDM and flow matching.
    """
    if not isinstance(process, Mapping):
        return process
    given = {"kind": DDPMSpec().kind, **process}
    if given["kind"] != DDPMSpec().kind or "prediction" in given or not _is_unbounded(data):
        return given
    return {**given, "prediction": "v"}


def _is_unbounded(data: Any) -> bool:
    """Whether `data`, a mapping or a DataSpec, is anything but images in [-1, 1]."""
    values = data if isinstance(data, Mapping) else vars(data) if isinstance(data, DataSpec) else {}
    return values.get("name") in ("mixture2d", "tones") or values.get("format") == "latents"
