"""The `lite` segmenter: class-agnostic regions with masks, on the CPU, without learned features.

Its three steps are superpixels at a reduced resolution (`superpixels`), regions proposed by
merging them (`proposals`), and a selection of those most likely to be things (`ranking`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from regard.core.records import Image, Region
from regard.models.lite.proposals import propose
from regard.models.lite.ranking import OBJECTNESS, Objectness, choose, cues, overlaps
from regard.models.lite.superpixels import partition
from regard.photos.masks import encode_mask, mask_area, mask_box


@dataclass(frozen=True, slots=True)
class SegmenterParameters:
    """Every parameter that affects the regions.

    `side`: longest side, in pixels, at which an image is segmented; larger ones are reduced.
    `sigma`: scale of the colour gradient, in pixels of that size.
    `superpixels`: most superpixels of an image.
    `cuts`: levels of a merge tree at which components off the border are proposed.
    `smallest`, `largest`: bounds of a region's share of the image's area.
    `same`: mask IoU from which two regions are duplicates; `crowding`: predicted IoU that a region
    loses per unit of overlap with a better one.
    """

    side: int = 320
    sigma: float = 1.0
    superpixels: int = 250
    cuts: int = 12
    smallest: float = 0.0015
    largest: float = 0.8
    same: float = 0.8
    crowding: float = 0.35
    objectness: Objectness = field(default=OBJECTNESS)


class SuperpixelSegmenter:
    """Finds things by their boundaries and their contrast with their surroundings.

    Deterministic and independent of batching. An image of one uniform colour has no regions.
    """

    def __init__(
        self,
        parameters: SegmenterParameters | None = None,
        *,
        max_regions: int = 12,
        threads: int = 1,
    ) -> None:
        """`threads` images of a batch are processed in parallel, which does not change results."""
        if max_regions < 1 or threads < 1:
            raise ValueError("max_regions and threads must be at least 1")
        self._parameters = parameters or SegmenterParameters()
        self._max_regions = max_regions
        self._threads = threads

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters that affect the regions, as JSON values for the pipeline's fingerprint."""
        return {**asdict(self._parameters), "max_regions": self._max_regions}

    def segment(self, images: Sequence[Image]) -> list[list[Region]]:
        """Return each image's regions, best first; scores are predicted mask IoUs minus
        crowding."""
        if self._threads == 1 or len(images) < 2:
            return [self._regions(image) for image in images]
        with ThreadPoolExecutor(min(self._threads, len(images))) as pool:
            return list(pool.map(self._regions, images))

    def _regions(self, image: Image) -> list[Region]:
        known = self._parameters
        pieces = partition(reduced(image, known.side), known.superpixels, known.sigma)
        members = propose(pieces, known.cuts, known.smallest, known.largest)
        if not len(members):
            return []
        iou = overlaps(pieces, members)
        score = known.objectness(cues(pieces, members, iou))
        picked, scores = choose(score, iou, self._max_regions, known.same, known.crowding)
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
    rows = _nearest(image.height, members.shape[0])
    columns = _nearest(image.width, members.shape[1])
    # Masks are encoded column by column; row order would cost a transposed copy.
    mask = encode_mask(members.T[:, rows][columns].T)
    return Region(box=mask_box(mask), mask=mask, area=mask_area(mask), score=score)


def _nearest(length: int, reduced_length: int) -> npt.NDArray[np.int64]:
    """Index of the reduced pixel that covers each pixel's centre, (length,)."""
    return (2 * np.arange(length) + 1) * reduced_length // (2 * length)
