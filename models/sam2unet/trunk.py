"""The encoder of SAM2-UNet: SAM 2's Hiera trunk with a small adapter before each block.

The trunk is the one of transformers; only the adapters are trained by SAM2-UNet (Xiong et al., 2024,
arXiv 2408.08870, section 3.1; the trunk: Ravi et al., 2024, arXiv 2408.00714).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import Sam2HieraDetConfig, Sam2HieraDetModel

from regard.models.sam2unet.layout import Layout


class AdaptedBlock(nn.Module):
    """A block of the trunk that is given its input plus what the adapter makes of it."""

    def __init__(self, block: nn.Module, width: int, adapter_width: int) -> None:
        """`width` is that of the block's input, which in a stage's first block is the stage before's."""
        super().__init__()
        self.block = block
        self.prompt_learn = nn.Sequential(
            nn.Linear(width, adapter_width),
            nn.GELU(),
            nn.Linear(adapter_width, width),
            nn.GELU(),
        )

    def forward(self, hidden_states: torch.Tensor, **options: Any) -> torch.Tensor:
        """(B, H, W, C) → (B, H', W', C'), halved and widened in the first block of a stage."""
        adapted = hidden_states + self.prompt_learn(hidden_states)  # (B, H, W, C)
        output: torch.Tensor = self.block(adapted, **options)  # (B, H', W', C')
        return output


def make_trunk(layout: Layout) -> nn.Module:
    """transformers' `Sam2HieraDetModel` with each block adapted.

    Its output's `intermediate_hidden_states` are four maps (B, H, W, C), channels last, at strides 4,
    8, 16 and 32. LayerNorm's eps is 1e-6.
    """
    config = Sam2HieraDetConfig(
        hidden_size=layout.widths[0],
        num_attention_heads=layout.heads[0],
        embed_dim_per_stage=list(layout.widths),
        num_attention_heads_per_stage=list(layout.heads),
        blocks_per_stage=list(layout.depths),
        global_attention_blocks=list(layout.global_blocks),
        window_size_per_stage=list(layout.windows),
        window_positional_embedding_background_size=list(layout.background),
        mlp_ratio=layout.mlp_ratio,
        layer_norm_eps=1e-6,
    )
    trunk: Any = Sam2HieraDetModel(config)
    trunk.blocks = nn.ModuleList(
        AdaptedBlock(block, block.dim, layout.adapter_width) for block in trunk.blocks
    )
    adapted: nn.Module = trunk
    return adapted
