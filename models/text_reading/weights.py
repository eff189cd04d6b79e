"""The weights of PP-OCR, and what a profile says of how they are used."""

from __future__ import annotations

from pydantic import Field

from regard.models.checkpoints.pinned import PinnedFile
from regard.models.parts import Parameters

_PACKAGE = ("rapidocr", "3.10.0", "rapidocr")
DETECTION = PinnedFile(
    *_PACKAGE,
    "models/PP-OCRv6_det_small.onnx",
    "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
)
DIRECTION = PinnedFile(
    *_PACKAGE,
    "models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
)
RECOGNITION = PinnedFile(
    *_PACKAGE,
    "models/PP-OCRv6_rec_small.onnx",
    "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
)


class RapidParameters(Parameters):
    """`detection_side`: pixels of the longer side at which text is looked for; larger finds smaller
    text, and takes longer. Letters are then read at up to 2,000 pixels.

    `least_confidence`: less sure lines are dropped.
    """

    detection_side: int = Field(default=448, ge=64, le=2000)
    least_confidence: float = Field(default=0.6, ge=0, le=1)
