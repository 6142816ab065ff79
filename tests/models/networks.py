"""Settings of small networks of diffusers that several tests build."""

from __future__ import annotations

from typing import Any

__all__ = ["UNET_CONDITION"]

UNET_CONDITION: dict[str, Any] = {
    "kind": "diffusers",
    "class_name": "UNet2DConditionModel",
    "config": {
        "block_out_channels": [8, 8],
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "cross_attention_dim": 8,
        "attention_head_dim": 4,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    },
}
