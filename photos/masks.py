"""Converts masks to and from COCO's compressed run-length encoding, with pycocotools."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from regard.core.geometry import Box, Corners, Mask

# pycocotools 2.0.11 triggers this under NumPy 2; it is harmless.
warnings.filterwarnings(
    "ignore", message="__array__ implementation doesn't accept a copy", category=DeprecationWarning
)

_Points = npt.NDArray[np.float64]
# The outline of a larger mask is that of blocks of its pixels, which bounds time and memory.
_MOST_SIDE = 4096


def encode_mask(pixels: npt.NDArray[np.bool_]) -> Mask:
    """Compress a bool array of shape (height, width)."""
    if pixels.ndim != 2:
        raise ValueError(f"a mask has two dimensions, not {pixels.ndim}")
    encoded = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
    height, width = pixels.shape
    return Mask(height, width, encoded["counts"])


def encode_enlarged_mask(pixels: npt.NDArray[np.bool_], height: int, width: int) -> Mask:
    """Compress a bool array as it would be when enlarged to `height` × `width`.

    Each pixel takes the value of the one that covers its centre. The time depends on the outline
    instead of the area.
    """
    rows, columns = pixels.shape
    padded = np.zeros((columns, rows + 2), np.bool_)
    padded[:, 1:-1] = pixels.T
    # Within a column, starts of spans and ends alternate.
    changes = np.flatnonzero(padded[:, 1:] != padded[:, :-1])
    column, row = np.divmod(changes, rows + 1)
    # First enlarged row of each row, and the column that covers each enlarged column.
    row_at = np.searchsorted(_covering(height, rows), np.arange(rows + 1))
    covering = _covering(width, columns)
    spans = np.bincount(column[::2], minlength=columns)
    repeats = spans[covering]
    offset = np.repeat((np.cumsum(spans) - spans)[covering] - np.cumsum(repeats) + repeats, repeats)
    span = np.arange(len(offset)) + offset
    top = height * np.repeat(np.arange(width), repeats)
    starts, ends = top + row_at[row[::2][span]], top + row_at[row[1::2][span]]
    # A span that reaches the bottom goes on where the next column begins with one.
    apart = np.flatnonzero(starts[1:] != ends[:-1])
    bounds = np.stack(
        [np.append(starts[:1], starts[1:][apart]), np.append(ends[:-1][apart], ends[-1:])], axis=1
    )
    runs = np.diff(bounds.ravel(), prepend=0, append=height * width).tolist()
    return mask_from_runs(height, width, runs if runs[-1] else runs[:-1])


def _covering(length: int, count: int) -> npt.NDArray[np.int64]:
    """Index of the one of `count` equal parts that covers each pixel's centre, (length,)."""
    return (2 * np.arange(length) + 1) * count // (2 * length)


def mask_from_runs(height: int, width: int, runs: list[int]) -> Mask:
    """Convert COCO's uncompressed form: column-major run lengths, starting with zeros."""
    encoded = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return Mask(height, width, encoded["counts"])


def mask_from_box(height: int, width: int, box: Box) -> Mask:
    """Set all pixels inside `box`."""
    pixels = np.zeros((height, width), dtype=np.bool_)
    pixels[box.y : box.y + box.height, box.x : box.x + box.width] = True
    return encode_mask(pixels)


def mask_from_corners(height: int, width: int, corners: Corners) -> Mask:
    """The pixels inside a quadrilateral."""
    points = [float(value) for corner in corners for value in corner]
    [encoded] = coco_mask.frPyObjects([points], height, width)
    return Mask(height, width, encoded["counts"])


def decode_mask(mask: Mask) -> npt.NDArray[np.bool_]:
    """Return a bool array of shape (height, width)."""
    decoded: npt.NDArray[np.uint8] = coco_mask.decode(_coco(mask))
    return decoded.astype(np.bool_)


