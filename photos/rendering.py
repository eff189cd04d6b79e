"""Thumbnails, crops and pictures of masks, and which original files a browser may display.

Output is made from decoded pixels only, so no metadata, script or second image of a file passes
through. Images are never enlarged.
"""

from __future__ import annotations

import io
from typing import BinaryIO

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from regard.core.errors import UsageError
from regard.core.geometry import Box, Mask
from regard.core.records import Image
from regard.photos.decoding import DEFAULT_LIMITS, DecodeLimits
from regard.photos.formats import PhotoFormat, VideoFormat
from regard.photos.masks import decode_mask, mask_outline
from regard.photos.media import decode_picture

WEBP_CONTENT_TYPE = "image/webp"
THUMBNAIL_QUALITY = 80

# Method 2 writes slightly larger files than the default of 4 in less than half the time.
_WEBP_METHOD = 2
# The image is first reduced in whole steps to at least this multiple of the final size.
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
    PhotoFormat.JXL: "image/jxl",
    VideoFormat.MP4: "video/mp4",
    VideoFormat.MOV: "video/quicktime",
    VideoFormat.MKV: "video/x-matroska",
    VideoFormat.WEBM: "video/webm",
    VideoFormat.AVI: "video/x-msvideo",
}
# Most browsers display these; the others are sent as attachments.
_INLINE_FORMATS = frozenset(
    {
        *(PhotoFormat.JPEG, PhotoFormat.PNG, PhotoFormat.WEBP, PhotoFormat.GIF, PhotoFormat.AVIF),
        *(VideoFormat.MP4, VideoFormat.MOV, VideoFormat.WEBM),
    }
)


def content_type(photo_format: str | None) -> str | None:
    """The media type of a format; None for camera RAW and unknown names."""
    return _CONTENT_TYPES.get(photo_format)  # type: ignore[call-overload, no-any-return]


def shown_inline(photo_format: str | None) -> bool:
    """Whether a browser may display a file of this format instead of saving it."""
    return photo_format in _INLINE_FORMATS


def thumbnail(
    file: BinaryIO,
    longer_side: int,
    *,
    time_ms: int | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
    quality: int = THUMBNAIL_QUALITY,
) -> bytes:
    """Render an open photograph as WebP of at most `longer_side` pixels a side.

    Of a video, the frame at `time_ms` is rendered. Raises DecodeError.
    """
    # Resampling from twice the size looks the same as from all pixels.
    image = decode_picture(file, limits, time_ms=time_ms, reduced_to=2 * longer_side)
    return encode_webp(scaled(image, longer_side), quality)


def scaled(image: Image, longer_side: int) -> Image:
    """Scale to at most `longer_side` (≥ 1) pixels; an image that fits is returned as it is."""
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
    """The part inside `box`, scaled to `longer_side`; raises UsageError if the box lies
    outside."""
    inside = box.clipped(image.width, image.height)
    if inside is None:
        raise UsageError(
            f"the box {box.to_list()} lies outside the {image.width} × {image.height} photograph"
        )
    part = image.pixels[inside.y : inside.bottom, inside.x : inside.right]
    return scaled(Image(np.ascontiguousarray(part)), longer_side)


def encode_webp(image: Image, quality: int = THUMBNAIL_QUALITY) -> bytes:
    """Encode as lossy WebP, `quality` 0 to 100; raises ValueError above 16,383 pixels a side."""
    buffer = io.BytesIO()
    Pillow.fromarray(image.pixels).save(buffer, "WEBP", quality=quality, method=_WEBP_METHOD)
    return buffer.getvalue()


def encode_png(image: Image) -> bytes:
    """Encode as PNG, quickly."""
    buffer = io.BytesIO()
    Pillow.fromarray(image.pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def mask_png(mask: Mask) -> bytes:
    """Encode a mask as a grey PNG of the photograph's size: 255 inside, 0 outside."""
    buffer = io.BytesIO()
    Pillow.fromarray(decode_mask(mask).astype(np.uint8) * np.uint8(255)).save(buffer, "PNG")
    return buffer.getvalue()


def draw_outline(
    draw: ImageDraw.ImageDraw,
    mask: Mask,
    scale: float,
    colour: str | tuple[int, int, int],
    width: int,
) -> None:
    """Draw the outline of a mask, `width` pixels wide, in a picture scaled by `scale`."""
    for ring in mask_outline(mask):
        # Pillow's coordinates are those of the middle of pixels.
        points = [(x * scale - 0.5, y * scale - 0.5) for x, y in ring]
        draw.line(points, colour, width, joint="curve")


def outline_path(mask: Mask) -> str:
    """The outline of a mask as data of an SVG path in half pixels, for the even-odd rule."""
    path = []
    for ring in mask_outline(mask):
        points = np.rint(2 * ring).astype(np.int64)
        steps = np.concatenate([points[:1], np.diff(points[:-1], axis=0)])
        start, *others = (f"{x},{y}" for x, y in steps.tolist())
        path.append(f"M{start}l{' '.join(others)}z")
    return "".join(path)


def mask_svg(mask: Mask) -> str:
    """The outline of a mask as SVG: one path in half pixels, filled by the even-odd rule."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * mask.width} {2 * mask.height}">'
        f'<path fill-rule="evenodd" d="{outline_path(mask)}"/></svg>'
    )
