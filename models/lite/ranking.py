"""Ranks proposed regions by a fitted objectness and selects diverse ones.

Cues are contrast with the surroundings and closed boundaries (Alexe et al., 2012, "Measuring the
objectness of image windows"), distance from the image's border over the graph of superpixels (Wei
et al., 2012, "Geodesic saliency using background priors"), and agreement between proposals.
Objectness is a linear function of the cues and their squares that predicts a region's best mask
IoU with any thing; its fit stands in `parameters`. A region's position is not a cue,
because its distribution depends on the set of photographs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from regard.core.records import Float32Array, Float64Array, Int64Array
from regard.models.lite.proposals import BoolArray
from regard.models.lite.superpixels import Partition

CUES = (
    "area",
    "fill",
    "frame",
    "inner gradient",
    "weak closure",
    "strong closure",
    "compactness",
    "contrast with the surroundings",
    "contrast with the rest",
    "surroundings unlike the border",
    "surroundings' spread",
    "superpixels",
    "agreement",
    "depth",
    "surroundings' depth",
)
"""Columns of `cues`, in this order."""

_WEAK_EDGE, _STRONG_EDGE = 3.0, 12.0
"""CIELAB gradients per pixel from which a boundary counts as weak and as strong."""

_COLOUR_NOISE = 2.0
"""CIELAB distance between neighbours that counts as noise."""


def overlaps(partition: Partition, members: BoolArray) -> Float32Array:
    """Mask IoU of every pair of regions, (c, c)."""
    area = partition.area.astype(np.float32)
    rows = members.astype(np.float32)
    weighted = rows * area
    total = weighted.sum(axis=1)
    intersection = weighted @ rows.T
    iou: Float32Array = intersection / (total[:, None] + total[None] - intersection)
    return iou


def cues(partition: Partition, members: BoolArray, iou: Float32Array) -> Float64Array:
    """Return the cues of each region, (c, len(CUES)).

    `members` (c, n) bool are the proposed regions and `iou` (c, c) their overlaps.
    """
    rows = members.astype(np.float32)
    outside = 1 - rows
    weighted = rows * partition.area.astype(np.float32)
    area = weighted.sum(axis=1)
    total = float(partition.area.sum())
    touching = rows @ _lengths(partition)
    # Boundary length shared with each superpixel outside the region: its surroundings.
    around = touching * outside
    # A boundary lies within a region, or between it and its surroundings, or outside.
    columns = np.ascontiguousarray(members.T)
    one, other = columns[partition.first], columns[partition.second]  # (e, c)
    lengths, gradient = partition.length, partition.gradient
    between, within = (
        np.stack(sums).astype(np.float32) @ places.astype(np.float32)
        for places, sums in (
            (
                one ^ other,
                (lengths, lengths * (gradient > _WEAK_EDGE), lengths * (gradient > _STRONG_EDGE)),
            ),
            (one & other, (lengths, lengths * gradient)),
        )
    )
    perimeter, weak, strong = between
    seam, inner = within
    # A region that fills the image has no surroundings; its row stays zero.
    around /= np.maximum(perimeter, 1)[:, None]
    frame = rows @ partition.frame.astype(np.float32)
    histogram = (partition.histogram / partition.area[:, None]).astype(np.float32)
    colour = partition.colour.astype(np.float32)
    mass = weighted @ histogram
    rest = (
        np.maximum(partition.histogram.sum(axis=0) - mass, 0) / np.maximum(total - area, 1)[:, None]
    )
    border = partition.frame.astype(np.float32) @ histogram / partition.frame.sum()
    around_colour = around @ colour
    apart = weighted @ colour / area[:, None] - around_colour
    variance = (around @ colour**2 - around_colour**2).sum(axis=1)
    depth = _depth(partition).astype(np.float32)
    values = {
        "area": np.log(area / total),
        "fill": area / _box_areas(partition, members),
        "frame": frame / np.maximum(frame + perimeter, 1),
        "inner gradient": np.log1p(inner / np.maximum(seam, 1)),
        "weak closure": weak / np.maximum(perimeter, 1),
        "strong closure": strong / np.maximum(perimeter, 1),
        "compactness": np.log(np.maximum(perimeter, 1) ** 2 / area),
        "contrast with the surroundings": np.log1p(np.sqrt((apart**2).sum(axis=1))),
        "contrast with the rest": 1 - np.minimum(mass / area[:, None], rest).sum(axis=1),
        "surroundings unlike the border": 1 - np.minimum(around @ histogram, border).sum(axis=1),
        "surroundings' spread": np.log1p(np.sqrt(np.maximum(variance, 0))),
        "superpixels": np.log(rows.sum(axis=1)),
        "agreement": np.log((iou**2 * (iou > 0.5)).sum(axis=1)),
        "depth": weighted @ depth / area,
        "surroundings' depth": around @ depth,
    }
    return np.stack([values[name] for name in CUES], axis=1).astype(np.float64)


def choose(
    score: Float64Array, iou: npt.NDArray[np.floating], most: int, same: float, crowding: float
) -> tuple[Int64Array, Float64Array]:
    """Pick at most `most` regions, best first; return their rows and adjusted scores.

    A region loses `crowding` times its greatest IoU with any region picked before, and is excluded
    when that IoU reaches `same`.
    """
    picked: list[int] = []
    scores: list[float] = []
    crowd = np.zeros(len(score))
    while len(picked) < min(most, len(score)):
        left = np.where(crowd < same, score - crowding * crowd, -np.inf)
        left[picked] = -np.inf
        best = int(left.argmax())
        if not np.isfinite(left[best]):
            break
        picked.append(best)
        scores.append(float(left[best]))
        crowd = np.maximum(crowd, iou[best])
    return np.array(picked, np.int64), np.array(scores)


def _lengths(partition: Partition) -> Float32Array:
    """Boundary length of each pair of superpixels, symmetric (n, n)."""
    matrix = np.zeros((partition.count, partition.count), np.float32)
    matrix[partition.first, partition.second] = partition.length
    matrix[partition.second, partition.first] = partition.length
    return matrix


def _box_areas(partition: Partition, members: BoolArray) -> Float64Array:
    """Area in pixels of each region's bounding box, (c,)."""
    boxes = ndimage.find_objects(partition.labels + 1)
    sides = []
    for axis in range(2):
        low = np.array([box[axis].start for box in boxes], np.float32)
        high = np.array([box[axis].stop for box in boxes], np.float32)
        size = np.float32(partition.labels.shape[axis])
        last, first = ((members * bound).max(axis=1) for bound in (high, size - low))
        sides.append(last + first - size)
    areas: Float64Array = (sides[0] * sides[1]).astype(np.float64)
    return areas


def _depth(partition: Partition) -> Float64Array:
    """Log of the least colour distance from the image's border to each superpixel, (n,)."""
    step = np.sqrt(
        ((partition.colour[partition.first] - partition.colour[partition.second]) ** 2).sum(axis=1)
    )
    count = partition.count
    border = np.flatnonzero(partition.frame)
    # scipy's sparse graphs would read a zero cost as no edge.
    cost = np.concatenate([np.maximum(step - _COLOUR_NOISE, 1e-6), np.full(len(border), 1e-6)])
    ends = (
        np.concatenate([partition.first, np.full(len(border), count)]),
        np.concatenate([partition.second, border]),
    )
    graph = coo_matrix((cost, ends), shape=(count + 1, count + 1)).tocsr()
    walked: Float64Array = dijkstra(graph, directed=False, indices=count)[:count]
    return np.log1p(walked)
