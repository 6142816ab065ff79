"""A compact U-Net with attention, after Ho et al. 2020 (App. B) and Dhariwal & Nichol 2021 (§3)."""

from __future__ import annotations

import math
from typing import Annotated, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, scaled_dot_product_attention, silu

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Conditioning
from curriculum_ray.models.condition import (
    ConditionalSpec,
    CrossAttention,
    EmbeddedCondition,
    condition_embedding,
    model_conditioning,
)
from curriculum_ray.models.embedding import NoiseEmbedding
from curriculum_ray.models.recomputed import RecomputedBlocks

__all__ = ["UNet", "UNetSpec", "build_unet"]

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)

# Shape suffixes: B batch, C channels, H height, W width, E embedding, K heads, N positions, D head channels.


class UNetSpec(ConditionalSpec):
    """A U-Net of residual blocks, with self-attention between its two halves."""

    kind: Literal["unet"] = "unet"
    """The network: unet."""

    base_channels: int = Field(default=16, ge=4, le=1024, multiple_of=4)
    """Channels at full resolution; a multiple of 4."""

    channel_mult: Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1)] | None = None
    """Channels of each level as multiples of base_channels, each level at half the resolution of the one
    before; by default 1, 2, 2, … until a side is 4 or odd."""

    blocks: int = Field(default=1, ge=1, le=8)
    """Residual blocks per level, both down and up."""

    attention: bool = True
    """Whether positions attend to each other at the coarsest level."""


def build_unet(spec: UNetSpec, data_shape: tuple[int, ...], conditioning: Conditioning) -> UNet:
    """Build the U-Net of `spec` for images of `data_shape` (C, H, W) with `conditioning`.

    Sides that cannot be halved as often as `channel_mult` requires, and `conditional` on data without classes
    or captions, raise `ConfigError`.
    """
    if len(data_shape) != 3:
        raise ConfigError(
            f"model.kind unet needs images (C, H, W), but the data have the shape {data_shape}: "
            f"choose model.kind {'mlp' if len(data_shape) == 1 else 'dit'}"
        )
    channels, height, width = data_shape
    multiples = spec.channel_mult or default_multiples(height, width)
    step = 2 ** (len(multiples) - 1)
    if height % step or width % step:
        raise ConfigError(
            f"model.channel_mult of {len(multiples)} levels needs image sides divisible by {step}, "
            f"but the images have {height}×{width} pixels"
        )
    return UNet(
        image_channels=channels,
        level_channels=[spec.base_channels * multiple for multiple in multiples],
        blocks=spec.blocks,
        attention=spec.attention,
        conditioning=model_conditioning(spec, conditioning),
        label_dropout=spec.label_dropout,
    )


