"""DiT, a transformer over patches with adaLN-Zero (Peebles & Xie 2023, §3.2), for images, signals and point sets."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention, silu

from curriculum_ray.config import ConfigError
from curriculum_ray.config.shown import shown
from curriculum_ray.data import Conditioning
from curriculum_ray.models.condition import (
    ConditionalSpec,
    CrossAttention,
    EmbeddedCondition,
    LabelEmbedding,
    condition_embedding,
    model_conditioning,
)
from curriculum_ray.models.embedding import NoiseEmbedding
from curriculum_ray.models.recomputed import RecomputedBlocks

__all__ = ["DiT", "DiTSpec", "build_dit", "positions"]

# Shape suffixes: B batch, N patches, W width, K heads, D head channels.

# Peebles & Xie 2023, Table 1: depth, width, heads.
SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}

# Frequencies of the noise level's sinusoids, and the epsilon of layer normalisation, from the official code.
NOISE_WAVES = 128
EPSILON = 1e-6


_SIZE = r"^(S|B|L|XL)(/[1-9][0-9]?)?$"


class DiTSpec(ConditionalSpec):
    """A transformer over patches: a published size, of which any number may be changed."""

    kind: Literal["dit"] = "dit"
    """The network: dit."""

    size: str = Field(default="S", pattern=_SIZE)
    """S, B, L or XL, as published, with the side of a patch after a slash: S/2."""

    @field_validator("size", mode="before")
    @classmethod
    def _a_known_size(cls, value: Any) -> Any:
        if isinstance(value, str) and not re.match(_SIZE, value):
            raise ValueError(
                f"size must be S, B, L or XL, with a patch of 1 to 99 as in S/2 or none, but got {shown(value)}"
            )
        return value

    patch: int | None = Field(default=None, ge=1, le=64)
    """Side of a patch in pixels, or its length in samples of a signal; by default that of `size`, else 2, or
    1 if `positional` is off."""

    depth: int | None = Field(default=None, ge=1, le=256)
    """Number of blocks; by default that of `size`."""

    width: int | None = Field(default=None, ge=8, le=16_384, multiple_of=4)
    """Channels, a multiple of 4 and of `heads`; by default those of `size`."""

    heads: int | None = Field(default=None, ge=1, le=256)
    """Attention heads; by default those of `size`."""

    positional: bool = True
    """Whether patches have a positional embedding. Turn it off for point sets (D, P), which have no order."""


def build_dit(spec: DiTSpec, data_shape: tuple[int, ...], conditioning: Conditioning) -> DiT:
    """Build the transformer of `spec` for images (C, H, W), signals (C, L) or point sets (D, P).

    Other shapes, sides that the patch does not divide, and a width that the heads do not divide raise
    `ConfigError`.
    """
    if len(data_shape) not in (2, 3):
        raise ConfigError(
            f"model.kind dit needs images (C, H, W), signals (C, L) or point sets (D, P), "
            f"but the data have the shape {data_shape}: choose model.kind mlp"
        )
    letter, _, side = spec.size.partition("/")
    depth, width, heads = SIZES[letter]
    depth, width, heads = spec.depth or depth, spec.width or width, spec.heads or heads
    patch = spec.patch or (int(side) if side else (2 if spec.positional else 1))
    if width % heads:
        raise ConfigError(f"model.heads must divide model.width {width}, but got {heads}")
    if not spec.positional and patch != 1:
        raise ConfigError(f"model.patch must be 1 where model.positional is off, but got {patch}")
    if any(length % patch for length in data_shape[1:]):
        raise ConfigError(f"model.patch must divide the sides of the data, {data_shape[1:]}, but got {patch}")
    return DiT(
        data_shape=data_shape,
        patch=patch,
        depth=depth,
        width=width,
        heads=heads,
        positional=spec.positional,
        conditioning=model_conditioning(spec, conditioning),
        label_dropout=spec.label_dropout,
    )


class DiT(RecomputedBlocks):
    """(x (B,C,H,W) or (B,C,L), noise_cond (B,) in about 0 .. 1000, high is noise, condition or None) -> as x.

    condition: see `Conditioning`; captions enter by their pooled vector and, in each block, by
    cross-attention to their tokens (Chen et al. 2023, §2.3). The output is zero at initialisation.
    """

    place_NW: Tensor | None

    def __init__(
        self,
        *,
        data_shape: tuple[int, ...],
        patch: int,
        depth: int,
        width: int,
        heads: int,
        positional: bool,
        conditioning: Conditioning,
        label_dropout: float,
    ) -> None:
        super().__init__()
        self.conditioning = conditioning
        self.data_shape, self.patch = data_shape, patch
        self.grid = tuple(length // patch for length in data_shape[1:])
        values = data_shape[0] * patch ** len(self.grid)
        self.noise_embedding = NoiseEmbedding(width, NOISE_WAVES)
        self.label_embedding = condition_embedding(conditioning, width, label_dropout)
        self.stem = nn.Linear(values, width)
        self.blocks = nn.ModuleList(Block(width, heads, bool(conditioning.length)) for _ in range(depth))
        self.modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, values)
        self.register_buffer(
            "place_NW", positions(self.grid, width) if positional else None, persistent=False
        )
        self._initialise()

    def _initialise(self) -> None:
        """Initialise like the official code: Xavier; N(0, 0.02²) for embeddings; zero where branches end."""
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        for layer in [self.stem, *(layer for block in blocks for layer in block.body())]:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.noise_embedding.layer1, self.noise_embedding.layer2):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        if isinstance(self.label_embedding, LabelEmbedding):
            nn.init.normal_(self.label_embedding.table.weight, std=0.02)
        for layer in (self.modulation, self.head, *(block.modulation for block in blocks)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        """See the class."""
        emb_BW = self.noise_embedding(noise_cond)
        embedded = None
        if self.label_embedding is not None:
            embedded = self.label_embedding(condition, len(x))
            emb_BW = emb_BW + embedded.vector_BE
        elif condition is not None:
            raise ValueError("this network takes no condition, but got one")
        emb_BW = silu(emb_BW)
        x = self.stem(self._patches(x))
        if self.place_NW is not None:
            x = x + self.place_NW.to(x.dtype)
        for block in self.blocks:
            x = self.block(block, x, emb_BW, embedded)
        shift, scale = self.modulation(emb_BW)[:, None].chunk(2, dim=2)
        return self._items(self.head(modulated(x, shift, scale)))

    def _patches(self, x: Tensor) -> Tensor:
        """(B,C,H,W) or (B,C,L) -> (B,N,C·patch²) or (B,N,C·patch)."""
        channels, p = self.data_shape[0], self.patch
        if len(self.grid) == 1:
            split = x.reshape(len(x), channels, self.grid[0], p)
            return split.transpose(1, 2).reshape(len(x), self.grid[0], channels * p)
        height, width = self.grid
        split = x.reshape(len(x), channels, height, p, width, p)
        return split.permute(0, 2, 4, 1, 3, 5).reshape(len(x), height * width, channels * p * p)

    def _items(self, patches: Tensor) -> Tensor:
        """Undo `_patches`; in the output's patches the channels are last, as in the official code."""
        batch, channels, p = len(patches), self.data_shape[0], self.patch
        if len(self.grid) == 1:
            split = patches.view(batch, self.grid[0], p, channels)
            return split.permute(0, 3, 1, 2).reshape(batch, *self.data_shape)
        split = patches.view(batch, *self.grid, p, p, channels)
        return split.permute(0, 5, 1, 3, 2, 4).reshape(batch, *self.data_shape)


