"""What an encoder is shown of a region: a rectangle of the image, nothing resized yet.

Three views, chosen by a profile. `crop` is the box. `context` is the box widened on each side, clipped to
the image: contrastive models have learnt things in their surroundings, and ViLD (Gu et al., 2022,
arXiv 2104.13921, section 3.2) embeds regions by crops at 1× and 1.5×, averaged. `masked` is the box with
all but the region painted over by the colour that the preprocessing makes zero; models that were not
trained on such pictures read them worse (Liang et al., 2023, arXiv 2210.04150, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from regard.core.geometry import Box, Mask
from regard.core.records import Image, UInt8Array
from regard.photos.masks import decode_mask

RegionView = Literal["crop", "context", "masked"]


@dataclass(frozen=True, slots=True)
class RegionViews:
    """Cuts regions out; `context` is a share of the box's size, `neutral` (3,) uint8 the painted colour."""

    view: RegionView
    context: float
    neutral: UInt8Array

    def pixels(self, image: Image, box: Box, mask: Mask | None) -> UInt8Array:
        """The view of one region, uint8 (h, w, 3), at least one pixel; the image stays as it is.

        `mask` has the image's size; None is the whole box, and so is one without a pixel inside the
        box. A box wholly outside the image, or without a pixel, is the image.
        """
        if self.view == "context":
            box = _widened(box, self.context)
        inside = box.clipped(image.width, image.height)
        if inside is None:
            return image.pixels
        part = np.s_[inside.y : inside.bottom, inside.x : inside.right]
        pixels = image.pixels[part]
        if self.view != "masked" or mask is None:
            return pixels
        kept = decode_mask(mask)[part]  # (h, w)
        return np.where(kept[..., None], pixels, self.neutral) if kept.any() else pixels


def _widened(box: Box, share: float) -> Box:
    if box.width < 1 or box.height < 1:
        return box
    aside, above = round(share * box.width), round(share * box.height)
    return Box(box.x - aside, box.y - above, box.width + 2 * aside, box.height + 2 * above)
