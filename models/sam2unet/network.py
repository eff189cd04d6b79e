"""The SAM2-UNet network: adapted trunk, receptive-field blocks, decoder, three heads.

Modules are named as in the published checkpoints, but for the trunk's inside (see `loading`). The
decoder's fourth step, which checkpoints hold and the published model never uses, does not exist here.
Xiong et al., 2024, arXiv 2408.08870, section 3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from regard.models.sam2unet.decoder import DecoderStep, ReceptiveFieldBlock
from regard.models.sam2unet.layout import Layout
from regard.models.sam2unet.trunk import make_trunk


class SaliencyLogits(NamedTuple):
    """The outputs in the published order, each float32 (B, 1, H, W): foreground's logits.

    `out` is the answer; `out1` and `out2` are the coarser ones that training supervises as well.
    """

    out: torch.Tensor
    out1: torch.Tensor
    out2: torch.Tensor


class Sam2UNet(nn.Module):
    """Binary segmentation of the foreground."""

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
    # In float32, since steps of bfloat16 would show as contours in the map.
    return functional.interpolate(
        logits.float(), scale_factor=factor, mode="bilinear", align_corners=False
    )  # (B, 1, h, w) → (B, 1, factor·h, factor·w)
