"""Binary masks, held compressed.

A mask is stored as COCO's compressed run-length encoding (column-major runs, the `counts` string of
pycocotools), the form that other tools of this field read. Encoding, decoding and intersections are
pycocotools' own.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from regard.core.geometry import Box

# pycocotools 2.0.11 under NumPy 2; harmless, and out of our hands.
warnings.filterwarnings(
    "ignore", message="__array__ implementation doesn't accept a copy", category=DeprecationWarning
)


@dataclass(frozen=True, slots=True)
class Mask:
    """A binary mask of `height` × `width` pixels; `counts` is COCO compressed RLE (ASCII bytes)."""

    height: int
    width: int
    counts: bytes

    @classmethod
    def from_array(cls, pixels: npt.NDArray[np.bool_]) -> Mask:
        """Compress a bool array of shape (height, width)."""
        if pixels.ndim != 2:
            raise ValueError(f"a mask has two dimensions, not {pixels.ndim}")
        encoded = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
        height, width = pixels.shape
        return cls(height=height, width=width, counts=encoded["counts"])

    @classmethod
    def from_runs(cls, height: int, width: int, runs: list[int]) -> Mask:
        """From COCO's uncompressed RLE: column-major run lengths that start with zeros."""
        encoded = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
        return cls(height=height, width=width, counts=encoded["counts"])

    @classmethod
    def from_box(cls, height: int, width: int, box: Box) -> Mask:
        """All pixels inside `box`."""
        pixels = np.zeros((height, width), dtype=np.bool_)
        pixels[box.y : box.bottom, box.x : box.right] = True
        return cls.from_array(pixels)

    def to_array(self) -> npt.NDArray[np.bool_]:
        """The mask as a bool array of shape (height, width)."""
        decoded: npt.NDArray[np.uint8] = coco_mask.decode(self._coco())
        return decoded.astype(np.bool_)

    @property
    def area(self) -> int:
        """Number of pixels set."""
        return int(coco_mask.area(self._coco()))

    @property
    def box(self) -> Box:
        """The tight bounding box; of zero size for an empty mask."""
        x, y, width, height = (round(float(v)) for v in coco_mask.toBbox(self._coco()))
        return Box(x, y, width, height)

    def _coco(self) -> dict[str, Any]:
        return {"size": [self.height, self.width], "counts": self.counts}


def mask_iou(first: list[Mask], second: list[Mask]) -> npt.NDArray[np.float64]:
    """Intersection over union of each pair, shape (len(first), len(second)); one image size."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    overlaps: npt.NDArray[np.float64] = coco_mask.iou(
        [mask._coco() for mask in first],
        [mask._coco() for mask in second],
        [False] * len(second),
    )
    return overlaps
