"""A network of curriculum-ray as a component of a diffusers pipeline; needs the package curriculum-ray."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from pydantic import TypeAdapter
from torch import Tensor

from curriculum_ray.data import Conditioning
from curriculum_ray.models import ModelSpec, build_model, check_named_code


class CurriculumRayNetwork(ModelMixin, ConfigMixin):
    """(x (B,*shape), noise level (B,), class_labels (B,) long or None) -> an object whose `sample` is (B,*shape).

    spec: the network's settings. shape: that of one item. conditioning: `Conditioning` as JSON.
    """

    @register_to_config
    def __init__(self, spec: dict[str, Any], shape: list[int], conditioning: dict[str, Any]) -> None:
        super().__init__()
        # An exported folder must never name code.
        check_named_code({"model": spec}, "the exported folder", trusted=False)
        settings = TypeAdapter(ModelSpec).validate_python(dict(spec))
        self.network = build_model(settings, tuple(shape), Conditioning.from_json(dict(conditioning)))

    def forward(self, x: Tensor, timestep: Tensor, class_labels: Tensor | None = None) -> SimpleNamespace:
        """See the class."""
        return SimpleNamespace(sample=self.network(x, timestep, class_labels))
