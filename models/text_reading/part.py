"""PP-OCR by RapidOCR as a profile's reader; importing this imports neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regard.models.checkpoints.load_errors import guarded
from regard.models.parts import (
    MemoryNeed,
    PartDefinition,
    read_parameters,
)
from regard.models.text_reading.weights import DETECTION, DIRECTION, RECOGNITION, RapidParameters

if TYPE_CHECKING:
    from regard.models.text_reading.reader import RapidReader

# Resident memory of the libraries, the weights and two threads at work: 0.29 GB measured.
_MEMORY = 500_000_000


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
