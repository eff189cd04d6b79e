"""Image → superpixels and their adjacency graph; every region is a union of superpixels.

A watershed of the colour gradient gives thousands of basins: each pixel belongs to the minimum that
steepest descent from it reaches (Bieniek and Moga, 2000). They are merged, weakest boundary first
in rounds of Borůvka's algorithm, until some hundreds remain. All later measures are sums over
superpixels (area, colour, histogram) or over adjacent pairs (length and gradient of their
boundary), so no later step reads pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from regard.core.records import Float32Array, Float64Array, Int64Array

LIGHTNESS_BINS = 8
CHROMA_BINS = 6
"""Bins of a colour histogram: lightness, then a* × b* over [-60, 60], half of the mass each."""

HISTOGRAM_SIZE = LIGHTNESS_BINS + CHROMA_BINS**2

_CHROMA_RANGE = 60.0
_GRADIENT_STEPS = 4.0
"""Quantisation levels per unit of gradient in the watershed; fewer levels give fewer basins."""

_RADII = 3.0
"""Standard deviations at which the Gaussian is cut off."""

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
_ROOT_STEPS = 1 << 14
_SCALED_XYZ = (_ROOT_STEPS * _TO_XYZ / _TO_XYZ.sum(axis=1, keepdims=True)).astype(np.float32)
_SHARES = np.arange(_ROOT_STEPS + 2) / _ROOT_STEPS
_ROOTS = np.where(_SHARES > 216 / 24389, np.cbrt(_SHARES), (841 / 108) * _SHARES + 4 / 29).astype(
    np.float32
)
"""CIELAB's function of a share of the white point's X, Y or Z, at steps of 1 / _ROOT_STEPS."""


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
    xyz = _LINEAR.take(pixels) @ _SCALED_XYZ.T
    root = _ROOTS.take((xyz + np.float32(0.5)).astype(np.int32))
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
        colour = np.stack([np.bincount(renamed, channel, count) for channel in colour])
        first, second, length, contrast = joined(
            renamed[first], renamed[second], length, contrast, count
        )
        names = renamed[names]
    labels = names[basins].astype(np.int64)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return Partition(
        labels=labels,
        area=area,
        colour=(colour / area).T,
        histogram=_histograms(labels, lab, count),
        frame=np.bincount(border, minlength=count).astype(np.float64),
        first=first,
        second=second,
        length=length,
        gradient=contrast / length,
    )


def _gradient(lab: Float32Array, sigma: float) -> Float32Array:
    """Magnitude of the smoothed colours' central differences over all three channels, (h, w)."""
    planes = np.ascontiguousarray(np.moveaxis(lab, 2, 0))
    smooth = ndimage.gaussian_filter(planes, (0, sigma, sigma), truncate=_RADII)
    edged = np.pad(smooth, ((0, 0), (1, 1), (1, 1)), mode="edge")
    across = edged[:, 1:-1, 2:] - edged[:, 1:-1, :-2]
    down = edged[:, 2:, 1:-1] - edged[:, :-2, 1:-1]
    across *= across
    down *= down
    across += down
    magnitude: Float32Array = np.sqrt(across.sum(axis=0)) / np.float32(2)
    return magnitude


def _basins(gradient: Float32Array) -> Int64Array:
    """Watershed basins (h, w), numbered from 0; a constant gradient gives one basin."""
    height, width = gradient.shape
    relief = np.full((height + 2, width + 2), np.inf, dtype=np.float32)
    relief[1:-1, 1:-1] = np.floor(gradient * _GRADIENT_STEPS)
    lowest = relief[1:-1, 1:-1].copy()
    if lowest.min() == lowest.max():
        return np.zeros(gradient.shape, np.int64)
    step = np.zeros(gradient.shape, np.int64)
    for down, across in ((-1, 0), (0, -1), (0, 1), (1, 0)):
        beside = relief[1 + down : 1 + down + height, 1 + across : 1 + across + width]
        offset = down * width + across
        # On a plateau every pixel descends to an earlier one, so no path returns to its start.
        lower = beside <= lowest if offset < 0 else beside < lowest
        np.minimum(lowest, beside, out=lowest)
        step = np.where(lower, offset, step)
    target = np.arange(height * width) + step.ravel()
    while not np.array_equal(further := target[target], target):
        target = further
    is_minimum = target == np.arange(height * width)
    basins: Int64Array = (np.cumsum(is_minimum) - 1)[target].reshape(height, width)
    return basins


def _sums(labels: Int64Array, values: Float32Array, count: int) -> Float64Array:
    """Sum each channel of (h, w, c) over each label: (c, count)."""
    flat = labels.ravel()
    return np.stack(
        [np.bincount(flat, plane.ravel(), count) for plane in np.moveaxis(values, 2, 0)]
    )


def _boundaries(
    labels: Int64Array, gradient: Float32Array, count: int
) -> tuple[Int64Array, Int64Array, Float64Array, Float64Array]:
    """Adjacent pairs of labels, the length of each boundary in pixel pairs, and its gradient
    sum."""
    _, width = labels.shape
    flat, steep = labels.ravel(), gradient.ravel()
    pairs = []
    for step, is_across in ((1, True), (width, False)):
        at = np.flatnonzero(flat[step:] != flat[:-step])
        if is_across:  # the last pixel of a row has no neighbour on its right
            at = at[at % width != width - 1]
        steepest = np.maximum(steep[at], steep[at + step])
        pairs.append((flat[at], flat[at + step], steepest.astype(np.float64)))
    one, other, contrast = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return joined(one, other, np.ones(len(one)), contrast, count)


def joined(
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

    Boundaries of small basins weigh less, so that none is left. `colour` (3, n) holds sums.
    """
    mean = colour / area
    distance = np.sqrt(((mean[:, first] - mean[:, second]) ** 2).sum(axis=0))
    smaller = np.minimum(area[first], area[second])
    weight = (_COLOUR_SHARE * distance + gradient) * np.sqrt(np.minimum(smaller, _FREE_SIZE))
    least = least_incident(weight, first, second, len(area))
    weakest = np.flatnonzero((weight == least[first]) | (weight == least[second]))
    weakest = weakest[np.argsort(weight[weakest], kind="stable")]
    return weakest[: max(1, min(excess, int(len(weakest) * _ROUND_SHARE)))]


def least_incident(
    weight: Float64Array, first: Int64Array, second: Int64Array, count: int
) -> Float64Array:
    """Least weight of the boundaries of each of `count` segments; infinite without any."""
    least = np.full(count, np.inf)
    np.minimum.at(least, first, weight)
    np.minimum.at(least, second, weight)
    return least


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
