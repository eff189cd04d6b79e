"""SAM2-UNet: SAM 2's Hiera trunk with an adapter before each block, and its decoder.

The trunk is that of transformers; SAM2-UNet trains the adapters and the decoder only (Xiong et
al., 2024, arXiv 2408.08870, section 3.1; trunk: Ravi et al., 2024, arXiv 2408.00714).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from transformers import Sam2HieraDetConfig, Sam2HieraDetModel

from regard.models.sam2unet.weights import Layout


class AdaptedBlock(nn.Module):
    """A trunk block whose input is the features plus the adapter's output."""

    def __init__(self, block: nn.Module, width: int, adapter_width: int) -> None:
        """`width`: channels of the block's input; in a stage's first block, of the previous
        stage."""
        super().__init__()
        self.block = block
        self.prompt_learn = nn.Sequential(
            nn.Linear(width, adapter_width),
            nn.GELU(),
            nn.Linear(adapter_width, width),
            nn.GELU(),
        )

    def forward(self, hidden_states: torch.Tensor, **options: Any) -> torch.Tensor:
        """(B, H, W, C) → (B, H', W', C'); a stage's first block halves the sides and widens."""
        adapted = hidden_states + self.prompt_learn(hidden_states)  # (B, H, W, C)
        output: torch.Tensor = self.block(adapted, **options)  # (B, H', W', C')
        return output


def make_trunk(layout: Layout) -> nn.Module:
    """transformers' `Sam2HieraDetModel` with an adapter before each block.

    Its output's `intermediate_hidden_states` are four maps (B, H, W, C), channels last, at strides
    4, 8, 16 and 32. LayerNorm's eps is 1e-6.
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


_KERNELS = (3, 5, 7)


class NormalizedConvolution(nn.Module):
    """A convolution that keeps height and width, then batch normalisation; no activation."""

    def __init__(
        self, width: int, out_width: int, kernel: tuple[int, int], dilation: int = 1
    ) -> None:
        super().__init__()
        padding = (dilation * (kernel[0] // 2), dilation * (kernel[1] // 2))
        self.conv = nn.Conv2d(
            width, out_width, kernel, padding=padding, dilation=dilation, bias=False
        )
        self.bn = nn.BatchNorm2d(out_width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → (B, C', H, W)."""
        normalized: torch.Tensor = self.bn(self.conv(features))  # (B, C', H, W)
        return normalized


class ReceptiveFieldBlock(nn.Module):
    """Reduces an encoder stage to the decoder's width with four receptive fields."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.branch0 = nn.Sequential(NormalizedConvolution(width, out_width, (1, 1)))
        self.branch1, self.branch2, self.branch3 = (
            _branch(width, out_width, kernel) for kernel in _KERNELS
        )
        self.conv_cat = NormalizedConvolution(4 * out_width, out_width, (3, 3))
        self.conv_res = NormalizedConvolution(width, out_width, (1, 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → (B, C', H, W)."""
        branches = (self.branch0, self.branch1, self.branch2, self.branch3)
        seen = torch.cat([branch(features) for branch in branches], dim=1)  # (B, 4·C', H, W)
        return functional.relu(self.conv_cat(seen) + self.conv_res(features))  # (B, C', H, W)


def _branch(width: int, out_width: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        NormalizedConvolution(width, out_width, (1, 1)),
        NormalizedConvolution(out_width, out_width, (1, kernel)),
        NormalizedConvolution(out_width, out_width, (kernel, 1)),
        NormalizedConvolution(out_width, out_width, (3, 3), dilation=kernel),
    )


class DoubleConvolution(nn.Module):
    """Twice a 3×3 convolution, batch normalisation and ReLU."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(width, out_width, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_width),
            nn.ReLU(),
            nn.Conv2d(out_width, out_width, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_width),
            nn.ReLU(),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → (B, C', H, W)."""
        output: torch.Tensor = self.double_conv(features)  # (B, C', H, W)
        return output


class DecoderStep(nn.Module):
    """Upsamples a map by 2 and merges it with the encoder's finer one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = DoubleConvolution(2 * width, width)

    def forward(self, coarse: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """`coarse` (B, C, h, w) and `skip` (B, C, H, W), H ≥ 2h and W ≥ 2w → (B, C, H, W)."""
        risen = functional.interpolate(
            coarse, scale_factor=2, mode="bilinear", align_corners=True
        )  # (B, C, 2h, 2w)
        rows, columns = skip.shape[2] - risen.shape[2], skip.shape[3] - risen.shape[3]
        left, top = columns // 2, rows // 2
        risen = functional.pad(risen, (left, columns - left, top, rows - top))  # (B, C, H, W)
        merged: torch.Tensor = self.conv(torch.cat([skip, risen], dim=1))  # (B, C, H, W)
        return merged


class SaliencyLogits(NamedTuple):
    """Foreground logits in the published order, each float32 (B, 1, H, W).

    `out` is the answer; `out1` and `out2` are the coarser ones that training supervises as well.
    """

    out: torch.Tensor
    out1: torch.Tensor
    out2: torch.Tensor


class Sam2UNet(nn.Module):
    """Binary foreground segmentation."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        width = layout.decoder_width
        self.encoder = make_trunk(layout)
        self.rfb1, self.rfb2, self.rfb3, self.rfb4 = (
            ReceptiveFieldBlock(stage, width) for stage in layout.widths
        )
        self.up1, self.up2, self.up3 = (DecoderStep(width) for _ in range(3))
        self.side1 = nn.Conv2d(width, 1, 1)
        self.side2 = nn.Conv2d(width, 1, 1)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, pixels: torch.Tensor) -> SaliencyLogits:
        """Normalised RGB (B, 3, H, W), H and W multiples of 32 → logits of the same size."""
        stages = self.encoder(pixels).intermediate_hidden_states  # four of (B, H/s, W/s, C)
        first, second, third, fourth = (
            stage.permute(0, 3, 1, 2).contiguous() for stage in stages
        )  # (B, C, H/s, W/s), s = 4, 8, 16, 32
        eighth, sixteenth = self.rfb2(second), self.rfb3(third)
        at16 = self.up1(self.rfb4(fourth), sixteenth)  # (B, D, H/16, W/16)
        at8 = self.up2(at16, eighth)  # (B, D, H/8, W/8)
        at4 = self.up3(at8, self.rfb1(first))  # (B, D, H/4, W/4)
        return SaliencyLogits(
            out=_enlarged(self.head(at4), 4),
            out1=_enlarged(self.side1(at16), 16),
            out2=_enlarged(self.side2(at8), 8),
        )


def _enlarged(logits: torch.Tensor, factor: int) -> torch.Tensor:
    # float32, because bfloat16 steps would show as contours in the map.
    return functional.interpolate(
        logits.float(), scale_factor=factor, mode="bilinear", align_corners=False
    )  # (B, 1, h, w) → (B, 1, factor·h, factor·w)
