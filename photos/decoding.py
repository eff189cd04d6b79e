"""Limits and checks around the image decoders: Pillow, libheif and LibRaw.

Input is not trusted. Dimensions are checked before any pixel is decoded, only the decoders of
listed formats are called, and every failure becomes a DecodeError with a reason, never another
exception or a Python warning. All functions are thread-safe; the decoders release the interpreter
lock. `regard.photos.photo_file` is the one user of this module.
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
from regard.photos.formats import PhotoFormat, has_more_jpeg_scans, webp_size
from regard.photos.tiff import TiffBlock

# Pillow refuses images above twice its own warning limit.
_PILLOW_PIXELS = 178_956_970
# Images above these sizes are decoded one at a time, which bounds the memory of all threads.
_LARGE_PIXELS = 32_000_000
_LARGE_FILE_BYTES = 64 << 20
_large_image_lock = threading.RLock()

# Decoding WebP takes 16 bytes a pixel at its peak, other formats 7 to 10.
_WEBP_SHARE = 0.5
# Well-formed progressive files have about ten scans.
_MAX_JPEG_SCANS = 200
_MAX_STRIPS = 1 << 20

_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
_TIFF_STRIPS, _TIFF_TILES = 273, 324
_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 322, 323

# warnings.catch_warnings swaps process-wide filters and is not thread-safe.
_DECODER_MODULES = r"(PIL|pillow_heif|rawpy)(\.|$)"
_filter_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """The largest files and images that are decoded, and the allowed formats.

    Decoding holds the file and, at its peak, 7 to 10 bytes a pixel (3 of them the result), or 16
    for WebP, which may therefore have only half of `max_pixels`. 120 million pixels admit medium
    format and 108-megapixel phones and take about 1 GiB. Images above 32 million pixels are
    decoded one at a time, so that several threads together stay below 2 GiB.
    """

    max_bytes: int = 512 << 20
    max_pixels: int = 120_000_000
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
def decoder_errors(kind: PhotoFormat, limits: DecodeLimits) -> Iterator[None]:
    """Turn any exception of a decoder into a DecodeError whose reason is one sentence."""
    _silence_decoders()
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
    """The decoder's message on one line; LibRaw gives it as bytes."""
    message = error.args[0] if error.args else ""
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(error)
    return " ".join(text.split())[:200] or type(error).__name__


def _silence_decoders() -> None:
    """Ignore warnings from the decoders' modules, whatever other filters say."""
    with _filter_lock:
        module = warnings.filters[0][3] if warnings.filters else None
        if getattr(module, "pattern", None) != _DECODER_MODULES:
            warnings.filterwarnings("ignore", module=_DECODER_MODULES)


def open_image(
    data: bytes, kind: PhotoFormat, limits: DecodeLimits, block: TiffBlock | None
) -> Pillow.Image:
    """Read an image's header and check its declared size; no pixel is decoded.

    `block` is the structure of a TIFF file. Call within `decoder_errors`.
    """
    if kind is PhotoFormat.WEBP:
        # The plugin allocates its canvases on opening.
        check_pixels(*(webp_size(data) or (1, 1)), limits, share=_WEBP_SHARE)
    elif kind is PhotoFormat.TIFF:
        _check_tiff(data, limits, block)
    elif kind is PhotoFormat.JPEG:
        if has_more_jpeg_scans(data, _MAX_JPEG_SCANS):
            raise DecodeError(f"it has more than {_MAX_JPEG_SCANS} progressive scans")
    elif kind is PhotoFormat.HEIF:
        _register_heif()
    image = Pillow.open(io.BytesIO(data), formats=[str(kind)])
    check_pixels(*image.size, limits)
    return image


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


def _check_tiff(data: bytes, limits: DecodeLimits, block: TiffBlock | None) -> None:
    """Refuse directories that would make a reader allocate far more than the file holds."""
    if block is None:
        raise DecodeError("its TIFF header is damaged")
    # Valid fields do not overlap; twice the file size tolerates a few invalid ones.
    if sum(map(block.claimed_bytes, block.directories)) > 2 * len(data):
        raise DecodeError("its TIFF directories claim far more bytes than the file has")
    first = block.first
    tile_width = block.integer(first, _TIFF_TILE_WIDTH) or 0
    tile_length = block.integer(first, _TIFF_TILE_LENGTH) or 0
    if tile_width * tile_length > limits.max_pixels:
        raise DecodeError(f"its tiles of {tile_width} × {tile_length} pixels are too large")
    for tag in (_TIFF_STRIPS, _TIFF_TILES):
        if tag in first and first[tag].count > _MAX_STRIPS:
            raise DecodeError(f"it is cut into more than {_MAX_STRIPS:,} pieces")


def tiff_white(image: Pillow.Image, block: TiffBlock) -> float | None:
    """The sample value of white in a TIFF of unsigned 9 to 16 bits, negative if 0 is white."""
    if not image.mode.startswith("I;16"):
        return None
    bits = block.integer(block.first, _TIFF_BITS) or 16
    top = float((1 << bits) - 1)
    return -top if block.integer(block.first, _TIFF_PHOTOMETRIC) == 0 else top