def default_multiples(*sides: int) -> tuple[int, ...]:
    """Return 1, 2, 2, …: one more level for each halving of the sides, in pixels, until one is 4 or odd."""
    halvings = 0
    while min(sides) > 4 and not any(side % 2 for side in sides):
        sides = tuple(side // 2 for side in sides)
        halvings += 1
    return (1,) + (2,) * halvings


class UNet(RecomputedBlocks):
    """(x (B,C,H,W), noise_cond (B,) in about 0 .. 1000, high is noise, condition or None) -> (B,C,H,W).

    condition: see `Conditioning`. The output is zero at initialisation.
    """

    def __init__(
        self,
        *,
        image_channels: int,
        level_channels: list[int],
        blocks: int,
        attention: bool,
        conditioning: Conditioning,
        label_dropout: float,
    ) -> None:
        super().__init__()
        self.conditioning = conditioning
        embedding = 4 * level_channels[0]
        self.noise_embedding = NoiseEmbedding(embedding)
        self.label_embedding = condition_embedding(conditioning, embedding, label_dropout)
        self.stem = nn.Conv2d(image_channels, level_channels[0], 3, padding=1)
        channels = level_channels[0]
        self.down = nn.ModuleList()
        for level in level_channels:
            self.down.append(
                nn.ModuleList(
                    ResBlock(channels if k == 0 else level, level, embedding) for k in range(blocks)
                )
            )
            channels = level
        self.attention = Attention(channels) if attention else nn.Identity()
        self.reading = CaptionAttention(channels, embedding) if conditioning.length else None
        self.up = nn.ModuleList()
        for level in reversed(level_channels):
            # Each block also takes the output of its counterpart on the way down, with the channels of the
            # level.
            self.up.append(
                nn.ModuleList(
                    ResBlock((channels if k == 0 else level) + level, level, embedding) for k in range(blocks)
                )
            )
            channels = level
        self.head = nn.Sequential(
            group_norm(channels), nn.SiLU(), zeroed(nn.Conv2d(channels, image_channels, 3, 1, 1))
        )

    def forward(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        """See the class."""
        emb_BE = self.noise_embedding(noise_cond)
        embedded = None
        if self.label_embedding is not None:
            embedded = self.label_embedding(condition, len(x))
            emb_BE = emb_BE + embedded.vector_BE
        elif condition is not None:
            raise ValueError("this network takes no condition, but got one")
        emb_BE = silu(emb_BE)
        x = self.stem(x)
        seen: list[Tensor] = []
        for depth, blocks in enumerate(self.down):
            if depth > 0:
                x = avg_pool2d(x, 2)
            for block in blocks.children():
                x = self.block(block, x, emb_BE)
                seen.append(x)
        x = self.attention(x)
        if self.reading is not None:
            assert embedded is not None
            x = self.reading(x, embedded)
        for height, blocks in enumerate(self.up):
            if height > 0:
                x = interpolate(x, scale_factor=2.0, mode="nearest")
            for block in blocks.children():
                x = self.block(block, torch.cat([x, seen.pop()], 1), emb_BE)
        return self.head(x)


class ResBlock(nn.Module):
    """Two convolutions around a scale and shift by the embedding (AdaGN), plus the input; conv2 starts at 0.

    (B,C_in,H,W), (B,E) -> (B,C_out,H,W). Dhariwal & Nichol 2021, §3.
    """

    def __init__(self, channels_in: int, channels_out: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = group_norm(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels_out)
        self.norm2 = group_norm(channels_out)
        self.conv2 = zeroed(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor, emb_BE: Tensor) -> Tensor:
        """See the class."""
        hidden = self.conv1(silu(self.norm1(x)))
        scale, shift = self.modulation(emb_BE)[:, :, None, None].chunk(2, dim=1)
        hidden = torch.addcmul(shift, self.norm2(hidden), 1 + scale)
        return self.skip(x) + self.conv2(silu(hidden))


class Attention(nn.Module):
    """Self-attention over all positions, heads of about 32 channels, plus the input; zero at initialisation.

    (B,C,H,W) -> (B,C,H,W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = math.gcd(channels, max(1, channels // 32))
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.project = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, channels // self.heads, height * width)
        q_BKND, k_BKND, v_BKND = qkv.transpose(-1, -2).unbind(1)
        mixed_BKND = scaled_dot_product_attention(q_BKND, k_BKND, v_BKND)
        return x + self.project(mixed_BKND.transpose(-1, -2).reshape(x.shape))


class CaptionAttention(nn.Module):
    """Cross-attention of (B,C,H,W) to the caption's tokens (Rombach et al. 2022, §3.3), plus the input."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.attention = CrossAttention(channels, width)
        zeroed(self.attention.project)

    def forward(self, x: Tensor, embedded: EmbeddedCondition) -> Tensor:
        """See the class; the attention is zero at initialisation."""
        assert embedded.tokens_BSE is not None
        assert embedded.visible_BS is not None
        read = self.attention(x.flatten(2).transpose(1, 2), embedded.tokens_BSE, embedded.visible_BS)
        return x + read.transpose(1, 2).reshape(x.shape)


def group_norm(channels: int) -> nn.GroupNorm:
    """Normalise in 8 groups, or 4 if 8 does not divide the channels."""
    return nn.GroupNorm(math.gcd(8, channels), channels)


def zeroed(layer: Layer) -> Layer:
    """Zero all weights of `layer`, so that its branch contributes nothing at the start of training."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
