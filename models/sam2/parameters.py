"""Parameters of the SAM 2 segmenter."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from regard.models.parts import Parameters


class Sam2Parameters(Parameters):
    """All that decides which regions are found, and how much is computed at once.

    `points_per_side`: the grid has its square of points. Decoding one costs 3.6 GFLOP: with 24
    that comes to about as much as a pass of the largest encoder (1.8 TFLOP), with the authors' 32
    to twice. `min_region_share`: the smallest region, as a part of the photograph, and the
    smallest island and hole in a mask. A grid of 24 has a point in every square of 1/24² = 0.0017
    of it, so that what may count is asked about; what is smaller is a poor crop to embed.
    `predicted_iou`, `stability`, `stability_offset`, `box_nms`: as the authors of SAM 2 choose
    them. `limit`: regions at most. Each costs a pass of the encoder and a vector to keep; COCO
    labels 7 things in a photograph on average, LVIS 11, and three levels (whole, part, part of a
    part) of 11 fit. `batch_size` images are embedded at once, `points_batch` points decoded at
    once; they change nothing but memory and speed.
    """

    working: ClassVar[frozenset[str]] = frozenset({"batch_size", "points_batch"})

    points_per_side: int = Field(default=24, ge=1, le=128)
    predicted_iou: float = Field(default=0.8, ge=0, le=1)
    stability: float = Field(default=0.95, ge=0, le=1)
    stability_offset: float = Field(default=1.0, ge=0)
    box_nms: float = Field(default=0.7, ge=0, le=1)
    min_region_share: float = Field(default=0.002, ge=0, le=1)
    limit: int = Field(default=32, ge=1)
    batch_size: int = Field(default=4, ge=1)
    points_batch: int = Field(default=32, ge=1)
