"""From a map of foreground probabilities to regions: what hangs together is one region.

Regions never overlap. Holes stay holes: what is seen through a thing is not the thing.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from regard.core.geometry import Box
from regard.core.records import Float32Array, Region
from regard.models.sam2unet.parameters import Sam2UNetParameters
from regard.photos.masks import encode_mask, mask_area

_EPSILON = 1e-8


def stretched(probabilities: Float32Array) -> Float32Array:
    """The map (h, w) brought to 0 to 1 by its least and greatest value, as published evaluations do."""
    low, high = probabilities.min(), probabilities.max()
    result: Float32Array = (probabilities - low) / np.float32(high - low + _EPSILON)
    return result


def find_regions(probabilities: Float32Array, parameters: Sam2UNetParameters) -> list[Region]:
    """Regions of a map (h, w) of foreground probabilities, best first.

    A score is the region's mean probability times the square root of its share of the image: surer and
    larger is better, and a speck never comes before the thing that fills the picture. The map and what
    is made from it take about 12 bytes a pixel.
    """
    foreground = probabilities > _cut(probabilities, parameters.threshold)
    least = max(1.0, parameters.smallest * probabilities.size)
    labels, _ = ndimage.label(foreground, output=np.int32)
    del foreground
    found: list[tuple[float, int, tuple[slice, slice]]] = []
    for label, place in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = place
        if (rows.stop - rows.start) * (columns.stop - columns.start) < least:
            continue
        inside = probabilities[place][labels[place] == label]
        if inside.size < least or inside.max() < parameters.certainty:
            continue
        share = inside.size / probabilities.size
        found.append((float(inside.mean(dtype=np.float64)) * math.sqrt(share), label, place))
    found.sort(key=lambda item: (-item[0], item[1]))
    return [
        _region(labels, label, place, score) for score, label, place in found[: parameters.limit]
    ]


def _cut(probabilities: Float32Array, threshold: float) -> float:
    """The probability that lies at `threshold` of the map's range, and never above `threshold`.

    Else a picture that is foreground all over would be cut in two by slight differences.
    """
    low, high = float(probabilities.min()), float(probabilities.max())
    return min(threshold, low + threshold * (high - low))


def _region(
    labels: npt.NDArray[np.int32], label: int, place: tuple[slice, slice], score: float
) -> Region:
    rows, columns = place
    pixels = np.zeros(labels.shape, np.bool_)
    pixels[place] = labels[place] == label
    mask = encode_mask(pixels)
    box = Box(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    return Region(box=box, mask=mask, area=mask_area(mask), score=score)
