"""Candidate masks as SAM 2's decoder predicts them, and the filters that select the good ones.

Filters work on the decoder's low-resolution logits (a quarter of the input's side): shares of area
and overlaps of boxes are the same there as in the photograph, to within a cell. Only masks that
pass every filter are drawn at full size. Small islands are removed and small holes filled on the
logits too, by changing signs, so that edges stay smooth when the mask is enlarged.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

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

        `logits` (P, M, h, w) and predicted `ious` (P, M), M masks a point. The cheap test comes
        first.
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

    Logits (n, h, w), scores (n,) float32 in [0, 1]. The first mask lies within the second, so that
    the IoU is the quotient of their areas; it is 0 where both are empty. Source: Kirillov et al.
    2023 (arXiv 2304.02643), stable masks.
    """
    core = (logits > offset).sum(dim=(1, 2))  # (n,)
    hull = (logits > -offset).sum(dim=(1, 2))
    return core / hull.clamp(min=1)


def mask_boxes(masks: torch.Tensor) -> torch.Tensor:
    """Tight boxes of masks (n, h, w) bool: (n, 4) int64, left, top, right, bottom, the last
    exclusive.

    An empty mask has the box 0, 0, 0, 0.
    """
    left, right = _extent(masks.any(dim=1))  # (n, h, w) → (n, w)
    top, bottom = _extent(masks.any(dim=2))  # (n, h, w) → (n, h)
    return torch.stack([left, top, right, bottom], dim=1)


def _extent(used: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First and one-past-last true index of each row (n, length); 0 and 0 for none."""
    length = used.shape[1]
    positions = torch.arange(length, device=used.device)
    first = torch.where(used, positions, length).amin(dim=1)  # (n,)
    end = torch.where(used, positions + 1, 0).amax(dim=1)
    return first.clamp(max=end), end


def suppress(boxes: npt.NDArray[np.number], scores: Float32Array, limit: float) -> Int64Array:
    """Return the indices of the boxes to keep, best first.

    `boxes` (n, 4): left, top, right, bottom, the last two exclusive; `scores` (n,), more is
    better. From the best box on, each that stays removes all later ones whose intersection over
    union with it exceeds `limit`. Equal scores rank by position. An empty box overlaps nothing.
    Memory grows with n, never with n².
    """
    left, top, right, bottom = boxes.astype(np.float64).T  # (n,) each
    areas = (right - left) * (bottom - top)
    waiting = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while waiting.size:
        best, waiting = waiting[0], waiting[1:]
        kept.append(int(best))
        width = np.minimum(right[best], right[waiting]) - np.maximum(left[best], left[waiting])
        height = np.minimum(bottom[best], bottom[waiting]) - np.maximum(top[best], top[waiting])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        # Multiplied instead of divided, so two empty boxes need no special case.
        waiting = waiting[shared <= limit * (areas[best] + areas[waiting] - shared)]
    return np.asarray(kept, dtype=np.int64)


BoolArray = npt.NDArray[np.bool_]
# Masks connect diagonally; holes do not.
_WITH_CORNERS = np.ones((3, 3), dtype=np.bool_)
_WITHOUT_CORNERS = ndimage.generate_binary_structure(2, 1)
# A logit of zero counts as outside and has no sign to flip.
_LEAST = np.float32(1e-6)


def without_specks(logits: Float32Array, smallest: int) -> Float32Array:
    """Logits (h, w) whose mask has neither holes nor islands of fewer than `smallest` pixels.

    Holes are filled first, so that what lies within one counts as part of the mask around it. A
    hole may lie against the border. When nothing as large as `smallest` is left the mask is empty.
    Source: Kirillov et al. 2023 (arXiv 2304.02643), postprocessing of automatic masks.
    """
    inside = logits > 0
    solid = ~_large_parts(~inside, smallest, _WITHOUT_CORNERS)
    clean = _large_parts(solid, smallest, _WITH_CORNERS)
    magnitude = np.maximum(np.abs(logits), _LEAST)
    return np.where(clean, magnitude, -magnitude).astype(np.float32, copy=False)


def _large_parts(mask: BoolArray, smallest: int, neighbours: BoolArray) -> BoolArray:
    """Keep connected components of a mask (h, w) with at least `smallest` pixels."""
    labels, count = ndimage.label(mask, structure=neighbours)  # (h, w), 0 outside the mask
    large = np.bincount(labels.ravel(), minlength=count + 1) >= smallest  # (count + 1,)
    large[0] = False
    parts: BoolArray = large[labels]  # (h, w)
    return parts
