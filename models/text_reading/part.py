"""PP-OCR by RapidOCR as a profile's reader; importing this imports neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from regard.models.checkpoints.pinned import PinnedFile
from regard.models.parts import (
    MemoryNeed,
    Parameters,
    PartDefinition,
    guarded,
    read_parameters,
)

if TYPE_CHECKING:
    from regard.models.text_reading.reader import RapidReader

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
# Resident memory of the libraries, the weights and two threads at work: 0.29 GB measured.
_MEMORY = 500_000_000


class RapidParameters(Parameters):
    """`detection_side`: pixels of the longer side at which text is looked for; larger finds smaller
    text, and takes longer. Letters are then read at up to 2,000 pixels.

    `least_confidence`: less sure lines are dropped.
    """

    detection_side: int = Field(default=448, ge=64, le=2000)
    least_confidence: float = Field(default=0.6, ge=0, le=1)


class RapidPart:
    """See `regard.models.parts.ReaderPart`."""

    role = "reader"

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError for an invalid parameter."""
        self.parameters = read_parameters(definition, RapidParameters)
        self._where = definition.where

    def names(self) -> Mapping[str, str]:
        """See `Part.names`."""
        files = (DETECTION, DIRECTION, RECOGNITION)
        for file in files:
            file.locate()
        digests = "+".join(file.sha256[:12] for file in files)
        return {self.role: f"rapidocr:{DETECTION.requirement}#{digests}"}

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return self.parameters.identity

    def needs(self) -> tuple[MemoryNeed, ...]:
        """See `Part.needs`."""
        return (MemoryNeed("cpu", _MEMORY),)

    def load(self) -> RapidReader:
        """See `ReaderPart.load`."""
        from regard.models.text_reading.reader import RapidReader

        reader: RapidReader = guarded(lambda: RapidReader(self.parameters), self._where)
        return reader
