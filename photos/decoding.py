"""The one place where images are decoded.

What comes in is not trusted: names and declared types count for nothing, a file is regular and small
enough before it is read, its dimensions are known and allowed before any pixel is decoded, and only
the decoders of listed formats ever see it. What goes out is an `Image`, or a DecodeError with the
reason; never another exception, never a Python warning, and never half an image. Nothing is scaled
down unasked. All functions may be called from several threads at once; Pillow, libheif and LibRaw
release the interpreter lock while they decode.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache

from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from regard.core.errors import DecodeError
from regard.core.records import Image, UInt8Array
from regard.photos.colour import TURNED, srgb_pixels
from regard.photos.confinement import Confinement
from regard.photos.files import FilePath, file_size, open_regular, read_file
from regard.photos.formats import (
    SNIFF_BYTES,
    PhotoFormat,
    has_more_jpeg_scans,
    sniff,
    sniff_start,
    webp_size,
)
from regard.photos.png import png_metadata
from regard.photos.tiff import TiffBlock, exif_orientation

# Pillow refuses images above twice its own warning limit whatever it is asked.
_PILLOW_PIXELS = 178_956_970
# Images above these are decoded one at a time, so that threads never hold several giants at once.
_LARGE_PIXELS = 32_000_000
_LARGE_FILE_BYTES = 64 << 20
_turn = threading.RLock()

# Decoding WebP takes 16 bytes a pixel at its peak, other formats 7 to 10.
_WEBP_SHARE = 0.5
# Well-formed progressive files have about ten scans.
_MAX_JPEG_SCANS = 200
_MAX_STRIPS = 1 << 20

_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
_TIFF_STRIPS, _TIFF_TILES = 273, 324
_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 322, 323
_TIFF_XMP, _TIFF_IPTC = 700, 33723
_PHOTOSHOP_IPTC = 0x0404
_MAX_METADATA_BYTES = 8 << 20

# The decoders' own warnings are about files, which here end as an Image or as a DecodeError.
# warnings.catch_warnings swaps the process-wide filters and so can't be used in threads.
_DECODER_MODULES = r"(PIL|pillow_heif|rawpy)(\.|$)"
_quieting = threading.Lock()


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What is decoded at all.

    Decoding holds the file, 7 to 10 bytes a pixel at its peak (3 of them the result) and 16 for
    WebP, of which only half of `max_pixels` are allowed. 120 million pixels admit medium format and
    the 108 megapixels of phones, and cost about 1 GiB; images above 32 million pixels are decoded
    one at a time, so that several threads together stay below 2 GiB.
    """

    max_bytes: int = 512 << 20
    max_pixels: int = 120_000_000
    formats: frozenset[PhotoFormat] = frozenset(PhotoFormat)

    def __post_init__(self) -> None:
        if not 0 < self.max_pixels <= _PILLOW_PIXELS:
            raise ValueError(f"max_pixels lies in 1 to {_PILLOW_PIXELS:,}, not {self.max_pixels:,}")


DEFAULT_LIMITS = DecodeLimits()


@dataclass(frozen=True, slots=True)
class PhotoHeader:
    """Format and raw metadata blocks of a photograph.

    `exif` is a TIFF structure (the file itself for TIFF and RAW), `xmp` an XML packet, `iptc` an IIM
    data set; each None where there is none.
    """

    format: PhotoFormat
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None


def decode_file(path: FilePath, limits: DecodeLimits = DEFAULT_LIMITS) -> Image:
    """Decode the photograph at `path`; raises DecodeError."""
    with large_file_turn(file_size(path)):
        return decode_bytes(read_file(path, limits.max_bytes), limits)


def decode_bytes(
    data: bytes, limits: DecodeLimits = DEFAULT_LIMITS, *, reduced_to: int | None = None
) -> Image:
    """Decode a photograph in memory; raises DecodeError.

    With `reduced_to` a JPEG may come at 1/2, 1/4 or 1/8 of its size, its longer side no shorter than
    that many pixels: several times faster, for pictures that are going to be small anyway.
    """
    kind = _allowed_format(data, limits)
    with large_file_turn(len(data)), _reasons(kind, limits):
        if kind is PhotoFormat.RAW:
            picture = _raw_picture(data, limits)
            if not isinstance(picture, bytes):
                return Image(picture)
            data, kind = picture, PhotoFormat.JPEG
        return _decode_with_pillow(data, kind, limits, reduced_to)


