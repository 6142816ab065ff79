"""What DDPM predicts where the settings do not say: it follows the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curriculum_ray.data import DataSpec
from curriculum_ray.diffusion import DDPMSpec

__all__ = ["with_prediction"]


def with_prediction(process: Any, data: Any) -> Any:
    """The settings `process` with the kind, and DDPM's prediction, that they leave out; both are mappings or made.

    Images, whose samples are clipped to [-1, 1], are predicted by their noise. Nothing bounds samples of points,
    signals and latents: they are predicted by v, which is sound at every noise level (Salimans & Ho 2022, §4), as EDM's
    and flow matching's networks are.
    """
    if not isinstance(process, Mapping):
        return process
    given = {"kind": DDPMSpec().kind, **process}
    if given["kind"] != DDPMSpec().kind or "prediction" in given or not _is_unbounded(data):
        return given
    return {**given, "prediction": "v"}


def _is_unbounded(data: Any) -> bool:
    """Whether the `data` of settings, a mapping or a DataSpec, are other things than images within [-1, 1]."""
    values = data if isinstance(data, Mapping) else vars(data) if isinstance(data, DataSpec) else {}
    return values.get("name") in ("mixture2d", "tones") or values.get("format") == "latents"
