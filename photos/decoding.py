"""Limits and checks around the image decoders: Pillow, libheif, LibRaw and imagecodecs.

Input is not trusted. Dimensions are checked before any pixel is decoded, only the decoders of
listed formats are called, and every failure becomes a DecodeError with a reason, never another
exception or a Python warning. All functions are thread-safe; the decoders release the interpreter
lock. `regard.photos.photo_file` is the one user of this module.
"""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial

from PIL import Image as Pillow
from PIL import UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from regard.core.errors import DecodeError, RegardError
from regard.photos.bmp import decode_bitmap, read_bitmap
from regard.photos.colour import Raster, pillow_raster, placed_raster, strips
from regard.photos.containers import (
    MAX_PROFILE_BYTES,
    Parts,
    gif_parts,
    has_sound_pixels,
    jpeg_parts,
    png_parts,
    webp_parts,
    without_end_marker,
    without_metadata_items,
)
from regard.photos.deep_pictures import avif_raster, grey_png_raster, keyed_png_raster
from regard.photos.formats import (
    PhotoFormat,
    VideoFormat,
    avif_bits,
    has_more_jpeg_scans,
    webp_size,
)
from regard.photos.jpegxl.header import read_header
from regard.photos.jpegxl.pixels import decode, profile
from regard.photos.tiff import ORIENTATION, TiffBlock, exif_orientation
from regard.photos.tiff_pictures import decode_picture, read_picture
from regard.photos.tiff_reduction import can_reduce, decode_reduced

# Pillow refuses images above twice its own warning limit.
_PILLOW_PIXELS = 178_956_970
# Images above these sizes are decoded one at a time, which bounds the memory of all threads.
_LARGE_PIXELS = 32_000_000
_LARGE_FILE_BYTES = 64 << 20
_large_image_lock = threading.RLock()

# Decoding WebP takes 16 bytes a pixel at its peak, other formats 7 to 10.
_WEBP_SHARE = 0.5
# Floating-point samples take 4 bytes each.
_FLOAT_SHARE = 0.5
# Well-formed progressive files have about ten scans.
_MAX_JPEG_SCANS = 200
# Bits that begin differently, with restart markers; none gives zeros.
_RESTARTS = [bytes([0xFF, 0xD0 + number]) for number in range(8)] * 2
_PADDINGS = (
    *((bits * 256).join((b"", *_RESTARTS, b"")) for bits in (b"\x55", b"\xb7", b"\x6d")),
    b"",
)

_TIFF_PROFILE = 34675

# warnings.catch_warnings swaps process-wide filters and is not thread-safe.
_DECODER_MODULES = r"(PIL|pillow_heif|rawpy|imagecodecs)(\.|$)"
_filter_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """The largest files and images that are decoded, and the allowed formats.

    Decoding holds the file and, at its peak, 7 to 10 bytes a pixel (3 of them the result), or 16
    for WebP and JPEG XL of floating-point samples, which may have only half of `max_pixels`. A JPEG
    or TIFF of more than `max_pixels`, up to `max_reduced_pixels`, is decoded at 1/2, 1/4 or 1/8 of
    its size, which then is its size; a JPEG of several scans is not, because that keeps 2 bytes a
    sample of all of it, nor a TIFF with too large strips or tiles. Other TIFF takes a second copy
    of the file and its samples as stored, up to 1 GiB. 120 million pixels admit medium format and
    108-megapixel phones and take about 1 GiB. Images above 32 million pixels are decoded one at a
    time, so that several threads together stay below 2 GiB.
    """

    max_bytes: int = 512 << 20
    max_pixels: int = 120_000_000
    max_reduced_pixels: int = 1_000_000_000
    formats: frozenset[PhotoFormat] = frozenset(PhotoFormat)

    def __post_init__(self) -> None:
        if not 0 < self.max_pixels <= _PILLOW_PIXELS:
            raise ValueError(f"max_pixels must be 1 to {_PILLOW_PIXELS:,}, not {self.max_pixels:,}")


DEFAULT_LIMITS = DecodeLimits()


def large_file_turn(size: int) -> AbstractContextManager[object]:
    """Hold while reading and decoding a file of `size` bytes: large files wait for each other."""
    return _large_image_lock if size > _LARGE_FILE_BYTES else nullcontext()


def large_image_turn(pixels: int | None) -> AbstractContextManager[object]:
    """Hold while decoding: large images, or those of unknown size (None), wait for each other."""
    is_large = pixels is None or pixels > _LARGE_PIXELS
    return _large_image_lock if is_large else nullcontext()


