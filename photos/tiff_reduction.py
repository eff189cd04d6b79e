"""Reads TIFF pictures of more pixels than fit in memory at 1/2, 1/4 or 1/8 of their size.

Strips or tiles are decompressed band by band, and blocks of pixels averaged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from regard.core.errors import DecodeError
from regard.core.records import UInt8Array
from regard.photos.colour import Raster
from regard.photos.tiff_pictures import (
    CIE_LAB,
    COLOUR_MAP,
    ICC_LAB,
    LENGTH,
    PIXEL_FIELDS,
    STRIP_BYTES,
    STRIP_ROWS,
    STRIPS,
    TILE_BYTES,
    TILE_LENGTH,
    TILE_WIDTH,
    TILES,
    UNASSOCIATED,
    UNSPECIFIED,
    WHITE_POINT,
    YCBCR,
    TiffPicture,
    decode_picture,
    sample_image,
    storage_bytes,
)

_JPEG = 7
_OLD_JPEG = 6
_MOST_PIECES = 1 << 20
_MOST_FIELD_BYTES = 1 << 20
_STRIP_PIXELS = 1 << 18
# Samples of a band as stored: usually, and the most that its pieces may make necessary.
_BAND_BYTES = 16 << 20
_MOST_BAND_BYTES = 256 << 20
_BAND_FIELDS = PIXEL_FIELDS - {STRIPS, STRIP_BYTES, TILES, TILE_BYTES} | {COLOUR_MAP, WHITE_POINT}


def can_reduce(picture: TiffPicture, reduction: int) -> bool:
    """Whether bands of the picture can be decompressed alone, and are small enough.

    Forms whose white depends on all samples can't, nor subsampled colours without JPEG.
    """
    is_jpeg = picture.compression == _JPEG
    is_lab = picture.photometric in {CIE_LAB, ICC_LAB}
    is_fixed = picture.bits <= 8 if picture.kind == "i" else picture.kind == "u"
    return (
        (is_jpeg or is_lab or (is_fixed and picture.bits <= 16))
        and (is_jpeg or picture.photometric != YCBCR)
        and picture.compression != _OLD_JPEG
        and all(
            e.size <= _MOST_FIELD_BYTES for t, e in picture.directory.items() if t in _BAND_FIELDS
        )
        and _Pieces(picture, reduction).is_sound
    )


class _Pieces:
    """Where the strips or tiles of a picture lie, and how many rows of them make a band."""

    def __init__(self, picture: TiffPicture, reduction: int) -> None:
        block, directory = picture.block, picture.directory
        self._is_tiled = TILES in directory
        self.tags = (TILES, TILE_BYTES) if self._is_tiled else (STRIPS, STRIP_BYTES)
        self._starts, self._counts = (
            block.integers(directory, tag, _MOST_PIECES) for tag in self.tags
        )
        rows_tag = TILE_LENGTH if self._is_tiled else STRIP_ROWS
        self.rows = block.integer(directory, rows_tag) or picture.height
        tile_width = block.integer(directory, TILE_WIDTH) or picture.width
        across = -(-picture.width // tile_width) if self._is_tiled else 1
        if not self._is_tiled:
            self._cut_uncompressed(picture)
        self._planes = picture.samples if picture.is_planar else 1
        self._across = across
        down = -(-picture.height // max(self.rows, 1))
        self._a_plane = across * down
        row_bytes = across * (tile_width if self._is_tiled else picture.width) * picture.samples
        row_bytes *= storage_bytes(picture.bits)
        step = math.lcm(max(self.rows, 1), reduction)
        self.band_rows = step * max(_BAND_BYTES // max(row_bytes * step, 1), 1)
        self.is_sound = (
            len(self._starts) == len(self._counts) == self._a_plane * self._planes
            and self.rows > 0
            and min(step, picture.height) * row_bytes <= _MOST_BAND_BYTES
        )

    def _cut_uncompressed(self, picture: TiffPicture) -> None:
        """Take rows of a single strip for strips."""
        if len(self._starts) != 1 or picture.compression != 1 or picture.is_planar:
            return
        row_bytes = (picture.width * picture.samples * picture.bits + 7) // 8
        start, self.rows = self._starts[0], 8
        tops = range(0, picture.height, self.rows)
        self._starts = tuple(start + top * row_bytes for top in tops)
        self._counts = tuple(min(self.rows, picture.height - top) * row_bytes for top in tops)

    def band(self, top: int, bottom: int) -> list[tuple[int, int]]:
        """Starts and bytes of the pieces of some rows, plane by plane; raises DecodeError."""
        first, last = top // self.rows * self._across, -(-bottom // self.rows) * self._across
        numbers = (
            plane * self._a_plane + number
            for plane in range(self._planes)
            for number in range(first, last)
        )
        pieces = [(self._starts[number], self._counts[number]) for number in numbers]
        if sum(count for _, count in pieces) > _MOST_BAND_BYTES:
            raise DecodeError("its TIFF data is damaged: strips or tiles overlap")
        return pieces

    @property
    def fields(self) -> dict[int, list[int]]:
        """The fields that cut rows into pieces otherwise than the file does."""
        return {} if self._is_tiled else {STRIP_ROWS: [self.rows]}


def _bands(picture: TiffPicture, reduction: int) -> Iterator[tuple[int, TiffPicture]]:
    """The first row of each band, and the band as a picture."""
    pieces = _Pieces(picture, reduction)
    kept = {tag: entry for tag, entry in picture.directory.items() if tag in _BAND_FIELDS}
    for top in range(0, picture.height, pieces.band_rows):
        bottom = min(top + pieces.band_rows, picture.height)
        fields = {LENGTH: [bottom - top], **pieces.fields}
        block = picture.block.extract(kept, fields, pieces.band(top, bottom), pieces.tags)
        # Whether all transparency is 0 is known only at the end.
        kind = UNASSOCIATED if picture.alpha_kind == UNSPECIFIED else picture.alpha_kind
        yield (
            top,
            replace(
                picture, block=block, directory=block.first, height=bottom - top, alpha_kind=kind
            ),
        )


def decode_reduced(picture: TiffPicture, reduction: int) -> Raster:
    """The picture at 1 / `reduction` of its size, rounded up; raises whatever the decoders raise."""
    width, height = -(-picture.width // reduction), -(-picture.height // reduction)
    colours: UInt8Array | None = None
    opacity: UInt8Array | None = None
    for top, band in _bands(picture, reduction):
        raster = decode_picture(band)
        rows = max(_STRIP_PIXELS // picture.width // reduction, 1) * reduction
        for first in range(0, band.height, rows):
            image, alpha = raster.strip(first, min(first + rows, band.height))
            if alpha is None or image.mode == "CMYK" or picture.alpha_kind == UNSPECIFIED:
                image = image.reduce(reduction)
                alpha = None if alpha is None else alpha.reduce(reduction)
            else:
                image, alpha = _reduced(image, alpha, reduction)
            if colours is None:
                colours = np.empty((height, width, len(image.getbands())), np.uint8)
                opacity = None if alpha is None else np.empty((height, width), np.uint8)
            place = slice((top + first) // reduction, (top + first) // reduction + image.height)
            colours[place] = np.asarray(image).reshape(image.height, width, -1)
            if opacity is not None:
                opacity[place] = np.asarray(alpha)
    assert colours is not None
    samples = colours
    if opacity is not None and picture.alpha_kind == UNSPECIFIED and not opacity.any():
        opacity = None

    def strip(first: int, last: int) -> tuple[Image.Image, Image.Image | None]:
        part = None if opacity is None else Image.fromarray(opacity[first:last])
        return sample_image(samples[first:last]), part

    return Raster(width, height, strip)


def _reduced(
    image: Image.Image, alpha: Image.Image, reduction: int
) -> tuple[Image.Image, Image.Image]:
    """Averages of blocks of L or RGB; transparent pixels count less."""
    whole = Image.merge(f"{image.mode}A", (*image.split(), alpha)).reduce(reduction)
    return whole.convert(image.mode), whole.getchannel("A")
