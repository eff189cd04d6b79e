"""Camera RAW files, seen through the preview that the camera embedded."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from regard.core.errors import DecodeError
from regard.core.records import UInt8Array

# A shorter long side than this is a thumbnail for the camera's screen, no picture to analyse.
_MIN_PREVIEW_SIDE = 640
# Developing holds some 13 bytes a sensor pixel; above this, four of them make one pixel.
_FULL_DEVELOPMENT_PIXELS = 24_000_000


def read_raw(data: bytes, max_pixels: int) -> bytes | UInt8Array:
    """The best picture in a RAW file.

    That is the embedded JPEG preview as bytes, its EXIF orientation set (LibRaw copies it from the
    RAW file where the camera did not). Where there is none of a useful size the sensor data is
    developed: uint8 sRGB of shape (height, width, 3), oriented. Raises DecodeError for more than
    `max_pixels`, and whatever rawpy raises for damaged files.
    """
    import rawpy

    with rawpy.imread(io.BytesIO(data)) as raw:
        width, height = raw.sizes.raw_width, raw.sizes.raw_height
        if width * height > max_pixels:
            raise DecodeError(f"it has {width} × {height} pixels, more than {max_pixels:,}")
        preview = _jpeg_preview(raw)
        if preview is not None and _long_side(preview) >= _MIN_PREVIEW_SIDE:
            return preview
        try:
            developed: UInt8Array = raw.postprocess(
                use_camera_wb=True,
                gamma=(2.4, 12.92),  # sRGB's own curve; the default is that of television
                output_bps=8,
                half_size=width * height > _FULL_DEVELOPMENT_PIXELS,
            )
        except rawpy.LibRawError:
            if preview is None:
                raise
            return preview
        return developed


def raw_preview(data: bytes) -> bytes | None:
    """The embedded JPEG preview, or None; raises whatever rawpy raises for damaged files."""
    import rawpy

    with rawpy.imread(io.BytesIO(data)) as raw:
        return _jpeg_preview(raw)


def _jpeg_preview(raw: Any) -> bytes | None:
    import rawpy

    try:
        preview = raw.extract_thumb()
    except (rawpy.LibRawError, NotImplementedError):
        # No preview, or a damaged one: the sensor data may still be whole.
        return None
    return bytes(preview.data) if preview.format is rawpy.ThumbFormat.JPEG else None


def _long_side(jpeg: bytes) -> int:
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as photo:
            return max(photo.size)
    except (OSError, ValueError, SyntaxError):
        return 0
