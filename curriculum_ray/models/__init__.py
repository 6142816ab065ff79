"""Networks that predict noise, item or velocity from a noisy item."""

from curriculum_ray.models.build import ModelSpec, build_model, check_model
from curriculum_ray.models.dit import DiT, DiTSpec
from curriculum_ray.models.foreign import DiffusersModel, DiffusersSpec, PythonSpec, example_condition
from curriculum_ray.models.mlp import MLP, MLPSpec
from curriculum_ray.models.named_code import TRUST_OPTION, check_named_code, code_named
from curriculum_ray.models.unet import UNet, UNetSpec

__all__ = [
    "MLP",
    "TRUST_OPTION",
    "DiT",
    "DiTSpec",
    "DiffusersModel",
    "DiffusersSpec",
    "MLPSpec",
    "ModelSpec",
    "PythonSpec",
    "UNet",
    "UNetSpec",
    "build_model",
    "check_model",
    "check_named_code",
    "code_named",
    "example_condition",
]
