"""Parameters of the SAM2-UNet segmenter."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from regard.models.parts import Parameters

Share = Annotated[float, Field(ge=0, le=1)]


class Sam2UNetParameters(Parameters):
    """All that changes which regions are found, and `batch_size`, which does not.

    `threshold`: what a pixel's value on the picture's min-max map has to exceed. The map stretches
    whatever the picture has to 0 to 1, so `threshold` alone finds something in every picture.
    `certainty`: what a region's surest pixel has to reach before that stretch, as a probability. At 0.5,
    the boundary that the network is trained for, it must hold some of the region for foreground rather
    than not; a faint outline may then reach further, and a picture without a salient thing has no region.
    `smallest`: a region's least area, as a part of the image's. The network decides on a grid of 88 × 88
    cells; the default is about 15 of them.
    `limit`: how many regions an image has at most.
    """

    working: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    threshold: Share = 0.5
    certainty: Share = 0.5
    smallest: Share = 0.002
    limit: int = Field(default=12, ge=1)
    batch_size: int = Field(default=8, ge=1)
