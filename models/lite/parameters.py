"""Parameters of the `lite` segmenter, those fitted to labelled photographs included.

They stand apart from what they control, because a pipeline's identity needs them in processes that
segment nothing, and the segmenter's libraries take long to import.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from regard.core.records import Float64Array

_CLIP = 3.0
"""Standard deviations at which a cue is clipped, for photographs unlike those of the fit."""


class Term(NamedTuple):
    """One cue's contribution: linear · z + square · z², where z = (cue - mean) / deviation."""

    cue: str
    mean: float
    deviation: float
    linear: float
    square: float


@dataclass(frozen=True, slots=True)
class Objectness:
    """A region's predicted mask IoU with a thing: the sum of the terms and a constant."""

    terms: tuple[Term, ...]
    constant: float

    def __call__(self, values: Float64Array) -> Float64Array:
        """Predicted mask IoU of each row of `cues`, (c,); `terms` in the order of `CUES`."""
        _, mean, deviation, linear, square = (
            np.array(part) for part in zip(*self.terms, strict=True)
        )
        z = standardised(values, mean, deviation)
        score: Float64Array = z @ linear + z**2 @ square + self.constant
        return score


OBJECTNESS = Objectness(
    terms=(
        Term("area", -4.0837, 1.6757, 0.1747, -0.0343),
        Term("fill", 0.5121, 0.1547, -0.0063, 0.0034),
        Term("frame", 0.07, 0.126, -0.1085, 0.0063),
        Term("inner gradient", 1.454, 0.8937, -0.0102, 0.0097),
        Term("weak closure", 0.8592, 0.271, 0.0525, 0.0089),
        Term("strong closure", 0.3355, 0.327, 0.0375, 0.0058),
        Term("compactness", 3.9756, 0.6738, -0.0417, -0.004),
        Term("contrast with the surroundings", 2.8504, 0.7902, -0.0198, -0.0093),
        Term("contrast with the rest", 0.5665, 0.198, 0.0386, -0.0135),
        Term("surroundings unlike the border", 0.4361, 0.2053, -0.0258, 0.0019),
        Term("surroundings' spread", 2.977, 0.5423, -0.047, -0.0012),
        Term("superpixels", 1.6287, 1.3676, 0.0003, 0.0099),
        Term("agreement", 1.3723, 0.9868, 0.0608, 0.0166),
        Term("depth", 2.3838, 1.6278, 0.1448, 0.0232),
        Term("surroundings' depth", 2.3946, 1.1863, -0.1021, -0.0246),
    ),
    constant=0.1204,
)
"""Printed by `python -m regard.models.lite.fit_ranking`."""


def standardised(values: Float64Array, mean: Float64Array, deviation: Float64Array) -> Float64Array:
    """Standardise cues and clip them to ±3."""
    return np.clip((values - mean) / deviation, -_CLIP, _CLIP)


@dataclass(frozen=True, slots=True)
class SegmenterParameters:
    """Every parameter that affects the regions.

    `side`: longest side, in pixels, at which an image is segmented; larger ones are reduced.
    `sigma`: scale of the colour gradient, in pixels of that size.
    `superpixels`: most superpixels of an image.
    `cuts`: levels of a merge tree at which components off the border are proposed.
    `smallest`, `largest`: bounds of a region's share of the image's area.
    `same`: mask IoU from which two regions are duplicates; `crowding`: predicted IoU that a region
    loses per unit of overlap with a better one. `max_regions`: most regions of an image.
    """

    side: int = 320
    sigma: float = 1.0
    superpixels: int = 250
    cuts: int = 12
    smallest: float = 0.0015
    largest: float = 0.8
    same: float = 0.8
    crowding: float = 0.35
    objectness: Objectness = OBJECTNESS
    max_regions: int = 12
