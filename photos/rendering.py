"""Pictures made to be shown: thumbnails, crops and masks, and what a browser may be handed as it is.

Everything is made from decoded pixels (`photos/decoding.py`), so nothing of a file but its picture
gets through: no metadata, no scripts, no second image. Nothing is ever enlarged.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Pillow

from regard.core.errors import UsageError
from regard.core.geometry import Box, Mask
from regard.core.records import Image
from regard.photos.decoding import DEFAULT_LIMITS, DecodeLimits, decode_bytes
from regard.photos.formats import PhotoFormat
from regard.photos.masks import decode_mask

WEBP_CONTENT_TYPE = "image/webp"
THUMBNAIL_QUALITY = 80

# Method 2 writes a few per cent more than the default of 4, in less than half the time.
_WEBP_METHOD = 2
# Pixels by which a picture is first reduced in whole steps may be this much above the final size.
_REDUCING_GAP = 2.0

_CONTENT_TYPES = {
    PhotoFormat.JPEG: "image/jpeg",
    PhotoFormat.PNG: "image/png",
    PhotoFormat.WEBP: WEBP_CONTENT_TYPE,
    PhotoFormat.GIF: "image/gif",
    PhotoFormat.AVIF: "image/avif",
    PhotoFormat.BMP: "image/bmp",
    PhotoFormat.TIFF: "image/tiff",
    PhotoFormat.HEIF: "image/heic",
}
# What every browser shows itself. The others are handed out as attachments.
_INLINE_FORMATS = frozenset(
    {PhotoFormat.JPEG, PhotoFormat.PNG, PhotoFormat.WEBP, PhotoFormat.GIF, PhotoFormat.AVIF}
)


def content_type(photo_format: str | None) -> str | None:
    """The media type of a `PhotoFormat`; None where there is none: camera RAW, and unknown names."""
    return _CONTENT_TYPES.get(photo_format)  # type: ignore[call-overload, no-any-return]


def shown_inline(photo_format: str | None) -> bool:
    """Whether a browser may show a file of this `PhotoFormat` itself, rather than save it."""
    return photo_format in _INLINE_FORMATS


def thumbnail(
    data: bytes,
    longer_side: int,
    *,
    limits: DecodeLimits = DEFAULT_LIMITS,
    quality: int = THUMBNAIL_QUALITY,
) -> bytes:
    """A photograph in memory as WebP of at most `longer_side` pixels a side; raises DecodeError."""
    # Twice the size leaves the resampling enough to look as if it had started from all pixels.
    image = decode_bytes(data, limits, reduced_to=2 * longer_side)
    return encode_webp(scaled(image, longer_side), quality)


def scaled(image: Image, longer_side: int) -> Image:
    """The image with its longer side at most `longer_side` (≥ 1) pixels; itself when it fits."""
    longest = max(image.width, image.height)
    if longest <= longer_side:
        return image
    size = (
        max(round(image.width * longer_side / longest), 1),
        max(round(image.height * longer_side / longest), 1),
    )
    small = Pillow.fromarray(image.pixels).resize(
        size, Pillow.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP
    )
    return Image(np.array(small))


def cropped(image: Image, box: Box, longer_side: int) -> Image:
    """The part of the image inside `box`, scaled down to `longer_side`; raises UsageError if none is."""
    inside = box.clipped(image.width, image.height)
    if inside is None:
        raise UsageError(
            f"the box {box.to_list()} lies outside the {image.width} × {image.height} photograph"
        )
    part = image.pixels[inside.y : inside.bottom, inside.x : inside.right]
    return scaled(Image(np.ascontiguousarray(part)), longer_side)


def encode_webp(image: Image, quality: int = THUMBNAIL_QUALITY) -> bytes:
    """The image as lossy WebP of `quality` 0 to 100; raises ValueError above 16,383 pixels a side."""
    buffer = io.BytesIO()
    Pillow.fromarray(image.pixels).save(buffer, "WEBP", quality=quality, method=_WEBP_METHOD)
    return buffer.getvalue()


def mask_png(mask: Mask) -> bytes:
    """The mask as a grey PNG of the photograph's size: 255 inside, 0 outside."""
    buffer = io.BytesIO()
    Pillow.fromarray(decode_mask(mask).astype(np.uint8) * np.uint8(255)).save(buffer, "PNG")
    return buffer.getvalue()
