"""The `fake` profile: deterministic, fast, without weights or torch.

It is a complete implementation based on colour: texts that name a colour find images and quadrants
of that colour, so the rest of regard can be tested end to end in milliseconds.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from regard.core.geometry import Box, Mask
from regard.core.protocols import Captioner, Encoder, Segmenter
from regard.core.records import Float32Array, Image, Region, Space, UInt8Array
from regard.models.parts import MemoryNeed, Parameters, PartDefinition, Place, read_parameters
from regard.photos.masks import mask_from_box

_COLOURS = {
    "red": (220, 30, 30),
    "green": (40, 160, 60),
    "blue": (40, 70, 200),
    "yellow": (240, 220, 50),
    "orange": (240, 140, 30),
    "purple": (130, 50, 160),
    "brown": (120, 75, 40),
    "grey": (128, 128, 128),
    "black": (10, 10, 10),
    "white": (245, 245, 245),
}
_NAMES = tuple(_COLOURS)
_PALETTE = np.asarray(list(_COLOURS.values()), dtype=np.float32)
_WORD_DIMENSIONS = 22
_LEAST_SHARE = 0.01
MODEL = "fake-colour-1"
_DIMENSION = len(_NAMES) + _WORD_DIMENSIONS


class FakeEncoder:
    """Encodes colour shares of images, or colours named in texts, with a hash that separates
    inputs.

    `turn` rotates the components by that many places, which gives another space.
    """

    takes_texts = True

    def __init__(self, turn: int = 0) -> None:
        """Each `turn` gives a separate space."""
        self.space = _space(turn)
        self._turn = turn

    def encode_images(self, images: Sequence[Image]) -> Float32Array:
        """Embed whole images, shape (n, 32)."""
        return self._stack([_embed_pixels(image.pixels) for image in images])

    def encode_regions(
        self,
        images: Sequence[Image],
        boxes: Sequence[Sequence[Box]],
        masks: Sequence[Sequence[Mask | None]],
    ) -> list[Float32Array]:
        """Embed boxes, (r, 32) for each image; masks are ignored."""
        return [
            self._stack(
                [
                    _embed_pixels(image.pixels[box.y : box.bottom, box.x : box.right])
                    for box in image_boxes
                ]
            )
            for image, image_boxes in zip(images, boxes, strict=True)
        ]

    def encode_texts(self, texts: Sequence[str]) -> Float32Array:
        """Embed texts, shape (n, 32)."""
        rows = []
        for text in texts:
            words = text.lower().replace(".", " ").replace(",", " ").split()
            colours = np.asarray([name in words for name in _NAMES], dtype=np.float32)
            rows.append(_vector(colours, text.encode(errors="replace")))
        return self._stack(rows)

    @property
    def cosine_scale(self) -> float | None:
        """None: nothing is learned here."""
        return None

    def knows(self, word: str) -> bool:
        """True: any text has a vector."""
        return True

    def _stack(self, rows: list[Float32Array]) -> Float32Array:
        found = np.stack(rows) if rows else np.zeros((0, self.space.dimension), dtype=np.float32)
        return np.roll(found, self._turn, axis=1)


class FakeCaptioner:
    """Names the most frequent colour."""

    def caption(self, images: Sequence[Image]) -> list[str]:
        """Return one sentence for each image."""
        return [
            f"A mostly {_NAMES[int(_colour_shares(image.pixels).argmax())]} photograph."
            for image in images
        ]


class FakeSegmenter:
    """Cuts an image into four quadrants; a side of one pixel stays whole.

    An image whose first pixel has the `fatal` colour kills the process, as a crash in native code
    would.
    """

    def __init__(self, fatal: tuple[int, int, int] | None = None) -> None:
        """`fatal`: red, green and blue."""
        self._fatal = fatal

    def segment(self, images: Sequence[Image]) -> list[list[Region]]:
        """Return each image's quadrants."""
        if any(tuple(image.pixels[0, 0]) == self._fatal for image in images):
            os.kill(os.getpid(), signal.SIGKILL)
        return [_quadrants(image) for image in images]


class FakeLocator:
    """See `regard.models.parts.Locator`: finds what has the colour that a text names.

    The box holds all samples of that colour, and its score is their share of the image.
    """

    def locate(self, images: Sequence[Image], texts: Sequence[str]) -> list[Place | None]:
        """Return the place of each text's colour; None without one, or where it is too rare."""
        return [_locate(image, text) for image, text in zip(images, texts, strict=True)]


