"""Boxes and masks in integer pixels of the oriented image, origin at the top left."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: left `x`, top `y`, `width`, `height`, in pixels (COCO's order)."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column to the right of the box."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row below the box."""
        return self.y + self.height

    @property
    def area(self) -> int:
        """The number of pixels inside the box."""
        return self.width * self.height

    def iou(self, other: Box) -> float:
        """Intersection over union with another box, in [0, 1]; 0 when both are empty."""
        width = min(self.right, other.right) - max(self.x, other.x)
        height = min(self.bottom, other.bottom) - max(self.y, other.y)
        intersection = max(width, 0) * max(height, 0)
        union = self.area + other.area - intersection
        return intersection / union if union else 0.0

    def clipped(self, width: int, height: int) -> Box | None:
        """The part inside an image of `width` × `height`, or None if the box lies outside it."""
        left, top = max(self.x, 0), max(self.y, 0)
        right, bottom = min(self.right, width), min(self.bottom, height)
        if right <= left or bottom <= top:
            return None
        return Box(left, top, right - left, bottom - top)

    def to_list(self) -> list[int]:
        """[x, y, width, height]."""
        return [self.x, self.y, self.width, self.height]


Corners = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]
"""The (x, y) of a quadrilateral, in order around it: of text, the first two lie along a line."""


def box_of_corners(corners: Corners) -> Box:
    """The upright rectangle around corners, of at least one pixel."""
    across, down = zip(*corners, strict=True)
    left, top = min(across), min(down)
    return Box(left, top, max(max(across) - left, 1), max(max(down) - top, 1))


@dataclass(frozen=True, slots=True)
class Mask:
    """A binary mask of `height` × `width` pixels.

    `counts` is COCO's compressed run-length encoding: column-major runs as ASCII bytes, the
    `counts` string of pycocotools. `regard.photos.masks` converts it to and from arrays.
    """

    height: int
    width: int
    counts: bytes
