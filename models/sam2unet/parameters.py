"""Parameters of the SAM2-UNet segmenter."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from regard.models.parts import Parameters

Share = Annotated[float, Field(ge=0, le=1)]


class Sam2UNetParameters(Parameters):
    """Parameters that affect the regions, and `batch_size`, which does not.

    `threshold`: least value of a region's pixels on the min-max normalised map. Normalisation
    stretches every map to [0, 1], so `threshold` alone finds a region in every image. `certainty`:
    least probability, before normalisation, of a region's most certain pixel. At 0.5, the
    network's decision boundary, an image without a salient thing has no region. `smallest`: least
    area as a share of the image. The network decides on a grid of 88 × 88 cells; the default is
    about 15 cells. `limit`: most regions of an image.
    """

    working: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    threshold: Share = 0.5
    certainty: Share = 0.5
    smallest: Share = 0.002
    limit: int = Field(default=12, ge=1)
    batch_size: int = Field(default=8, ge=1)