def decode_samples(mask: Mask, rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
    """Return `decode_mask(mask)[rows, columns]`, in time that depends on the outline.

    The slices have non-negative starts and positive steps.
    """
    runs = _runs(mask)
    column, row = np.divmod(np.cumsum(runs)[:-1], mask.height)
    y, x = (
        range(*part.indices(length))
        for part, length in ((rows, mask.height), (columns, mask.width))
    )
    # Samples before each change, in column-major order.
    before = _samples_before(column, x) * len(y)
    is_sampled = _samples_before(column + 1, x) * len(y) > before
    before[is_sampled] += _samples_before(row, y)[is_sampled]
    lengths = np.diff(before, prepend=0, append=len(y) * len(x))
    return np.repeat(np.arange(len(runs)) % 2 == 1, lengths).reshape(len(x), len(y)).T


def _samples_before(positions: npt.NDArray[np.int64], samples: range) -> npt.NDArray[np.int64]:
    """How many of `samples` are less than each position."""
    count: npt.NDArray[np.int64] = -((samples.start - positions) // samples.step)
    return count.clip(0, len(samples))


def _runs(mask: Mask) -> npt.NDArray[np.int64]:
    """COCO's uncompressed form: column-major run lengths, starting with zeros.

    Each length is written in pieces of five bits, the lowest first and the last with a sign. From
    the fourth on, it is the difference from the one two before.
    """
    codes = np.frombuffer(mask.counts, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.append(0, ends[:-1] + 1)
    pieces = ends - starts + 1
    place = np.arange(len(codes)) - np.repeat(starts, pieces)
    runs = np.add.reduceat((codes & 31) << 5 * place, starts)
    runs[codes[ends] & 16 > 0] -= 1 << 5 * pieces[codes[ends] & 16 > 0]
    for first in (1, 2):
        np.cumsum(runs[first::2], out=runs[first::2])
    return runs


def mask_area(mask: Mask) -> int:
    """Count the pixels that are set."""
    return int(coco_mask.area(_coco(mask)))


def mask_box(mask: Mask) -> Box:
    """Return the tight bounding box; its size is zero for an empty mask."""
    x, y, width, height = (round(float(value)) for value in coco_mask.toBbox(_coco(mask)))
    return Box(x, y, width, height)


def mask_iou(first: list[Mask], second: list[Mask]) -> npt.NDArray[np.float64]:
    """Intersection over union of each pair, shape (len(first), len(second)).

    All masks must have the same height and width.
    """
    if not first or not second:
        return np.zeros((len(first), len(second)))
    overlaps: npt.NDArray[np.float64] = coco_mask.iou(
        list(map(_coco, first)), list(map(_coco, second)), [False] * len(second)
    )
    return overlaps


def mask_outline(mask: Mask) -> list[_Points]:
    """The edge of a mask as closed rings of points x, y in pixels, each of shape (n ≥ 5, 2).

    Holes and separate pieces have rings of their own: a pixel is in the mask if its middle lies
    inside an odd number of rings. Corners are cut by half a pixel. In masks of more than 4096
    pixels a side, rings may run outside of them by a 4096th of that.
    """
    # Only what draws masks needs it, and it imports much of SciPy.
    from skimage.measure import find_contours

    box = mask_box(mask)
    if not box.area:
        return []
    inside = decode_mask(mask)[box.y : box.bottom, box.x : box.right]
    step = -(-max(box.height, box.width) // _MOST_SIDE)
    for axis in (0, 1) if step > 1 else ():
        blocks = np.arange(0, inside.shape[axis], step)
        inside = np.logical_or.reduceat(inside, blocks, axis=axis)
    # Diagonal neighbours are joined: a slanting line of single pixels is one piece.
    padded = np.pad(inside, 1).astype(np.float64)
    rings = find_contours(padded, 0.5, fully_connected="high")  # type: ignore[no-untyped-call]
    origin, size = np.array([[box.y, box.x], [box.height, box.width]])
    return [(origin + np.minimum((_corners(ring) - 0.5) * step, size))[:, ::-1] for ring in rings]


def _corners(ring: _Points) -> _Points:
    """A closed ring without the points between the ends of straight lines."""
    points = ring[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    corners = points[turns]
    return np.concatenate([corners, corners[:1]])


def _coco(mask: Mask) -> dict[str, Any]:
    return {"size": [mask.height, mask.width], "counts": mask.counts}