@contextmanager
def decoder_errors(kind: PhotoFormat | VideoFormat, limits: DecodeLimits) -> Iterator[None]:
    """Turn any exception of a decoder into a DecodeError whose reason is one sentence.

    Warnings from the decoders' modules are ignored, whatever other filters say.
    """
    with _filter_lock:
        module = warnings.filters[0][3] if warnings.filters else None
        if getattr(module, "pattern", None) != _DECODER_MODULES:
            warnings.filterwarnings("ignore", module=_DECODER_MODULES)
    try:
        yield
    except (RegardError, CancelledError):
        raise
    except MemoryError as error:
        raise DecodeError("there is not enough memory to decode it") from error
    except Pillow.DecompressionBombError as error:
        raise DecodeError(f"it has more than {limits.max_pixels:,} pixels") from error
    except UnidentifiedImageError as error:
        raise DecodeError(f"its {kind} header is damaged") from error
    except Exception as error:
        if "nsupported" in str(error):
            raise DecodeError(f"its form of {kind} is not supported: {_detail(error)}") from error
        # Damaged files raise anything: struct.error, SyntaxError, KeyError, zlib.error, …
        raise DecodeError(f"its {kind} data is damaged or cut short: {_detail(error)}") from error


def _detail(error: Exception) -> str:
    """The decoder's message on one line; LibRaw gives it as bytes."""
    message = error.args[0] if error.args else ""
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(error)
    return " ".join(text.split())[:200] or type(error).__name__


@dataclass(frozen=True, slots=True)
class Picture:
    """An opened image, not yet decoded: its declared size in pixels and its metadata blocks.

    `load(reduced_to)` decodes it, once. `orientation` is that of the container, 1 to 8, or None if
    EXIF has it.
    """

    width: int
    height: int
    load: Callable[[int | None], Raster]
    parts: Parts
    orientation: int | None = None


def open_picture(
    data: bytes, kind: PhotoFormat, limits: DecodeLimits, block: TiffBlock | None
) -> Picture:
    """Read an image's header and check its declared size; no pixel is decoded.

    `block` is the structure of a TIFF file. Call within `decoder_errors`.
    """
    if kind is PhotoFormat.TIFF:
        picture = _open_tiff(block, limits)
    elif kind is PhotoFormat.JXL:
        picture = _open_jpegxl(data, limits)
    elif kind is PhotoFormat.BMP:
        bitmap = read_bitmap(data)
        parts = Parts(b"", bitmap.icc)
        picture = Picture(bitmap.width, bitmap.height, lambda _: decode_bitmap(bitmap), parts)
    else:
        picture = _open_with_pillow(data, kind, limits)
    check_pixels(picture.width, picture.height, limits)
    return picture


