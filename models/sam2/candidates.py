"""Candidate masks as the decoder leaves them, and the first look at which are any good.

All is measured on the decoder's own low-resolution logits (a quarter of the input's side): shares of
area and overlaps of boxes are the same there as in the photograph, up to a cell, whatever its size
and shape. Only masks that survive every filter are ever drawn larger.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from regard.core.records import Float32Array, Int64Array


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Predicted IoU to exceed; stability at `offset` and size in cells, `smallest`, to reach."""

    predicted_iou: float
    stability: float
    offset: float
    smallest: int


@dataclass(slots=True)
class Candidates:
    """Masks of one image: n logits (h, w) on the model's device, n scores, n boxes in cells."""

    logits: list[torch.Tensor] = field(default_factory=list)
    _scores: list[Float32Array] = field(default_factory=list)
    _boxes: list[Int64Array] = field(default_factory=list)

    def take(self, logits: torch.Tensor, ious: torch.Tensor, thresholds: Thresholds) -> None:
        """Add the good ones of a batch of points.

        `logits` (P, M, h, w) and predicted `ious` (P, M), M masks a point. The cheap test comes first.
        """
        scores = ious.flatten().float()  # (P, M) → (P·M,)
        sure = scores > thresholds.predicted_iou
        scores, masks = scores[sure], logits.flatten(0, 1)[sure]  # (P, M, h, w) → (k, h, w)
        good = stability_scores(masks, thresholds.offset) >= thresholds.stability
        good &= (masks > 0).sum(dim=(1, 2)) >= thresholds.smallest
        masks = masks[good]
        self.logits.extend(masks)
        self._scores.append(scores[good].cpu().numpy())
        self._boxes.append(mask_boxes(masks > 0).cpu().numpy())

    @property
    def scores(self) -> Float32Array:
        """Predicted IoU of each, (n,)."""
        return np.concatenate(self._scores or [np.zeros(0, np.float32)])

    @property
    def boxes(self) -> Int64Array:
        """Left, top, right, bottom of each, the last two exclusive, (n, 4)."""
        return np.concatenate(self._boxes or [np.zeros((0, 4), np.int64)])


def stability_scores(logits: torch.Tensor, offset: float) -> torch.Tensor:
    """How little a mask depends on the threshold: the IoU of its masks at +`offset` and −`offset`.

    Logits (n, h, w), scores (n,) float32 in [0, 1]. The first mask lies within the second, so that the
    IoU is the quotient of their areas; it is 0 where both are empty. Source: Kirillov et al. 2023
    (arXiv 2304.02643), stable masks.
    """
    core = (logits > offset).sum(dim=(1, 2))  # (n,)
    hull = (logits > -offset).sum(dim=(1, 2))
    return core / hull.clamp(min=1)


def mask_boxes(masks: torch.Tensor) -> torch.Tensor:
    """Tight boxes of masks (n, h, w) bool: (n, 4) int64, left, top, right, bottom, the last exclusive.

    An empty mask has the box 0, 0, 0, 0.
    """
    left, right = _extent(masks.any(dim=1))  # (n, h, w) → (n, w)
    top, bottom = _extent(masks.any(dim=2))  # (n, h, w) → (n, h)
    return torch.stack([left, top, right, bottom], dim=1)


def _extent(used: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First used position of each row (n, length) and the one after the last; 0 and 0 for none."""
    length = used.shape[1]
    positions = torch.arange(length, device=used.device)
    first = torch.where(used, positions, length).amin(dim=1)  # (n,)
    end = torch.where(used, positions + 1, 0).amax(dim=1)
    return first.clamp(max=end), end
