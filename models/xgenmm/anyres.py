"""Any-resolution: an image's whole view and tiles, and the grouping of the tiles' features.

Pure functions over sizes, pixels and indices; sizes are (width, height). The arithmetic reproduces
the published model's floating point: exact fractions would choose another resolution or margin for
some sizes.

The tiles' features are merged into one map, which is cut row by row into groups of a tile's
length. With more than one column of tiles, a group is therefore a strip of the map and not a tile,
as in the training of the published models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from regard.core.records import Float32Array, Int64Array, UInt8Array

Size = tuple[int, int]


def choose_resolution(size: Size, pinpoints: Sequence[Size]) -> Size:
    """Return the first pinpoint with most effective pixels and, among those, least waste."""
    width, height = size
    best, most, least_waste = pinpoints[0], -1, 0
    for wide, high in pinpoints:
        scale = min(wide / width, high / height)
        shown = min(int(width * scale) * int(height * scale), width * height)
        waste = wide * high - shown
        if shown > most or (shown == most and waste < least_waste):
            best, most, least_waste = (wide, high), shown, waste
    return best


def grid_of(resolution: Size, side: int) -> Size:
    """Return (columns, rows) of tiles of `side` pixels."""
    return resolution[0] // side, resolution[1] // side


def resized_size(size: Size, resolution: Size) -> Size:
    """Return the largest size inside a resolution that keeps the aspect ratio."""
    (width, height), (wide, high) = size, resolution
    if wide / width < high / height:
        return wide, min(math.ceil(height * (wide / width)), high)
    return min(math.ceil(width * (high / height)), wide), high


def paste_offset(resized: Size, resolution: Size) -> Size:
    """Return (x, y) that centres the resized image on its canvas, rounded down."""
    return (resolution[0] - resized[0]) // 2, (resolution[1] - resized[1]) // 2


def cut_tiles(image: UInt8Array, resolution: Size, side: int) -> UInt8Array:
    """Centre an image on a black canvas of a resolution and cut it into tiles, row by row.

    `image` (h, w, 3) uint8 → (tiles, side, side, 3) uint8, resized by Pillow's bicubic filter.
    """
    size = resized_size((image.shape[1], image.shape[0]), resolution)
    canvas = np.zeros((resolution[1], resolution[0], 3), dtype=np.uint8)
    x, y = paste_offset(size, resolution)
    canvas[y : y + size[1], x : x + size[0]] = squash(image, size)
    columns, rows = grid_of(resolution, side)
    tiles = canvas.reshape(rows, side, columns, side, 3).swapaxes(1, 2)  # (rows, columns, b, b, 3)
    return np.ascontiguousarray(tiles.reshape(rows * columns, side, side, 3))


def squash(image: UInt8Array, size: Size) -> UInt8Array:
    """Resize an image (h, w, 3) uint8, ignoring aspect ratio, by Pillow's bicubic filter."""
    resized = Pillow.fromarray(image).resize(size, Pillow.Resampling.BICUBIC)
    pixels: UInt8Array = np.asarray(resized)
    return pixels


def normalised(pixels: UInt8Array, mean: Sequence[float], std: Sequence[float]) -> Float32Array:
    """Scale to [0, 1] and standardise: (n, b, b, 3) uint8 → (n, 3, b, b) float32."""
    levels = pixels.astype(np.float32) / np.float32(255)
    scaled = (levels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def visible_map(size: Size, grid: Size, tokens_per_side: int) -> npt.NDArray[np.bool_]:
    """Mark the tokens of the merged map that show the image rather than padding.

    Bool (rows of tokens, columns of tokens). The margin derives from the original size, not the
    resized one, and a very flat image loses every token.
    """
    width, height = size
    columns, rows = grid[0] * tokens_per_side, grid[1] * tokens_per_side
    visible = np.ones((rows, columns), dtype=np.bool_)
    if width / height > columns / rows:
        margin = (rows - int(height * (columns / width))) // 2
        visible[:margin] = False
        visible[rows - margin :] = False
    else:
        margin = (columns - int(width * (rows / height))) // 2
        visible[:, :margin] = False
        visible[:, columns - margin :] = False
    return visible


def merged_order(grid: Size, tokens_per_side: int) -> Int64Array:
    """Return each merged-map token's index among the tiles' tokens, (tiles · P,) int64.

    Indexing the flattened features of the tiles gives the flattened groups.
    """
    columns, rows = grid
    tokens = np.arange(columns * rows * tokens_per_side**2, dtype=np.int64)
    by_tile = tokens.reshape(rows, columns, tokens_per_side, tokens_per_side)
    return by_tile.swapaxes(1, 2).reshape(-1)  # (rows, y, columns, x) → the map, row by row


def key_mask(size: Size, grid: Size, tokens_per_side: int) -> npt.NDArray[np.bool_]:
    """Visible tokens of each group, (1 + tiles, P) bool; all of the whole view's are visible."""
    tokens = tokens_per_side**2
    tiles = visible_map(size, grid, tokens_per_side).reshape(-1, tokens)  # strips of the map
    return np.concatenate([np.ones((1, tokens), dtype=np.bool_), tiles])
