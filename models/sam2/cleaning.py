"""Masks without specks: small islands are removed, small holes filled.

Works on logits rather than on masks: where the decision changes, the logit changes its sign, so that
the mask that is later drawn at the photograph's size has the same smooth edges everywhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from regard.core.records import Float32Array

BoolArray = npt.NDArray[np.bool_]
# What touches at a corner belongs together in a mask; the holes between do not.
_WITH_CORNERS = np.ones((3, 3), dtype=np.bool_)
_WITHOUT_CORNERS = ndimage.generate_binary_structure(2, 1)
# A logit of zero counts as outside and has no sign to change.
_LEAST = np.float32(1e-6)


def without_specks(logits: Float32Array, smallest: int) -> Float32Array:
    """Logits (h, w) whose mask has neither holes nor islands of fewer than `smallest` pixels.

    Holes are filled first, so that what lies within one counts as part of the mask around it. A hole
    may lie against the border. When nothing as large as `smallest` is left the mask is empty. Source:
    Kirillov et al. 2023 (arXiv 2304.02643), postprocessing of automatic masks.
    """
    inside = logits > 0
    solid = ~_large_parts(~inside, smallest, _WITHOUT_CORNERS)
    clean = _large_parts(solid, smallest, _WITH_CORNERS)
    magnitude = np.maximum(np.abs(logits), _LEAST)
    return np.where(clean, magnitude, -magnitude).astype(np.float32, copy=False)


def _large_parts(mask: BoolArray, smallest: int, neighbours: BoolArray) -> BoolArray:
    """The connected parts of a mask (h, w) that have at least `smallest` pixels."""
    labels, count = ndimage.label(mask, structure=neighbours)  # (h, w), 0 outside the mask
    large = np.bincount(labels.ravel(), minlength=count + 1) >= smallest  # (count + 1,)
    large[0] = False
    parts: BoolArray = large[labels]  # (h, w)
    return parts
