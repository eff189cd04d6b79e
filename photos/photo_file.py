"""A photograph's bytes, read and parsed once.

A file must be regular and within the limits before it is read, and its format is recognised from
its bytes. Pixels come out complete, in sRGB and with the EXIF orientation applied, or not at all.
Every failure is a DecodeError with the reason.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import BinaryIO

import numpy as np
from PIL import Image as Pillow

from regard.core.catalog import ContentHeader
from regard.core.errors import DecodeError, OutsideRoots, UnknownFormat
from regard.core.facts import PhotoFacts
from regard.core.records import Image, Signature, UInt8Array, signature_shape
from regard.photos.buckets import ObjectCopy, ObjectStatus
from regard.photos.colour import TURNED, srgb_pixels
from regard.photos.decoding import (
    DEFAULT_LIMITS,
    DecodeLimits,
    Picture,
    decoder_errors,
    large_file_turn,
    large_image_turn,
    open_picture,
)
from regard.photos.files import (
    Confinement,
    FilePath,
    open_regular,
    read_open_file,
    read_start,
)
from regard.photos.formats import SNIFF_BYTES, PhotoFormat, is_raw_tiff, sniff
from regard.photos.metadata.blocks import MetadataBlocks, file_metadata
from regard.photos.metadata.reading import read_facts
from regard.photos.metadata.xmp import XmpPacket
from regard.photos.tiff import TiffBlock, exif_orientation

_SAMPLES = 16
# How many beginnings of a video are tried, and how many boxes are read from each.
_MOST_BEGINNINGS = 16
_MOST_BOXES = 1000


@dataclass(frozen=True, slots=True)
class PhotoHeader:
    """What a photograph's header declares; `width` and `height` in pixels, oriented.

    `orientation` is the EXIF orientation still to be applied to decoded pixels, 1 to 8.
    """

    format: PhotoFormat
    width: int
    height: int
    orientation: int
    metadata: MetadataBlocks


class PhotoFile:
    """A photograph in memory; its hash, header and pixels are made on first use."""

    def __init__(self, data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> None:
        """Recognise the format; raises UnknownFormat, or DecodeError if the limits forbid it."""
        if not data:
            raise UnknownFormat("it is empty")
        if len(data) > limits.max_bytes:
            raise DecodeError(f"it has {len(data):,} bytes, more than {limits.max_bytes:,}")
        kind = sniff(data[:SNIFF_BYTES])
        if kind is None:
            raise UnknownFormat("it is not a photograph or video of a known format")
        has_directories = kind in {PhotoFormat.TIFF, PhotoFormat.RAW}
        self._block = TiffBlock.open(data) if has_directories else None
        if kind is PhotoFormat.TIFF and self._block is not None and is_raw_tiff(data, self._block):
            kind = PhotoFormat.RAW
        if kind not in limits.formats:
            raise DecodeError(f"{kind} files are not allowed here")
        self.data = data
        self.format = kind
        # Of the object that it was read from.
        self.object_status: ObjectStatus | None = None
        self._limits = limits
        self._opened: Picture | None = None
        # The preview and the developed pixels of a RAW file, once it was read.
        self._preview: bytes | None = None
        self._developed: UInt8Array | None = None

    @classmethod
    @contextmanager
    def open(
        cls,
        path: FilePath,
        limits: DecodeLimits = DEFAULT_LIMITS,
        within: Confinement | None = None,
    ) -> Iterator[PhotoFile]:
        """Read the file at `path`, unless it leads out of `within`; raises DecodeError.

        Large files wait for each other until the block ends.
        """
        with (
            open_regular(path, within, limits.max_bytes) as file,
            cls.read_from(file, limits) as photo,
        ):
            yield photo

    @classmethod
    @contextmanager
    def read_from(cls, file: BinaryIO, limits: DecodeLimits) -> Iterator[PhotoFile]:
        """Read an open file and close it, as `open` does; raises DecodeError."""
        size = os.fstat(file.fileno()).st_size
        with large_file_turn(size):
            data = read_open_file(file, limits.max_bytes)
            file.close()
            photo = cls(data, limits)
            photo.object_status = file.status if isinstance(file, ObjectCopy) else None
            yield photo

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the bytes, in hex."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def header(self) -> PhotoHeader:
        """Format, size and metadata, without decoding pixels; raises DecodeError.

        A RAW file without a usable preview has to be developed for its size.
        """
        kind = self.format
        with large_file_turn(len(self.data)), decoder_errors(kind, self._limits):
            if kind is PhotoFormat.RAW:
                self._read_raw()
            if self._developed is not None:
                height, width = self._developed.shape[:2]
                return PhotoHeader(kind, width, height, 1, self._metadata())
            picture = self._opened = self._open_picture()
            metadata = self._metadata()
            orientation = picture.orientation
            if orientation is None:
                # Of a RAW file, that of the preview; LibRaw adds it if the camera did not.
                orientation = exif_orientation(
                    file_metadata(self._preview, PhotoFormat.JPEG, None).exif
                    if self._preview is not None
                    else metadata.exif
                )
            width, height = picture.width, picture.height
            if orientation in TURNED:
                width, height = height, width
            return PhotoHeader(kind, width, height, orientation, metadata)

    def decode(self, *, reduced_to: int | None = None) -> Image:
        """The pixels; raises DecodeError.

        With `reduced_to` a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, which is several
        times faster; its longer side is then at least that many pixels.
        """
        header = self.header
        if self._developed is not None:
            return Image(self._developed)
        opened, self._opened = self._opened, None
        with (
            large_file_turn(len(self.data)),
            decoder_errors(header.format, self._limits),
            large_image_turn(header.width * header.height),
        ):
            picture = opened or self._open_picture()
            raster = picture.load(reduced_to)
            icc = picture.parts.icc
            return Image(srgb_pixels(raster, orientation=header.orientation, icc=icc))

    def facts(self, sidecar: XmpPacket | None = None) -> PhotoFacts:
        """What the metadata and a sidecar say; raises DecodeError if the header is damaged."""
        facts = read_facts(self.header.metadata, sidecar)
        if self.format not in {PhotoFormat.JPEG, PhotoFormat.HEIF}:
            return facts
        if (offset := motion_video_offset(self.data)) is None:
            return facts
        return replace(facts, capture=replace(facts.capture, motion_video_offset=offset))

    def content(self, image: Image | None = None) -> ContentHeader:
        """Identity and form, by the decoded image if there is one; raises DecodeError."""
        size = self.header if image is None else image
        return ContentHeader(self.sha256, str(self.format), size.width, size.height)

    def _read_raw(self) -> None:
        from regard.photos.raw import read_raw

        # A sensor's size is known only once LibRaw has opened the file.
        with large_image_turn(None):
            self._preview, self._developed = read_raw(self.data, self._limits.max_pixels)

    def _open_picture(self) -> Picture:
        if self.format is PhotoFormat.RAW:
            assert self._preview is not None
            return open_picture(self._preview, PhotoFormat.JPEG, self._limits, None)
        return open_picture(self.data, self.format, self._limits, self._block)

    def _metadata(self) -> MetadataBlocks:
        if self.format is PhotoFormat.RAW and self._block is None:
            return file_metadata(self._preview or b"", PhotoFormat.JPEG, None)
        return file_metadata(self.data, self.format, self._block)


def sign(image: Image) -> Signature:
    """Compute the signature of a photograph; the same pixels give the same bytes."""
    height, width = image.pixels.shape[:2]
    rows, columns = signature_shape(width, height)
    # Take every n-th pixel of a large image; each signature pixel still averages 16 × 16 of them.
    across = max(1, width // (_SAMPLES * columns))
    down = max(1, height // (_SAMPLES * rows))
    sampled = image.pixels[down // 2 :: down, across // 2 :: across]
    grey = Pillow.fromarray(np.ascontiguousarray(sampled))
    # Average in whole steps first, then filter, so that nothing aliases.
    grey = grey.reduce(
        (max(1, grey.width // (4 * columns)), max(1, grey.height // (4 * rows)))
    ).convert("L")
    small = grey.resize((columns, rows), Pillow.Resampling.BILINEAR)
    return Signature(np.asarray(small, np.uint8), width, height)


def decode_file(path: FilePath, limits: DecodeLimits = DEFAULT_LIMITS) -> Image:
    """Decode the photograph at `path`; raises DecodeError."""
    with PhotoFile.open(path, limits) as photo:
        return photo.decode()


def looks_like_photo(path: FilePath, within: Confinement | None = None) -> bool:
    """Whether a file starts like a photograph; False if it can't be read or leads out.

    Raises StoreUnavailable for a bucket.
    """
    try:
        return sniff(read_start(path, SNIFF_BYTES, within)) is not None
    except (DecodeError, OutsideRoots, OSError):
        return False


def motion_video_offset(photo: bytes) -> int | None:
    """Where the video of a motion photo begins, in bytes; None if there is none.

    Google's and Samsung's cameras write an MP4 file after the end of a JPEG, or into a box `mpvd` at
    the end of a HEIC. XMP says so in several ways, or does not; the video itself is where it is.
    Samsung puts further data after it.
    """
    place = len(photo)
    for _ in range(_MOST_BEGINNINGS):
        place = photo.rfind(b"ftyp", 0, place)
        # A HEIC begins with such a box, too.
        if place <= 4:
            break
        if _has_index(photo, place - 4):
            return place - 4
    return None


def _has_index(data: bytes, position: int) -> bool:
    """Whether boxes that begin here (ISO/IEC 14496-12, 4.2) are whole up to the movie's index."""
    for _ in range(_MOST_BOXES):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if length == 1:
            length = int.from_bytes(data[position + 8 : position + 16], "big")
        if length < 8 or position + length > len(data):
            return False
        if kind == b"moov":
            return True
        position += length
    return False
