"""A small grey picture of a content, by which copies of it are recognised whatever model is in use.

It comes from decoded pixels alone, costs a few milliseconds and kilobytes, and keeps the picture's
shape, so that the place of a crop inside the whole picture can be found again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from regard.core.records import Image, UInt8Array

# Raised when the same pixels would give another signature: older ones are then made anew.
SIGNATURE_VERSION = 1
# Pixels of the longer side: at 96 a thing of a fiftieth of the picture's area still covers 13 × 10.
SIGNATURE_SIDE = 96
# A panorama keeps as many rows, though that changes its shape: fewer could not be compared.
_LEAST_SIDE = 16
_SAMPLES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """Luma of a picture, uint8 of shape (h, w): the longer side is 96 pixels, the shorter 16 to 96.

    `width` and `height` are the picture's own, in pixels.
    """

    grey: UInt8Array
    width: int
    height: int


def sign(image: Image) -> Signature:
    """The signature of decoded pixels; the same pixels give the same bytes."""
    rows, columns = signature_shape(image.width, image.height)
    # Of a large picture every n-th pixel: 16 × 16 of them still stand behind each of the signature's.
    across = max(1, image.width // (_SAMPLES * columns))
    down = max(1, image.height // (_SAMPLES * rows))
    sampled = image.pixels[down // 2 :: down, across // 2 :: across]
    grey = Pillow.fromarray(np.ascontiguousarray(sampled))
    # Whole steps first, which is exact averaging; then a filter that leaves nothing to alias.
    grey = grey.reduce(
        (max(1, grey.width // (4 * columns)), max(1, grey.height // (4 * rows)))
    ).convert("L")
    small = grey.resize((columns, rows), Pillow.Resampling.BILINEAR)
    return Signature(np.asarray(small, np.uint8), image.width, image.height)


def signature_shape(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the signature of a picture of this size in pixels."""
    longest = max(width, height)
    return (
        max(_LEAST_SIDE, round(SIGNATURE_SIDE * height / longest)),
        max(_LEAST_SIDE, round(SIGNATURE_SIDE * width / longest)),
    )