def _open_tiff(block: TiffBlock | None, limits: DecodeLimits) -> Picture:
    if block is None:
        raise DecodeError("its TIFF header is damaged")
    tiff = read_picture(block, limits.max_pixels, limits.max_reduced_pixels)
    icc = block.raw(tiff.directory, _TIFF_PROFILE, MAX_PROFILE_BYTES) or None
    orientation = block.integer(tiff.directory, ORIENTATION) or 1
    reduction = _reduction(tiff.width, tiff.height, limits, partial(can_reduce, tiff))

    def load(_: int | None) -> Raster:
        return decode_picture(tiff) if reduction == 1 else decode_reduced(tiff, reduction)

    return Picture(
        -(-tiff.width // reduction),
        -(-tiff.height // reduction),
        load,
        Parts(b"", icc),
        orientation if 1 <= orientation <= 8 else 1,
    )


def _open_jpegxl(data: bytes, limits: DecodeLimits) -> Picture:
    header = read_header(data)
    if header.bits is None:
        check_pixels(header.width, header.height, limits, share=_FLOAT_SHARE)
    return Picture(
        header.width,
        header.height,
        lambda _: decode(data, header),
        Parts(b"", profile(header)),
        header.orientation,
    )


def _pillow(data: bytes, kind: PhotoFormat) -> Pillow.Image:
    if kind is PhotoFormat.JPEG:
        # Pillow's general function refuses sizes that this format can be reduced from.
        try:
            return JpegImageFile(io.BytesIO(data))
        except SyntaxError as error:
            raise UnidentifiedImageError(str(error)) from error
    return Pillow.open(io.BytesIO(data), formats=[str(kind)])


def _box_parts(data: bytes, kind: PhotoFormat) -> Parts:
    """The parts of a HEIF or AVIF file, whose decoders would fail on bad EXIF."""
    picture = without_metadata_items(data)
    try:
        info = _pillow(data, kind).info
    except (OSError, ValueError, SyntaxError, RuntimeError):
        info = _pillow(picture, kind).info
    blocks = [info.get(key) for key in ("icc_profile", "exif")]
    icc, exif = (block if isinstance(block, bytes) else None for block in blocks)
    if kind is PhotoFormat.HEIF:
        # libheif applies the orientation.
        return Parts(picture, icc, 1)
    # Pillow writes that of the boxes into EXIF.
    return Parts(picture, icc, exif_orientation(TiffBlock.open(exif or b"")))


def _open_with_pillow(data: bytes, kind: PhotoFormat, limits: DecodeLimits) -> Picture:
    if kind is PhotoFormat.WEBP:
        # The plugin allocates its canvases on opening.
        check_pixels(*(webp_size(data) or (1, 1)), limits, share=_WEBP_SHARE)
    elif kind is PhotoFormat.JPEG and has_more_jpeg_scans(data, _MAX_JPEG_SCANS):
        raise DecodeError(f"it has more than {_MAX_JPEG_SCANS} progressive scans")
    elif kind is PhotoFormat.HEIF:
        _register_heif()
    split = _SPLITTERS.get(kind)
    parts = _box_parts(data, kind) if split is None else split(data)
    image = _pillow(parts.picture, kind)
    reduction = 1
    if kind is PhotoFormat.JPEG:
        is_row_by_row = not image.info.get("progressive") and not has_more_jpeg_scans(data, 1)
        reduction = _reduction(*image.size, limits, lambda _: is_row_by_row)
    # Pillow is less precise with more than 8 bits, but takes half the memory.
    is_precise = image.width * image.height <= limits.max_pixels // 2
    deep_bits = avif_bits(data) if kind is PhotoFormat.AVIF and is_precise else 8

    def load(reduced_to: int | None) -> Raster:
        if parts.is_suspect and not has_sound_pixels(parts.picture, *image.size):
            raise DecodeError("its PNG data is damaged: the checksum of its pixels is wrong")
        if kind is PhotoFormat.JPEG:
            raster = pillow_raster(_loaded_jpeg(image, parts.picture, reduction, reduced_to))
        elif kind is PhotoFormat.PNG and image.mode == "I;16":
            raster = grey_png_raster(image, parts.key)
        elif kind is PhotoFormat.PNG and parts.key is not None:
            raster = keyed_png_raster(image, parts)
        elif deep_bits > 8:
            raster = avif_raster(parts.picture, deep_bits)
        else:
            image.load()
            raster = pillow_raster(image)
        if parts.frame is not None:
            raster = placed_raster(raster, *parts.frame)
        # A HEIF image may differ in size from its header.
        check_pixels(raster.width, raster.height, limits)
        return raster

    width, height = image.size if parts.frame is None else parts.frame[2:]
    # As the decoder rounds.
    width, height = -(-width // reduction), -(-height // reduction)
    return Picture(width, height, load, parts, parts.orientation)


_SPLITTERS = {
    PhotoFormat.JPEG: jpeg_parts,
    PhotoFormat.PNG: png_parts,
    PhotoFormat.WEBP: webp_parts,
    PhotoFormat.GIF: gif_parts,
}


def _reduction(
    width: int, height: int, limits: DecodeLimits, can_reduce: Callable[[int], bool]
) -> int:
    """By what a picture has to be divided to be within the limit; raises DecodeError."""
    pixels = width * height
    if pixels <= limits.max_pixels:
        return 1
    fitting = (n for n in (2, 4, 8) if -(-width // n) * -(-height // n) <= limits.max_pixels)
    reduction = next(fitting, 8)
    most = limits.max_reduced_pixels if can_reduce(reduction) else limits.max_pixels
    if pixels <= most and -(-width // reduction) * -(-height // reduction) <= limits.max_pixels:
        return reduction
    raise DecodeError(
        f"it has {width} × {height} pixels, more than {max(most, limits.max_pixels):,}"
    )


def _loaded_jpeg(
    image: Pillow.Image, picture: bytes, reduction: int, reduced_to: int | None
) -> Pillow.Image:
    """The image, divided by at least `reduction`, and at 1/2, 1/4 or 1/8 of its size if its longer
    side stays above `reduced_to`.

    Pillow takes a file without its end marker for cut short, or fills what is missing from zeros
    behind it. The file is whole if no bits appended to it change a pixel.
    """
    if picture.find(b"\xff\xd9", picture.find(b"\xff\xda")) >= 0:
        return _drafted(image, reduction, reduced_to)
    body = without_end_marker(picture)
    digests = set()
    for padding in _PADDINGS:
        if body is None:
            break
        image = _pillow(body + padding + b"\xff\xd9", PhotoFormat.JPEG)
        image = _drafted(image, reduction, reduced_to)
        digests.add(_digest(image))
        if len(digests) > 1:
            break
    if len(digests) != 1:
        raise DecodeError("its JPEG data is damaged or cut short: its last pixels are missing")
    return image


def _drafted(image: Pillow.Image, reduction: int, reduced_to: int | None) -> Pillow.Image:
    longest = max(image.size)
    wanted = min(longest // reduction, longest if reduced_to is None else reduced_to)
    if wanted < longest:
        width, height = (max(side * wanted // longest, 1) for side in image.size)
        image.draft(None, (width, height))
    image.load()
    return image


def _digest(image: Pillow.Image) -> bytes:
    digest = hashlib.sha256()
    for top, bottom in strips(*image.size):
        digest.update(image.crop((0, top, image.width, bottom)).tobytes())
    return digest.digest()


@cache
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def check_pixels(width: int, height: int, limits: DecodeLimits, share: float = 1.0) -> None:
    """Raise DecodeError for empty images and those above `share` of the limit."""
    if width < 1 or height < 1:
        raise DecodeError(f"it declares {width} × {height} pixels")
    allowed = int(limits.max_pixels * share)
    if width * height > allowed:
        raise DecodeError(f"it has {width} × {height} pixels, more than {allowed:,}")
