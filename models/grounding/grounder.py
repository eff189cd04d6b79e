"""The region that a text names: a model locates it, and another one draws its mask."""

from __future__ import annotations

from collections.abc import Sequence

from regard.core.geometry import Mask
from regard.core.records import Image, Region
from regard.models.parts import BoxSegmenter, Locator, Place
from regard.photos.masks import mask_area, mask_from_box


class LocatingGrounder:
    """See `regard.core.protocols.Grounder`. Without a segmenter, the mask is the whole box."""

    def __init__(self, locator: Locator, segmenter: BoxSegmenter | None) -> None:
        self._locator = locator
        self._segmenter = segmenter

    def ground(self, images: Sequence[Image], texts: Sequence[str]) -> list[Region | None]:
        """Return the region of each text in its image."""
        places = self._locator.locate(images, texts)
        found = [(image, place) for image, place in zip(images, places, strict=True) if place]
        masks = iter(self._masks([image for image, _ in found], [place for _, place in found]))
        return [None if place is None else _region(place, next(masks)) for place in places]

    def _masks(self, images: Sequence[Image], places: Sequence[Place]) -> list[Mask]:
        boxes = [place.box for place in places]
        whole = [
            mask_from_box(image.height, image.width, box)
            for image, box in zip(images, boxes, strict=True)
        ]
        if self._segmenter is None:
            return whole
        drawn = self._segmenter.segment_boxes(images, boxes)
        # Where the segmenter sees nothing in the box, the box is all that is known.
        return [mask if mask_area(mask) else box for mask, box in zip(drawn, whole, strict=True)]


def _region(place: Place, mask: Mask) -> Region:
    return Region(box=place.box, mask=mask, area=mask_area(mask), score=place.score)
