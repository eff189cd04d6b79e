"""Of boxes that overlap, keep the best: greedy non-maximum suppression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from regard.core.records import Float32Array, Int64Array


def suppress(boxes: npt.NDArray[np.number], scores: Float32Array, limit: float) -> Int64Array:
    """Indices of the boxes that stay, best first.

    `boxes` (n, 4): left, top, right, bottom, the last two exclusive; `scores` (n,), more is better.
    From the best box on, each that stays removes all later ones whose intersection over union with it
    exceeds `limit`. Equal scores rank by position. An empty box overlaps nothing. Memory grows with
    n, never with n².
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
        # Without a division, so that two empty boxes need no case of their own.
        waiting = waiting[shared <= limit * (areas[best] + areas[waiting] - shared)]
    return np.asarray(kept, dtype=np.int64)
