"""Layers that embed the condition of an item, its class or caption, for a network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from curriculum_ray.config import ConfigError, Spec
from curriculum_ray.data import NO_CONDITIONING, Conditioning

__all__ = [
    "CaptionEmbedding",
    "ConditionalSpec",
    "CrossAttention",
    "EmbeddedCondition",
    "LabelEmbedding",
    "condition_embedding",
    "drop_labels",
    "model_conditioning",
]

# Shape suffixes: B batch, T caption tokens, S tokens behind a leading summary token, E embedding, N
# positions, K heads.

# Attention heads have about this many channels (Vaswani et al. 2017, Table 3).
HEAD_CHANNELS = 64


class ConditionalSpec(Spec):
    """Settings for the condition that networks of every kind share."""

    conditional: bool | None = None
    """Whether the network takes each item's class or caption; by default if the data have one."""

    label_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of classes or captions that are dropped in training, for classifier-free guidance."""

    @property
    def asks_for_dropout(self) -> bool:
        """Whether a share of conditions is to be dropped that is not the default."""
        return self.label_dropout not in (0, type(self).model_fields["label_dropout"].default)

    @model_validator(mode="after")
    def _dropout_applies(self) -> ConditionalSpec:
        if self.conditional is False and self.asks_for_dropout:
            raise ValueError(
                f"label_dropout is for a conditional network, but got {self.label_dropout} with conditional false"
            )
        return self


class EmbeddedCondition(NamedTuple):
    """A batch of embedded conditions: one vector each, and for captions their tokens, led by the summary."""

    vector_BE: Tensor
    tokens_BSE: Tensor | None = None
    visible_BS: Tensor | None = None
    """Which tokens are not padding, bool; the first never is."""


def model_conditioning(spec: ConditionalSpec, conditioning: Conditioning) -> Conditioning:
    """Return the conditioning of a network of `spec`; `ConfigError` for settings of one on data without."""
    if spec.conditional and not conditioning:
        raise ConfigError(
            f"model.conditional needs data with classes or captions, but they have {conditioning}"
        )
    if spec.asks_for_dropout and not conditioning:
        raise ConfigError(
            f"model.label_dropout is for data with classes or captions, but got {spec.label_dropout}, "
            f"and they have {conditioning}"
        )
    return NO_CONDITIONING if spec.conditional is False else conditioning


def condition_embedding(
    conditioning: Conditioning, width: int, dropout: float
) -> LabelEmbedding | CaptionEmbedding | None:
    """Build the layer that embeds a condition of `conditioning` in `width` channels; None without one."""
    match conditioning.kind:
        case "none":
            return None
        case "class":
            return LabelEmbedding(conditioning.size, width, dropout)
        case "tokens" | "embedding":
            return CaptionEmbedding(conditioning, width, dropout)


def drop_labels(labels: Tensor | None, batch: int, null: int, dropout: float, device: torch.device) -> Tensor:
    """Replace -1, None, and a random share `dropout` of the other labels (B,), long, by `null`."""
    if labels is None:
        labels = torch.full((batch,), -1, device=device)
    dropped = labels < 0
    if dropout > 0:
        dropped = dropped | (torch.rand(batch, device=device) < dropout)
    return labels.masked_fill(dropped, null)


class LabelEmbedding(nn.Module):
    """Labels (B,) long in 0 .. num_classes-1 -> `EmbeddedCondition`; -1, or None for all, is the null class.

    In training each label is dropped, i.e. becomes the null class, with probability `dropout` (Ho & Salimans
    2022, Alg. 1), drawn from the global generator.
    """

    def __init__(self, num_classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.dropout = dropout
        self.table = nn.Embedding(num_classes + 1, width)

    def forward(self, labels: Tensor | None, batch: int) -> EmbeddedCondition:
        """See the class."""
        dropout = self.dropout if self.training else 0.0
        device = self.table.weight.device
        return EmbeddedCondition(self.table(drop_labels(labels, batch, self.num_classes, dropout, device)))


class CaptionEmbedding(nn.Module):
    """Tokens (B, T) long, 0 is padding, or vectors (B, T, D), zeros are padding -> `EmbeddedCondition`.

    A learned summary token leads each caption and attends to all of it; its output is the pooled vector. The
    null caption (None, or only padding) is the summary token alone. Tokens pass through a transformer of two
    layers, trained with the network; vectors come from a pretrained encoder, are projected, and pass through
    one layer. In training each caption is dropped with probability `dropout`, drawn from the global
    generator.
    """

    def __init__(self, conditioning: Conditioning, width: int, dropout: float) -> None:
        super().__init__()
        self.conditioning = conditioning
        self.dropout = dropout
        self.summary = nn.Parameter(0.02 * torch.randn(width))
        self.read: nn.Module
        if conditioning.kind == "tokens":
            self.read = nn.Embedding(conditioning.size, width)
            self.place = nn.Parameter(0.02 * torch.randn(conditioning.length, width))
        else:
            self.read = nn.Linear(conditioning.size, width)
        layers = 2 if conditioning.kind == "tokens" else 1
        self.layers = nn.ModuleList(CaptionLayer(width) for _ in range(layers))

    def forward(self, captions: Tensor | None, batch: int) -> EmbeddedCondition:
        """See the class."""
        length, device = self.conditioning.length, self.summary.device
        if captions is None:
            shape = (batch, length) if self._has_tokens else (batch, length, self.conditioning.size)
            kind = torch.long if self._has_tokens else self.summary.dtype
            captions = torch.zeros(shape, dtype=kind, device=device)
        seen_BT = captions != 0 if self._has_tokens else (captions != 0).any(2)
        if self.training and self.dropout > 0:
            seen_BT = seen_BT & (torch.rand(batch, 1, device=device) >= self.dropout)
        words_BTE = self.read(captions if self._has_tokens else captions.to(self.summary.dtype))
        if self._has_tokens:
            words_BTE = words_BTE + self.place
        summary_B1E = self.summary.to(words_BTE.dtype).expand(batch, 1, -1)
        tokens_BSE = torch.cat([summary_B1E, words_BTE], 1)
        visible_BS = torch.cat([torch.ones_like(seen_BT[:, :1]), seen_BT], 1)
        for layer in self.layers:
            tokens_BSE = layer(tokens_BSE, visible_BS)
        return EmbeddedCondition(tokens_BSE[:, 0], tokens_BSE, visible_BS)

    @property
    def _has_tokens(self) -> bool:
        return self.conditioning.kind == "tokens"


class CaptionLayer(nn.Module):
    """A pre-norm transformer layer that masks padding: (B,S,E), bool (B,S) -> (B,S,E)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = CrossAttention(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU("tanh"), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, visible_BS: Tensor) -> Tensor:
        """See the class."""
        normal = self.norm1(x)
        x = x + self.attention(normal, normal, visible_BS)
        return x + self.mlp(self.norm2(x))


class CrossAttention(nn.Module):
    """Positions attend to the visible tokens of a caption: (B,N,C), (B,S,E), bool (B,S) -> (B,N,C)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        heads = max(1, channels // HEAD_CHANNELS)
        while channels % heads:
            heads -= 1
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(width, 2 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor, tokens_BSE: Tensor, visible_BS: Tensor) -> Tensor:
        """See the class."""
        batch, count, channels = x.shape
        q = self.query(layer_norm(x, (channels,))).view(batch, count, self.heads, -1).transpose(1, 2)
        keys_values = self.key_value(tokens_BSE).view(batch, -1, 2, self.heads, channels // self.heads)
        k, v = keys_values.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=visible_BS[:, None, None, :])
        return self.project(mixed.transpose(1, 2).reshape(batch, count, channels))
