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
        Term("area", -3.9968, 1.6971, 0.1742, -0.0377),
        Term("fill", 0.5123, 0.1543, -0.0059, 0.005),
        Term("frame", 0.0724, 0.1293, -0.1116, 0.0059),
        Term("inner gradient", 1.4216, 0.8899, -0.0133, 0.0161),
        Term("weak closure", 0.8677, 0.2605, 0.0539, 0.0101),
        Term("strong closure", 0.3182, 0.316, 0.0309, 0.0042),
        Term("compactness", 3.9685, 0.6648, -0.042, -0.0038),
        Term("contrast with the surroundings", 2.9201, 0.7691, -0.0179, -0.0081),
        Term("contrast with the rest", 0.5696, 0.1995, 0.0385, -0.0128),
        Term("surroundings unlike the border", 0.4366, 0.203, -0.0263, 0.0005),
        Term("surroundings' spread", 3.006, 0.5393, -0.0458, -0.004),
        Term("superpixels", 1.5611, 1.3317, 0.0107, 0.0034),
        Term("agreement", 1.3467, 0.9811, 0.0711, 0.0153),
        Term("depth", 2.3986, 1.6441, 0.1387, 0.0101),
        Term("surroundings' depth", 2.3619, 1.1779, -0.0981, -0.017),
    ),
    constant=0.1429,
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
    superpixels: int = 200
    cuts: int = 12
    smallest: float = 0.0015
    largest: float = 0.8
    same: float = 0.8
    crowding: float = 0.35
    objectness: Objectness = OBJECTNESS
    max_regions: int = 12
