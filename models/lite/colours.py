"""Basic colour names of pixels.

Each of the eleven basic colour terms of English (Berlin and Kay, 1969) has a few typical sRGB
values. A pixel takes the name of the nearest value in CIELAB (D65), where distances approximate
perception.
"""

from __future__ import annotations

import numpy as np
import PIL.Image

from regard.core.records import Float32Array, Image, Int64Array, UInt8Array

TYPICAL: dict[str, tuple[tuple[int, int, int], ...]] = {
    "black": ((0, 0, 0), (25, 25, 25), (32, 28, 26)),
    "white": ((255, 255, 255), (240, 240, 240), (235, 232, 226)),
    "grey": ((70, 70, 70), (110, 110, 110), (150, 150, 150), (190, 190, 190), (130, 136, 142)),
    "red": ((220, 20, 30), (180, 20, 30), (130, 10, 20), (235, 50, 45)),
    "orange": ((255, 140, 0), (240, 110, 30), (255, 165, 60), (215, 110, 20)),
    "yellow": ((255, 235, 0), (250, 220, 80), (225, 195, 30), (255, 245, 140)),
    "green": ((0, 128, 0), (60, 160, 60), (120, 190, 60), (90, 110, 40), (30, 70, 30)),
    "blue": ((30, 60, 200), (60, 120, 220), (120, 180, 235), (20, 40, 100), (70, 100, 140)),
    "purple": ((128, 0, 128), (110, 60, 150), (150, 100, 190), (75, 30, 90)),
    "pink": ((255, 150, 180), (240, 90, 150), (255, 190, 205), (215, 120, 140)),
    "brown": ((120, 70, 30), (90, 55, 30), (150, 105, 65), (185, 150, 110), (60, 40, 25)),
}
NAMES = tuple(TYPICAL)
_SIDE = 96  # longest side in pixels; enough to measure shares of colours


def named_pixels(image: Image) -> Int64Array:
    """Indices into `NAMES` of a reduced image's pixels, shape (rows, columns), at most 96 each."""
    scale = min(1.0, _SIDE / max(image.width, image.height))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = PIL.Image.fromarray(image.pixels).resize(size, PIL.Image.Resampling.BOX)
    return name_pixels(np.asarray(small))


def name_pixels(pixels: UInt8Array) -> Int64Array:
    """Indices into `NAMES`: pixels (..., 3) uint8 → (...)."""
    lab = to_lab(pixels)
    # |p - t|² = |p|² - 2 p·t + |t|²; the first term does not depend on t.
    distances = _LENGTHS - 2 * lab @ _PROTOTYPES.T
    return np.asarray(_OWNERS[distances.argmin(axis=-1)])


def colour_shares(named: Int64Array, weights: Float32Array) -> Float32Array:
    """Weighted shares of the names: pixels (p,), weights (n, p) → (n, 11); rows sum to 1."""
    members = np.zeros((named.size, len(NAMES)), dtype=np.float32)
    members[np.arange(named.size), named.ravel()] = 1.0
    return np.asarray(weights @ members / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def to_lab(pixels: UInt8Array) -> Float32Array:
    """sRGB uint8 (..., 3) → CIELAB under D65; L in [0, 100] (IEC 61966-2-1, CIE 15)."""
    value = np.asarray(pixels, dtype=np.float32) / np.float32(255)
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _RGB_TO_XYZ.T / _D65
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
    return np.asarray(lab, dtype=np.float32)


_RGB_TO_XYZ = np.asarray(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_D65 = np.asarray([0.95047, 1.0, 1.08883])
_PROTOTYPES = to_lab(
    np.asarray([value for values in TYPICAL.values() for value in values], dtype=np.uint8)
)
_LENGTHS = np.square(_PROTOTYPES).sum(axis=-1)
_OWNERS = np.asarray([number for number, name in enumerate(NAMES) for _ in TYPICAL[name]])
