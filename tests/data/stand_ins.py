"""Stand-ins for what is trained elsewhere: a tiny autoencoder, and what transformers would make of captions."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

WIDTH = 3


def make_autoencoder(folder: Path, channels: int = 3) -> Path:
    """An AutoencoderKL with random weights in `folder`, that makes (4, H/2, W/2) of images."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
    ).save_pretrained(folder)
    return folder


class Batch(dict[str, Tensor]):
    """What a tokenizer returns."""

    def to(self, device: Any) -> Batch:
        return self


class Tokenizer:
    """Each word is the number of its letters, after a start token of 1."""

    pad_token = ""
    model_max_length = 512

    def __call__(self, texts: list[str], max_length: int, **_: Any) -> Batch:
        rows = [[1, *map(len, text.split())][:max_length] for text in texts]
        ids = torch.tensor([row + [0] * (max_length - len(row)) for row in rows])
        return Batch(input_ids=ids, attention_mask=(ids > 0).long())


class Encoder(nn.Module):
    config = SimpleNamespace()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=1 + input_ids[..., None] * torch.ones(WIDTH).half())


def stand_in_for_transformers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Put an encoder in every folder; returns what `from_pretrained` is asked for, as that comes in."""
    calls: list[dict[str, Any]] = []

    def loader(result: Any) -> SimpleNamespace:
        def load(path: Path, **kwargs: Any) -> Any:
            calls.append(kwargs)
            return result

        return SimpleNamespace(from_pretrained=load)

    module = ModuleType("transformers")
    module.AutoConfig = loader(SimpleNamespace(model_type="clip"))  # type: ignore[attr-defined]
    module.AutoTokenizer = loader(Tokenizer())  # type: ignore[attr-defined]
    module.CLIPTextModel = loader(Encoder())  # type: ignore[attr-defined]
    module.utils = SimpleNamespace(logging=SimpleNamespace(disable_progress_bar=lambda: None))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", module)
    return calls
