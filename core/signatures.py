"""A small grey image of a content that identifies copies of it independently of any model.

It is computed from decoded pixels in a few milliseconds, takes a few kilobytes, and keeps the
aspect ratio, so that the position of a crop inside the whole image can be found.
"""

from __future__ import annotations

from dataclasses import dataclass

from regard.core.records import UInt8Array

# Increase when the same pixels give a different signature; older ones are then recomputed.
SIGNATURE_VERSION = 1
# Pixels of the longer side: at 96, a fiftieth of the image's area still covers 13 × 10.
SIGNATURE_SIDE = 96
# Panoramas are stretched to this many rows; fewer could not be compared.
_LEAST_SIDE = 16


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """Luma as uint8 of shape (h, w): the longer side is 96 pixels, the shorter 16 to 96.

    `width` and `height` are those of the original image, in pixels.
    """

    grey: UInt8Array
    width: int
    height: int


def signature_shape(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the signature of an image of this size in pixels."""
    longest = max(width, height)
    return (
        max(_LEAST_SIDE, round(SIGNATURE_SIDE * height / longest)),
        max(_LEAST_SIDE, round(SIGNATURE_SIDE * width / longest)),
    )
