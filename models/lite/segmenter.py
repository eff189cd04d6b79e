"""The `lite` segmenter: class-agnostic regions with masks, on the CPU, without learned features.

Its three steps are superpixels at a reduced resolution (`superpixels`), regions proposed by
merging them (`proposals`), and a selection of those most likely to be things (`ranking`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image

from regard.core.records import Image, Region
from regard.models.lite.parameters import SegmenterParameters
from regard.models.lite.proposals import propose
from regard.models.lite.ranking import choose, cues, overlaps
from regard.models.lite.superpixels import partition
from regard.photos.masks import encode_enlarged_mask, mask_area, mask_box


class SuperpixelSegmenter:
    """Finds things by their boundaries and their contrast with their surroundings.

    Deterministic and independent of batching. An image of one uniform colour has no regions.
    """

    def __init__(self, parameters: SegmenterParameters | None = None) -> None:
        self._parameters = parameters or SegmenterParameters()

    def segment(self, images: Sequence[Image]) -> list[list[Region]]:
        """Return each image's regions, best first; scores are predicted mask IoUs minus
        crowding."""
        return [self._regions(image) for image in images]

    def _regions(self, image: Image) -> list[Region]:
        known = self._parameters
        pieces = partition(reduced(image, known.side), known.superpixels, known.sigma)
        members = propose(pieces, known.cuts, known.smallest, known.largest)
        if not len(members):
            return []
        iou = overlaps(pieces, members)
        score = known.objectness(cues(pieces, members, iou))
        picked, scores = choose(score, iou, known.max_regions, known.same, known.crowding)
        return [
            region(members[row][pieces.labels], image, float(value))
            for row, value in zip(picked, scores, strict=True)
        ]


def reduced(image: Image, side: int) -> npt.NDArray[np.uint8]:
    """Reduce an image to a longest side of at most `side` pixels by area averaging, (h, w, 3)."""
    longest = max(image.width, image.height)
    if longest <= side:
        return image.pixels
    width = max(1, round(image.width * side / longest))
    height = max(1, round(image.height * side / longest))
    small = PIL.Image.fromarray(image.pixels).resize((width, height), PIL.Image.Resampling.BOX)
    return np.asarray(small)


def region(members: npt.NDArray[np.bool_], image: Image, score: float) -> Region:
    """Make a region of `image` from a bool mask (h, w) at the reduced size."""
    mask = encode_enlarged_mask(members, image.height, image.width)
    return Region(box=mask_box(mask), mask=mask, area=mask_area(mask), score=score)
