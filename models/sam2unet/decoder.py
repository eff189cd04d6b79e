"""What SAM2-UNet puts behind its encoder: receptive-field blocks and the steps of the decoder.

Every convolution is followed by batch normalisation (eps 1e-5) and has no bias of its own. Modules
bear the names of the published checkpoints' keys. Xiong et al., 2024, arXiv 2408.08870, sections 3.2
and 3.3; the blocks are those of RFB Net (Liu et al., 2018, arXiv 1711.07767).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

_KERNELS = (3, 5, 7)


class NormalizedConvolution(nn.Module):
    """A convolution that keeps height and width, and batch normalisation; no activation."""

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
    """Brings a stage of the encoder to the decoder's width, seen at four sizes of surroundings."""

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
    """Doubles the size of a map and merges it with the finer one from the encoder."""

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
