"""Image → superpixels and their adjacency graph; every region is a union of superpixels.

A watershed of the colour gradient (Vincent and Soille, 1991) gives thousands of basins, which are
merged, weakest boundary first in rounds of Borůvka's algorithm, until some hundreds remain. All
later measures are sums over superpixels (area, colour, histogram) or over adjacent pairs (length
and gradient of their boundary), so no later step reads pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from skimage.segmentation import watershed

from regard.core.records import Float32Array, Float64Array, Int64Array

LIGHTNESS_BINS = 8
CHROMA_BINS = 6
"""Bins of a colour histogram: lightness, then a* × b* over [-60, 60], half of the mass each."""

HISTOGRAM_SIZE = LIGHTNESS_BINS + CHROMA_BINS**2

_CHROMA_RANGE = 60.0
_GRADIENT_STEPS = 4.0
"""Quantisation levels per unit of gradient in the watershed; fewer levels give fewer basins."""

_COLOUR_SHARE = 0.3
"""Weight of the distance of mean colours relative to the gradient in merging."""

_FREE_SIZE = 200.0
"""Pixels above which a basin's size no longer affects its merging."""

_ROUND_SHARE = 0.6
"""Share of a round's candidate merges that are applied, weakest first."""

_CODES = np.arange(256) / 255.0
_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4).astype(
    np.float32
)
_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_TO_WHITE_XYZ = (_TO_XYZ / _TO_XYZ.sum(axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Partition:
    """An image's n superpixels and the e boundaries between them.

    `labels` (h, w) int64 in [0, n); `area` (n,) pixels; `colour` (n, 3) mean CIELAB; `histogram`
    (n, HISTOGRAM_SIZE) pixels a bin; `frame` (n,) pixels on the image's border; `first` and
    `second` (e,) the superpixels of each boundary; `length` (e,) its pixel pairs and `gradient`
    (e,) the mean CIELAB gradient along it, per pixel.
    """

    labels: Int64Array
    area: Float64Array
    colour: Float64Array
    histogram: Float64Array
    frame: Float64Array
    first: Int64Array
    second: Int64Array
    length: Float64Array
    gradient: Float64Array

    @property
    def count(self) -> int:
        """Number of superpixels, n."""
        return len(self.area)


def to_lab(pixels: npt.NDArray[np.uint8]) -> Float32Array:
    """sRGB uint8 (h, w, 3) → CIELAB under D65, float32 (h, w, 3)."""
    xyz = _LINEAR[pixels] @ _TO_WHITE_XYZ.T
    root = np.where(xyz > 216 / 24389, np.cbrt(xyz), (841 / 108) * xyz + 4 / 29)
    lab: Float32Array = np.empty_like(root)
    lab[..., 0] = 116 * root[..., 1] - 16
    lab[..., 1] = 500 * (root[..., 0] - root[..., 1])
    lab[..., 2] = 200 * (root[..., 1] - root[..., 2])
    return lab


def partition(pixels: npt.NDArray[np.uint8], superpixels: int, sigma: float) -> Partition:
    """Cut sRGB uint8 (h, w, 3) into at most `superpixels`; `sigma` is in pixels."""
    lab = to_lab(pixels)
    gradient = _gradient(lab, sigma)
    basins = _basins(gradient)
    count = int(basins.max()) + 1
    area: Float64Array = np.bincount(basins.ravel(), minlength=count).astype(np.float64)
    colour = _sums(basins, lab, count)
    first, second, length, contrast = _boundaries(basins, gradient, count)
    names = np.arange(count)
    while count > superpixels and len(first):
        chosen = _weakest(count - superpixels, area, colour, first, second, contrast / length)
        graph = coo_matrix(
            (np.ones(len(chosen)), (first[chosen], second[chosen])), shape=(count, count)
        )
        count, renamed = connected_components(graph, directed=False)
        area = np.bincount(renamed, area, count).astype(np.float64)
        colour = np.stack([np.bincount(renamed, channel, count) for channel in colour.T], axis=1)
        first, second, length, contrast = _joined(
            renamed[first], renamed[second], length, contrast, count
        )
        names = renamed[names]
    labels = names[basins].astype(np.int64)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return Partition(
        labels=labels,
        area=area,
        colour=colour / area[:, None],
        histogram=_histograms(labels, lab, count),
        frame=np.bincount(border, minlength=count).astype(np.float64),
        first=first,
        second=second,
        length=length,
        gradient=contrast / length,
    )


def _gradient(lab: Float32Array, sigma: float) -> Float32Array:
    """Magnitude of the Gaussian gradient over the three colour channels, (h, w)."""
    squares = np.zeros(lab.shape[:2], np.float32)
    for channel in range(3):
        plane = np.ascontiguousarray(lab[..., channel])
        for order in ((0, 1), (1, 0)):
            squares += ndimage.gaussian_filter(plane, sigma, order=order) ** 2
    return np.sqrt(squares)


def _basins(gradient: Float32Array) -> Int64Array:
    """Watershed basins (h, w), numbered from 0; a constant gradient gives one basin."""
    relief = np.minimum(gradient * _GRADIENT_STEPS, 255).astype(np.uint8)
    if relief.min() == relief.max():
        return np.zeros(relief.shape, np.int64)
    basins: Int64Array = watershed(relief).astype(np.int64)
    return basins - 1


def _sums(labels: Int64Array, values: Float32Array, count: int) -> Float64Array:
    """Sum each channel of (h, w, c) over each label: (count, c)."""
    flat = labels.ravel()
    return np.stack(
        [np.bincount(flat, plane.ravel(), count) for plane in np.moveaxis(values, 2, 0)], 1
    )


def _boundaries(
    labels: Int64Array, gradient: Float32Array, count: int
) -> tuple[Int64Array, Int64Array, Float64Array, Float64Array]:
    """Adjacent pairs of labels, the length of each boundary in pixel pairs, and its gradient
    sum."""
    one = np.concatenate([labels[:, :-1].ravel(), labels[:-1].ravel()])
    other = np.concatenate([labels[:, 1:].ravel(), labels[1:].ravel()])
    steepest = np.concatenate(
        [
            np.maximum(gradient[:, :-1], gradient[:, 1:]).ravel(),
            np.maximum(gradient[:-1], gradient[1:]).ravel(),
        ]
    )
    return _joined(one, other, np.ones(len(one)), steepest.astype(np.float64), count)


def _joined(
    one: Int64Array, other: Int64Array, length: Float64Array, contrast: Float64Array, count: int
) -> tuple[Int64Array, Int64Array, Float64Array, Float64Array]:
    """Merge boundaries between the same two labels; drop those inside a label."""
    apart = one != other
    low = np.minimum(one, other)[apart].astype(np.int64)
    high = np.maximum(one, other)[apart]
    pairs, place = np.unique(low * count + high, return_inverse=True)
    place = place.ravel()
    size = len(pairs)
    return (
        pairs // count,
        pairs % count,
        np.bincount(place, length[apart], size).astype(np.float64),
        np.bincount(place, contrast[apart], size).astype(np.float64),
    )


def _weakest(
    excess: int,
    area: Float64Array,
    colour: Float64Array,
    first: Int64Array,
    second: Int64Array,
    gradient: Float64Array,
) -> Int64Array:
    """One round of Borůvka's algorithm: each basin's weakest boundary, weakest first.

    Boundaries of small basins weigh less, so that none is left. `colour` (n, 3) holds sums.
    """
    mean = colour / area[:, None]
    distance = np.sqrt(((mean[first] - mean[second]) ** 2).sum(axis=1))
    smaller = np.minimum(area[first], area[second])
    weight = (_COLOUR_SHARE * distance + gradient) * np.sqrt(np.minimum(smaller, _FREE_SIZE))
    order = np.argsort(weight, kind="stable")
    ends = np.stack([first[order], second[order]], axis=1).ravel()
    earliest = np.unique(ends, return_index=True)[1] // 2
    weakest = order[np.unique(earliest)]
    return weakest[: max(1, min(excess, int(len(weakest) * _ROUND_SHARE)))]


def _histograms(labels: Int64Array, lab: Float32Array, count: int) -> Float64Array:
    """Colour histograms in pixels, (count, HISTOGRAM_SIZE); a row sums to the label's area."""
    lightness = np.clip(lab[..., 0] * (LIGHTNESS_BINS / 100), 0, LIGHTNESS_BINS - 1).astype(
        np.int64
    )
    scaled = (lab[..., 1:] + _CHROMA_RANGE) * (CHROMA_BINS / (2 * _CHROMA_RANGE))
    chroma = np.clip(scaled, 0, CHROMA_BINS - 1).astype(np.int64)
    hue = chroma[..., 0] * CHROMA_BINS + chroma[..., 1]
    parts = []
    for bins, size in ((lightness, LIGHTNESS_BINS), (hue, CHROMA_BINS**2)):
        cells = np.bincount((labels * size + bins).ravel(), minlength=count * size)
        parts.append(cells.reshape(count, size) / 2)
    return np.concatenate(parts, axis=1)