class Block(nn.Module):
    """Attention and a perceptron, each scaled, shifted and gated by the embedding; gates are zero at first.

    (B,N,W), (B,W), captions or None -> (B,N,W).
    """

    def __init__(self, width: int, heads: int, reading: bool) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.reading = CrossAttention(width, width) if reading else None
        if self.reading is not None:
            nn.init.zeros_(self.reading.project.weight)
            nn.init.zeros_(self.reading.project.bias)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.gelu = nn.GELU("tanh")

    def body(self) -> tuple[nn.Linear, ...]:
        """Return the layers that transform tokens."""
        return self.qkv, self.project, self.expand, self.contract

    def forward(self, x: Tensor, emb_BW: Tensor, embedded: EmbeddedCondition | None) -> Tensor:
        """See the class."""
        parts = self.modulation(emb_BW)[:, None].chunk(6, dim=2)
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        x = torch.addcmul(x, gate1, self._attend(modulated(x, shift1, scale1)))
        if self.reading is not None:
            assert embedded is not None
            assert embedded.tokens_BSE is not None
            assert embedded.visible_BS is not None
            x = x + self.reading(x, embedded.tokens_BSE, embedded.visible_BS)
        hidden = self.gelu(self.expand(modulated(x, shift2, scale2)))
        return torch.addcmul(x, gate2, self.contract(hidden))

    def _attend(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        qkv = self.qkv(x).view(batch, count, 3, self.heads, width // self.heads)
        q_BKND, k_BKND, v_BKND = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed_BKND = scaled_dot_product_attention(q_BKND, k_BKND, v_BKND)
        return self.project(mixed_BKND.transpose(1, 2).reshape(batch, count, width))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalise (B,N,W) over channels, then scale by 1 + (B,1,W) and shift."""
    return torch.addcmul(shift, layer_norm(x, x.shape[2:], eps=EPSILON), 1 + scale)


def positions(grid: tuple[int, ...], width: int) -> Tensor:
    """Return sinusoids of each position of a grid (rows, columns) or (length,): (N, width), row-major.

    As in the official code, the column comes first; each coordinate gets width / len(grid) channels, sines
    then cosines of frequencies 10000^(-2i / channels).
    """
    places = torch.meshgrid(*(torch.arange(length) for length in grid), indexing="ij")
    channels = width // len(grid)
    frequencies = torch.exp(-math.log(10_000) * torch.arange(channels // 2) / (channels // 2))
    angles = [place.reshape(-1, 1) * frequencies for place in reversed(places)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
