"""Camera RAW files: the embedded preview, or the developed sensor data."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from regard.core.errors import DecodeError
from regard.core.records import UInt8Array

# A shorter preview is a thumbnail for the camera's screen, too small to analyse.
_MIN_PREVIEW_SIDE = 640
# Developing takes about 13 bytes a sensor pixel; above this, four of them make one pixel.
_FULL_DEVELOPMENT_PIXELS = 24_000_000


def read_raw(data: bytes, max_pixels: int) -> tuple[bytes | None, UInt8Array | None]:
    """The embedded JPEG preview, if any, and developed pixels if the preview is too small.

    At least one is not None. LibRaw sets the preview's EXIF orientation if the camera did not.
    Developed pixels are uint8 sRGB of shape (height, width, 3), oriented. Raises DecodeError for a
    sensor above `max_pixels` that would have to be developed, and anything that rawpy raises for
    damaged files.
    """
    import rawpy

    with rawpy.imread(io.BytesIO(data)) as raw:
        preview = _jpeg_preview(raw)
        if preview is not None and _long_side(preview) >= _MIN_PREVIEW_SIDE:
            return preview, None
        width, height = raw.sizes.raw_width, raw.sizes.raw_height
        if width * height > max_pixels:
            raise DecodeError(f"it has {width} × {height} pixels, more than {max_pixels:,}")
        try:
            developed: UInt8Array = raw.postprocess(
                use_camera_wb=True,
                gamma=(2.4, 12.92),  # sRGB's curve; the default is BT.709's
                output_bps=8,
                half_size=width * height > _FULL_DEVELOPMENT_PIXELS,
            )
        except rawpy.LibRawError:
            if preview is None:
                raise
            return preview, None
        return preview, developed


def _jpeg_preview(raw: Any) -> bytes | None:
    import rawpy

    try:
        preview = raw.extract_thumb()
    except (rawpy.LibRawError, NotImplementedError):
        # The sensor data may still be intact.
        return None
    return bytes(preview.data) if preview.format is rawpy.ThumbFormat.JPEG else None


def _long_side(jpeg: bytes) -> int:
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as photo:
            return max(photo.size)
    except (OSError, ValueError, SyntaxError):
        return 0