def probe(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> PhotoHeader:
    """The header of a photograph, without decoding its pixels; raises DecodeError."""
    kind = _allowed_format(data, limits)
    with _reasons(kind, limits):
        if kind is PhotoFormat.TIFF or (kind is PhotoFormat.RAW and TiffBlock.open(data)):
            return _tiff_header(data, kind)
        if kind is PhotoFormat.RAW:
            from regard.photos.raw import raw_preview

            preview = raw_preview(data)
            found = _pillow_header(preview, PhotoFormat.JPEG, limits) if preview else None
            return PhotoHeader(kind, exif=found.exif if found else None)
        return _pillow_header(data, kind, limits)


def oriented_size(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Width and height of the image that decoding gives; raises DecodeError.

    Told from the header, except that RAW files without a usable preview have to be developed.
    """
    kind = _allowed_format(data, limits)
    with large_file_turn(len(data)), _reasons(kind, limits):
        if kind is PhotoFormat.RAW:
            picture = _raw_picture(data, limits)
            if not isinstance(picture, bytes):
                return int(picture.shape[1]), int(picture.shape[0])
            data, kind = picture, PhotoFormat.JPEG
        with _open(data, kind, limits) as photo:
            width, height = photo.size
            return (height, width) if _orientation(photo, data, kind) in TURNED else (width, height)


def looks_like_photo(path: FilePath, within: Confinement | None = None) -> bool:
    """Whether a file starts like a photograph; False for whatever can't be read, or leads out."""
    try:
        with open_regular(path, within) as file:
            return sniff_start(file.read(SNIFF_BYTES)) is not None
    except (DecodeError, OSError):
        return False


def large_file_turn(size: int) -> AbstractContextManager[object]:
    """Held while a file of `size` bytes is read and decoded: large ones take turns, others don't."""
    return _turn if size > _LARGE_FILE_BYTES else nullcontext()


def _large_image_turn(pixels: int) -> AbstractContextManager[object]:
    return _turn if pixels > _LARGE_PIXELS else nullcontext()


def _allowed_format(data: bytes, limits: DecodeLimits) -> PhotoFormat:
    if not data:
        raise DecodeError("it is empty")
    if len(data) > limits.max_bytes:
        raise DecodeError(f"it has {len(data):,} bytes, more than {limits.max_bytes:,}")
    kind = sniff(data)
    if kind is None:
        raise DecodeError("it is no photograph of a known format")
    if kind not in limits.formats:
        raise DecodeError(f"{kind} files are not allowed here")
    return kind


@contextmanager
def _reasons(kind: PhotoFormat, limits: DecodeLimits) -> Iterator[None]:
    """Turn whatever a decoder raises into a DecodeError with a reason in one sentence."""
    _quiet_decoders()
    try:
        yield
    except DecodeError:
        raise
    except MemoryError as error:
        raise DecodeError("there is not enough memory to decode it") from error
    except Pillow.DecompressionBombError as error:
        raise DecodeError(f"it has more than {limits.max_pixels:,} pixels") from error
    except UnidentifiedImageError as error:
        raise DecodeError(f"its {kind} header is damaged") from error
    except Exception as error:
        # Damaged files raise anything: struct.error, SyntaxError, KeyError, zlib.error, …
        raise DecodeError(f"its {kind} data is damaged or cut short: {_detail(error)}") from error


def _detail(error: Exception) -> str:
    """What a decoder says, on one line; LibRaw says it in bytes."""
    said = error.args[0] if error.args else ""
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(error)
    return " ".join(text.split())[:200] or type(error).__name__


def _quiet_decoders() -> None:
    """See that warnings from the decoders' modules are ignored, whatever other filters say."""
    with _quieting:
        module = warnings.filters[0][3] if warnings.filters else None
        if getattr(module, "pattern", None) != _DECODER_MODULES:
            warnings.filterwarnings("ignore", module=_DECODER_MODULES)


def _decode_with_pillow(
    data: bytes, kind: PhotoFormat, limits: DecodeLimits, reduced_to: int | None
) -> Image:
    with _open(data, kind, limits) as photo, _large_image_turn(photo.width * photo.height):
        if reduced_to is not None:
            # Only JPEG can be decoded smaller; for others this does nothing.
            longest = max(photo.size)
            width, height = (max(side * reduced_to // longest, 1) for side in photo.size)
            photo.draft(None, (width, height))
        photo.load()
        # What comes out of HEIF may be of another size than declared.
        _check_pixels(*photo.size, limits)
        return Image(
            srgb_pixels(
                photo,
                orientation=_orientation(photo, data, kind),
                icc=_profile(photo),
                white=_white(photo, data) if kind is PhotoFormat.TIFF else None,
            )
        )


def _raw_picture(data: bytes, limits: DecodeLimits) -> bytes | UInt8Array:
    from regard.photos.raw import read_raw

    # Sensors have many pixels, and how many is only known once LibRaw has the file open.
    with _turn:
        return read_raw(data, limits.max_pixels)


def _open(data: bytes, kind: PhotoFormat, limits: DecodeLimits) -> Pillow.Image:
    """The image with its header read and its declared size allowed, no pixel decoded."""
    if kind is PhotoFormat.WEBP:
        # The plugin allocates its canvases as soon as it opens a file.
        _check_pixels(*(webp_size(data) or (1, 1)), limits, share=_WEBP_SHARE)
    elif kind is PhotoFormat.TIFF:
        _check_tiff(data, limits)
    elif kind is PhotoFormat.JPEG:
        if has_more_jpeg_scans(data, _MAX_JPEG_SCANS):
            raise DecodeError(f"it has more than {_MAX_JPEG_SCANS} progressive scans")
    elif kind is PhotoFormat.HEIF:
        _register_heif()
    photo = Pillow.open(io.BytesIO(data), formats=[str(kind)])
    _check_pixels(*photo.size, limits)
    return photo


@cache
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def _check_pixels(width: int, height: int, limits: DecodeLimits, share: float = 1.0) -> None:
    if width < 1 or height < 1:
        raise DecodeError(f"it declares {width} × {height} pixels")
    allowed = int(limits.max_pixels * share)
    if width * height > allowed:
        raise DecodeError(f"it has {width} × {height} pixels, more than {allowed:,}")


def _check_tiff(data: bytes, limits: DecodeLimits) -> None:
    """Refuse directories that would have a reader copy or allocate far more than the file holds."""
    block = TiffBlock.open(data)
    if block is None:
        raise DecodeError("its TIFF header is damaged")
    first = block.first()
    # Sound fields do not overlap; up to twice the file leaves room for a field or two of nonsense.
    if sum(block.claimed_bytes(directory) for directory in block.directories()) > 2 * len(data):
        raise DecodeError("its TIFF directories claim far more bytes than the file has")
    tile = (block.integer(first, tag) or 0 for tag in (_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH))
    tile_width, tile_length = tile
    if tile_width * tile_length > limits.max_pixels:
        raise DecodeError(f"its tiles of {tile_width} × {tile_length} pixels are too large")
    for tag in (_TIFF_STRIPS, _TIFF_TILES):
        if tag in first and first[tag].count > _MAX_STRIPS:
            raise DecodeError(f"it is cut into more than {_MAX_STRIPS:,} pieces")


def _orientation(photo: Pillow.Image, data: bytes, kind: PhotoFormat) -> int:
    """EXIF orientation still to be applied.

    Pillow turns TIFF itself, libheif turns HEIF; AVIF's own rotation comes as EXIF from Pillow.
    """
    if kind in {PhotoFormat.TIFF, PhotoFormat.HEIF}:
        return 1
    if kind is PhotoFormat.PNG:
        return exif_orientation(png_metadata(data, _MAX_METADATA_BYTES)[0]) or 1
    return exif_orientation(_bytes_of(photo, "exif")) or 1


def _pillow_header(data: bytes, kind: PhotoFormat, limits: DecodeLimits) -> PhotoHeader:
    with _open(data, kind, limits) as photo:
        if kind is PhotoFormat.PNG:
            exif, xmp = png_metadata(data, _MAX_METADATA_BYTES)
            return PhotoHeader(kind, exif, xmp)
        resources = photo.info.get("photoshop")
        iptc = resources.get(_PHOTOSHOP_IPTC) if isinstance(resources, dict) else None
        return PhotoHeader(
            kind,
            exif=_bytes_of(photo, "exif"),
            xmp=_bytes_of(photo, "xmp"),
            iptc=iptc if isinstance(iptc, bytes) else None,
        )


def _tiff_header(data: bytes, kind: PhotoFormat) -> PhotoHeader:
    block = TiffBlock.open(data)
    if block is None:
        raise DecodeError(f"its {kind} header is damaged")
    first = block.first()
    return PhotoHeader(
        kind,
        exif=data,
        xmp=block.raw(first, _TIFF_XMP, _MAX_METADATA_BYTES) or None,
        iptc=block.raw(first, _TIFF_IPTC, _MAX_METADATA_BYTES) or None,
    )


def _bytes_of(photo: Pillow.Image, key: str) -> bytes | None:
    value = photo.info.get(key)
    return value if isinstance(value, bytes) and 0 < len(value) <= _MAX_METADATA_BYTES else None


def _profile(photo: Pillow.Image) -> bytes | None:
    profile = photo.info.get("icc_profile")
    return profile if isinstance(profile, bytes) else None


def _white(photo: Pillow.Image, data: bytes) -> float | None:
    """The sample value of white in a TIFF of unsigned 9 to 16 bits, negative where 0 is white."""
    block = TiffBlock.open(data)
    if block is None or not photo.mode.startswith("I;16"):
        return None
    first = block.first()
    bits = block.integer(first, _TIFF_BITS) or 16
    top = float((1 << bits) - 1)
    return -top if block.integer(first, _TIFF_PHOTOMETRIC) == 0 else top