def _locate(image: Image, text: str) -> Place | None:
    named = [index for index, name in enumerate(_NAMES) if name in text.lower().split()]
    step = max(1, min(image.width, image.height) // 64)
    samples = image.pixels[::step, ::step, None].astype(np.float32)  # (h, w, 1, 3)
    nearest = ((samples - _PALETTE) ** 2).sum(axis=3).argmin(axis=2)
    rows, columns = np.nonzero(np.isin(nearest, named))
    share = rows.size / nearest.size
    if share < _LEAST_SHARE:
        return None
    left, top = int(columns.min()) * step, int(rows.min()) * step
    right, bottom = (int(columns.max()) + 1) * step, (int(rows.max()) + 1) * step
    box = Box(left, top, right - left, bottom - top).clipped(image.width, image.height)
    assert box is not None
    return Place(box, share)


class FakeEncoderParameters(Parameters):
    """See `FakeEncoder`."""

    turn: int = Field(default=0, ge=0, lt=_DIMENSION)


class FakeSegmenterParameters(Parameters):
    """See `FakeSegmenter`."""

    fatal: tuple[int, int, int] | None = None


def _space(turn: int) -> Space:
    return Space(f"{MODEL}-turned-{turn}" if turn else MODEL, _DIMENSION)


class _FakePart:
    """Base class of the fake parts, which need neither weights nor memory."""

    role: ClassVar[str]
    captions_regions = False

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError for any parameter."""
        read_parameters(definition, Parameters)

    def names(self) -> Mapping[str, str]:
        """See `Part.names`."""
        return {self.role: MODEL}

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return {}

    def needs(self) -> tuple[MemoryNeed, ...]:
        """See `Part.needs`."""
        return ()


class FakeEncoderPart(_FakePart):
    """See `regard.models.parts.EncoderPart`."""

    role = "encoder"

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError for an invalid parameter."""
        self._parameters = read_parameters(definition, FakeEncoderParameters)

    def identity(self) -> Mapping[str, Any]:
        """See `Part.identity`."""
        return {"turn": self._parameters.turn} if self._parameters.turn else {}

    def space(self) -> Space:
        """Return the space."""
        return _space(self._parameters.turn)

    def load(self) -> Encoder:
        """Return the encoder."""
        return FakeEncoder(self._parameters.turn)


class FakeCaptionerPart(_FakePart):
    """See `regard.models.parts.CaptionerPart`."""

    role = "captioner"

    def names_thing(self, caption: str) -> bool:
        """Return False: captions name colours only."""
        return False

    def load(self) -> Captioner:
        """Return the captioner."""
        return FakeCaptioner()


class FakeSegmenterPart(_FakePart):
    """See `regard.models.parts.SegmenterPart`."""

    role = "segmenter"

    def __init__(self, definition: PartDefinition) -> None:
        """Raises UsageError for an invalid parameter."""
        self._parameters = read_parameters(definition, FakeSegmenterParameters)

    def load(self) -> Segmenter:
        """Return the segmenter."""
        return FakeSegmenter(self._parameters.fatal)


class FakeLocatorPart(_FakePart):
    """See `regard.models.parts.LocatorPart`."""

    role = "grounder"

    def load(self) -> FakeLocator:
        """Return the locator."""
        return FakeLocator()


def _quadrants(image: Image) -> list[Region]:
    regions: list[Region] = []
    height, width = image.height, image.width
    rows, columns = (
        [(0, side // 2), (side // 2, side)] if side > 1 else [(0, side)] for side in (height, width)
    )
    for top, bottom in rows:
        for left, right in columns:
            box = Box(left, top, right - left, bottom - top)
            mask = mask_from_box(height, width, box)
            regions.append(Region(box, mask, box.area, 1.0 - 0.1 * len(regions)))
    return regions


def _embed_pixels(pixels: UInt8Array) -> Float32Array:
    return _vector(_colour_shares(pixels), np.ascontiguousarray(pixels).tobytes())


def _colour_shares(pixels: UInt8Array) -> Float32Array:
    step = max(1, min(pixels.shape[:2]) // 16)
    samples = pixels[::step, ::step].reshape(-1, 1, 3).astype(np.float32)  # (p, 1, 3)
    nearest = ((samples - _PALETTE) ** 2).sum(axis=2).argmin(axis=1)
    counts = np.bincount(nearest, minlength=len(_NAMES))
    shares: Float32Array = (counts / counts.sum()).astype(np.float32)
    return shares


def _vector(colours: Float32Array, data: bytes) -> Float32Array:
    # The hash gives distinct inputs distinct vectors, as weights would.
    digest = hashlib.sha256(data).digest()[:_WORD_DIMENSIONS]
    rest = np.frombuffer(digest, dtype=np.uint8).astype(np.float32) / 127.5 - 1.0
    vector = np.concatenate([colours, 0.05 * rest]).astype(np.float32)
    unit: Float32Array = vector / np.linalg.norm(vector)
    return unit
