"""Text that is read in photographs: records, the reader's Protocol, and its store's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from regard.core.catalog import FileStamp
from regard.core.geometry import Box, Corners, box_of_corners
from regard.core.records import Image


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of text in an image; `confidence` in [0, 1] is how sure its letters are.

    `corners` lie in the image, of `width` × `height` pixels: coordinates from 0 to these.
    """

    text: str
    corners: Corners
    confidence: float

    @property
    def box(self) -> Box:
        """The upright rectangle around the corners, of at least one pixel."""
        return box_of_corners(self.corners)

    def scaled(self, x: float, y: float) -> TextLine:
        """The line in an image of `x` times the width and `y` times the height."""
        first, second, third, fourth = ((round(px * x), round(py * y)) for px, py in self.corners)
        return TextLine(self.text, (first, second, third, fourth), self.confidence)


@dataclass(frozen=True, slots=True)
class ReaderSpec:
    """A reader at exact revisions and parameters: all that changes what it reads."""

    models: Mapping[str, str]
    parameters: Mapping[str, Any]

    def to_json(self) -> str:
        """Canonical JSON: the same spec gives the same text."""
        return json.dumps(
            {"models": dict(self.models), "parameters": dict(self.parameters)},
            sort_keys=True,
            separators=(",", ":"),
        )


class Reader(Protocol):
    """Reads the text in images."""

    def read(self, images: Sequence[Image]) -> list[list[TextLine]]:
        """The lines of each image, from top to bottom. Thread-safe."""


@dataclass(frozen=True, slots=True)
class UnreadContent:
    """A content that a reader has not read; `files` may still hold its bytes.

    `width` and `height` are in pixels, oriented.
    """

    id: int
    sha256: str
    width: int
    height: int
    files: tuple[FileStamp, ...]


Reading = Sequence[TextLine] | str
"""The lines of a content, or why it could not be read."""


class TextStore(Protocol):
    """Where the indexer keeps what one reader reads; each method is one transaction."""

    def count_unread(self) -> int:
        """How many analysed contents the reader has not read."""

    def unread(self, after: int, limit: int) -> Sequence[UnreadContent]:
        """The next of them by id."""

    def save(self, readings: Mapping[int, Reading]) -> None:
        """Keep readings of contents, in place of earlier ones; deleted contents are left out."""

    def failures(self) -> list[tuple[str, str]]:
        """The URI of each photograph that could not be read, and why."""
