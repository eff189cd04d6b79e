"""A small grey picture of a content, by which copies of it are recognised whatever model is in use.

It comes from decoded pixels alone, costs a few milliseconds and kilobytes, and keeps the picture's
shape, so that the place of a crop inside the whole picture can be found again.
"""

from __future__ import annotations

from dataclasses import dataclass

from regard.core.records import UInt8Array

# Raised when the same pixels would give another signature: older ones are then made anew.
SIGNATURE_VERSION = 1
# Pixels of the longer side: at 96 a thing of a fiftieth of the picture's area still covers 13 × 10.
SIGNATURE_SIDE = 96
# A panorama keeps as many rows, though that changes its shape: fewer could not be compared.
_LEAST_SIDE = 16


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """Luma of a picture, uint8 of shape (h, w): the longer side is 96 pixels, the shorter 16 to 96.

    `width` and `height` are the picture's own, in pixels.
    """

    grey: UInt8Array
    width: int
    height: int


def signature_shape(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the signature of a picture of this size in pixels."""
    longest = max(width, height)
    return (
        max(_LEAST_SIDE, round(SIGNATURE_SIDE * height / longest)),
        max(_LEAST_SIDE, round(SIGNATURE_SIDE * width / longest)),
    )
