"""Converts masks to and from COCO's compressed run-length encoding, with pycocotools."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from regard.core.geometry import Box, Mask

# pycocotools 2.0.11 triggers this under NumPy 2; it is harmless.
warnings.filterwarnings(
    "ignore", message="__array__ implementation doesn't accept a copy", category=DeprecationWarning
)


def encode_mask(pixels: npt.NDArray[np.bool_]) -> Mask:
    """Compress a bool array of shape (height, width)."""
    if pixels.ndim != 2:
        raise ValueError(f"a mask has two dimensions, not {pixels.ndim}")
    encoded = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
    height, width = pixels.shape
    return Mask(height, width, encoded["counts"])


def mask_from_runs(height: int, width: int, runs: list[int]) -> Mask:
    """Convert COCO's uncompressed form: column-major run lengths, starting with zeros."""
    encoded = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return Mask(height, width, encoded["counts"])


def mask_from_box(height: int, width: int, box: Box) -> Mask:
    """Set all pixels inside `box`."""
    pixels = np.zeros((height, width), dtype=np.bool_)
    pixels[box.y : box.y + box.height, box.x : box.x + box.width] = True
    return encode_mask(pixels)


def decode_mask(mask: Mask) -> npt.NDArray[np.bool_]:
    """Return a bool array of shape (height, width)."""
    decoded: npt.NDArray[np.uint8] = coco_mask.decode(_coco(mask))
    return decoded.astype(np.bool_)


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


def _coco(mask: Mask) -> dict[str, Any]:
    return {"size": [mask.height, mask.width], "counts": mask.counts}
