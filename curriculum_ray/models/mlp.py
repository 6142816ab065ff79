"""A residual perceptron for single vectors, modulated by the noise level as DiT is."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import layer_norm, silu

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Conditioning
from curriculum_ray.models.condition import ConditionalSpec, condition_embedding, model_conditioning
from curriculum_ray.models.embedding import NoiseEmbedding

__all__ = ["MLP", "MLPSpec", "build_mlp"]


class MLPSpec(ConditionalSpec):
    """Residual blocks of two linear layers, for data of single vectors."""

    kind: Literal["mlp"] = "mlp"
    """The network: mlp."""

    width: int = Field(default=128, ge=4, le=16_384)
    """Channels of each block."""

    depth: int = Field(default=3, ge=1, le=128)
    """Number of residual blocks."""


def build_mlp(spec: MLPSpec, data_shape: tuple[int, ...], conditioning: Conditioning) -> MLP:
    """Build the perceptron of `spec` for vectors of `data_shape` (D,); another shape raises `ConfigError`."""
    if len(data_shape) != 1:
        raise ConfigError(
            f"model.kind mlp needs vectors (D,), but the data have the shape {data_shape}: "
            f"choose model.kind dit{' or unet' if len(data_shape) == 3 else ''}"
        )
    taken = model_conditioning(spec, conditioning)
    return MLP(data_shape[0], spec.width, spec.depth, taken, spec.label_dropout)


class MLP(nn.Module):
    """(x (B,D), noise_cond (B,) in about 0 .. 1000, high is noise, condition or None) -> (B,D).

    condition: see `Conditioning`; captions enter by their pooled vector. The output is zero at
    initialisation.
    """

    def __init__(
        self, dimensions: int, width: int, depth: int, conditioning: Conditioning, label_dropout: float
    ) -> None:
        super().__init__()
        self.conditioning = conditioning
        self.noise_embedding = NoiseEmbedding(width)
        self.label_embedding = condition_embedding(conditioning, width, label_dropout)
        self.stem = nn.Linear(dimensions, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, dimensions)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        """See the class."""
        emb = self.noise_embedding(noise_cond)
        if self.label_embedding is not None:
            emb = emb + self.label_embedding(condition, len(x)).vector_BE
        elif condition is not None:
            raise ValueError("this network takes no condition, but got one")
        emb = silu(emb)
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, emb)
        return self.head(silu(x))


class Block(nn.Module):
    """A residual of two layers on the normalised, scaled and shifted input: (B,W), (B,W) -> (B,W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 2 * width)
        self.layer1 = nn.Linear(width, width)
        self.layer2 = nn.Linear(width, width)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """See the class."""
        scale, shift = self.modulation(emb).chunk(2, dim=1)
        hidden = torch.addcmul(shift, layer_norm(x, x.shape[1:]), 1 + scale)
        return x + self.layer2(silu(self.layer1(hidden)))
