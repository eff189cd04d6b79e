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
from dataclasses import dataclass
from functools import cached_property

from PIL import Image as Pillow

from regard.core.catalog import ContentHeader
from regard.core.errors import DecodeError, UnknownFormat
from regard.core.facts import PhotoFacts
from regard.core.records import Image, UInt8Array
from regard.photos.colour import TURNED, srgb_pixels
from regard.photos.decoding import (
    DEFAULT_LIMITS,
    DecodeLimits,
    check_pixels,
    decoder_errors,
    large_file_turn,
    large_image_turn,
    open_image,
    tiff_white,
)
from regard.photos.files import Confinement, FilePath, open_regular, read_open_file
from regard.photos.formats import SNIFF_BYTES, PhotoFormat, is_raw_tiff, png_metadata, sniff
from regard.photos.metadata.reading import MetadataBlocks, read_facts, read_sidecar
from regard.photos.tiff import TiffBlock, exif_orientation

_MAX_METADATA_BYTES = 8 << 20
_PHOTOSHOP_IPTC = 0x0404
_TIFF_XMP, _TIFF_IPTC = 700, 33723


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
            raise UnknownFormat("it is not a photograph of a known format")
        has_directories = kind in {PhotoFormat.TIFF, PhotoFormat.RAW}
        self._block = TiffBlock.open(data) if has_directories else None
        if kind is PhotoFormat.TIFF and self._block is not None and is_raw_tiff(data, self._block):
            kind = PhotoFormat.RAW
        if kind not in limits.formats:
            raise DecodeError(f"{kind} files are not allowed here")
        self.data = data
        self.format = kind
        self._limits = limits
        self._opened: Pillow.Image | None = None
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
        with open_regular(path, within) as file:
            size = os.fstat(file.fileno()).st_size
            with large_file_turn(size):
                data = read_open_file(file, limits.max_bytes)
                file.close()
                yield cls(data, limits)

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
                needs_preview = self._block is None and self._preview is not None
                metadata = self._metadata(self._open_image() if needs_preview else None)
                return PhotoHeader(kind, width, height, 1, metadata)
            image = self._opened = self._open_image()
            metadata = self._metadata(image)
            if kind in {PhotoFormat.TIFF, PhotoFormat.HEIF}:
                # Pillow and libheif apply it themselves.
                orientation = 1
            elif kind is PhotoFormat.RAW:
                # That of the preview; LibRaw adds it if the camera did not.
                orientation = exif_orientation(_exif_of(image))
            else:
                orientation = exif_orientation(metadata.exif)
            width, height = image.size
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
            opened or self._open_image() as image,
            large_image_turn(image.width * image.height),
        ):
            if reduced_to is not None:
                # This has no effect on formats other than JPEG.
                longest = max(image.size)
                width, height = (max(side * reduced_to // longest, 1) for side in image.size)
                image.draft(None, (width, height))
            image.load()
            # A HEIF image may differ in size from its header.
            check_pixels(*image.size, self._limits)
            profile = image.info.get("icc_profile")
            block = self._block if header.format is PhotoFormat.TIFF else None
            return Image(
                srgb_pixels(
                    image,
                    orientation=header.orientation,
                    icc=profile if isinstance(profile, bytes) else None,
                    white=None if block is None else tiff_white(image, block),
                )
            )

    def facts(
        self, sidecar: FilePath | None = None, within: Confinement | None = None
    ) -> PhotoFacts:
        """What the metadata says; raises DecodeError if the header is damaged.

        A sidecar that can't be read, or leads out of `within`, is ignored.
        """
        packet = None if sidecar is None else read_sidecar(sidecar, within)
        return read_facts(self.header.metadata, packet)

    def content(self, image: Image | None = None) -> ContentHeader:
        """Identity and form, by the decoded image if there is one; raises DecodeError."""
        size = self.header if image is None else image
        return ContentHeader(self.sha256, str(self.format), size.width, size.height)

    def _read_raw(self) -> None:
        from regard.photos.raw import read_raw

        # A sensor's size is known only once LibRaw has opened the file.
        with large_image_turn(None):
            self._preview, self._developed = read_raw(self.data, self._limits.max_pixels)

    def _open_image(self) -> Pillow.Image:
        if self.format is PhotoFormat.RAW:
            assert self._preview is not None
            return open_image(self._preview, PhotoFormat.JPEG, self._limits, None)
        return open_image(self.data, self.format, self._limits, self._block)

    def _metadata(self, image: Pillow.Image | None) -> MetadataBlocks:
        """The metadata; `image` is the opened photograph or preview."""
        if self._block is not None:
            main = self._block.first
            xmp = self._block.raw(main, _TIFF_XMP, _MAX_METADATA_BYTES)
            iptc = self._block.raw(main, _TIFF_IPTC, _MAX_METADATA_BYTES)
            return MetadataBlocks(self._block, xmp or None, iptc or None)
        if self.format is PhotoFormat.PNG:
            exif, xmp_packet = png_metadata(self.data, _MAX_METADATA_BYTES)
            return MetadataBlocks(None if exif is None else TiffBlock.open(exif), xmp_packet)
        if image is None or self.format is PhotoFormat.RAW:
            return MetadataBlocks(None if image is None else _exif_of(image))
        resources = image.info.get("photoshop")
        data_set = resources.get(_PHOTOSHOP_IPTC) if isinstance(resources, dict) else None
        return MetadataBlocks(
            _exif_of(image),
            _bytes_of(image, "xmp"),
            data_set if isinstance(data_set, bytes) else None,
        )


def decode_file(path: FilePath, limits: DecodeLimits = DEFAULT_LIMITS) -> Image:
    """Decode the photograph at `path`; raises DecodeError."""
    with PhotoFile.open(path, limits) as photo:
        return photo.decode()


def looks_like_photo(path: FilePath, within: Confinement | None = None) -> bool:
    """Whether a file starts like a photograph; False if it can't be read or leads out."""
    try:
        with open_regular(path, within) as file:
            return sniff(file.read(SNIFF_BYTES)) is not None
    except (DecodeError, OSError):
        return False


def _exif_of(image: Pillow.Image) -> TiffBlock | None:
    exif = _bytes_of(image, "exif")
    return None if exif is None else TiffBlock.open(exif)


def _bytes_of(image: Pillow.Image, key: str) -> bytes | None:
    value = image.info.get(key)
    return value if isinstance(value, bytes) and 0 < len(value) <= _MAX_METADATA_BYTES else None
