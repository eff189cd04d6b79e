"""Converts decoded images to sRGB pixels: ICC profile, transparency, orientation.

Strips are converted straight into the result, so memory holds the decoded image (up to 4 bytes a
pixel) and the result (3 bytes a pixel) but never a third copy.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from regard.core.records import UInt8Array
from regard.photos.containers import MAX_PROFILE_BYTES

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

_STRIP_PIXELS = 1 << 18
# A transform that changes no sample by more than this counts as the identity.
_IDENTITY_TOLERANCE = 2

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Orientations whose first row ends at the bottom (3, 4) or on the right (6, 7).
_REVERSED = {3, 4, 6, 7}
TURNED = frozenset({5, 6, 7, 8})


@dataclass(frozen=True, slots=True)
class Raster:
    """A decoded image, `width` × `height` pixels, not yet oriented.

    `strip(top, bottom)` gives some rows: the colours as a Pillow image of mode L, RGB or CMYK, and
    the alpha as one of mode L, or None if they are opaque.
    """

    width: int
    height: int
    strip: Callable[[int, int], tuple[Image.Image, Image.Image | None]]


def pillow_raster(image: Image.Image) -> Raster:
    """A loaded Pillow image of 8 bits a sample."""
    width, height = image.size
    return Raster(
        width, height, lambda top, bottom: _split_alpha(image.crop((0, top, width, bottom)))
    )


def palette_image(indices: UInt8Array, palette: UInt8Array) -> Image.Image:
    """Indices of shape (height, width) as RGB by a palette of shape (colours, 3)."""
    height, width = indices.shape
    image = Image.frombytes("P", (width, height), np.ascontiguousarray(indices))
    image.putpalette(palette.tobytes())
    return image.convert("RGB")


def placed_raster(raster: Raster, left: int, top: int, width: int, height: int) -> Raster:
    """A raster at (left, top) of a larger canvas, which is white elsewhere."""

    def strip(first: int, last: int) -> tuple[Image.Image, None]:
        canvas = Image.new("RGB", (width, last - first), "white")
        begin, end = max(first - top, 0), min(last - top, raster.height)
        if begin < end:
            colours, alpha = raster.strip(begin, end)
            canvas.paste(colours.convert("RGB"), (left, begin + top - first), alpha)
        return canvas, None

    return Raster(width, height, strip)


def srgb_pixels(raster: Raster, *, orientation: int, icc: bytes | None) -> UInt8Array:
    """The image as sRGB, uint8 of shape (height, width, 3), after `orientation` (EXIF, 1 to 8).

    `icc` is the embedded profile, ignored if it is broken or for another colour model.
    Transparency is blended over white.
    """
    width, height = raster.width, raster.height
    turned = orientation in TURNED
    shape = (width, height, 3) if turned else (height, width, 3)
    pixels = np.empty(shape, dtype=np.uint8)
    for top, bottom in strips(width, height):
        colours, alpha = raster.strip(top, bottom)
        strip = _over_white(_to_rgb(colours, icc), alpha)
        if orientation in _TRANSPOSE:
            strip = strip.transpose(_TRANSPOSE[orientation])
        part = np.frombuffer(strip.tobytes(), dtype=np.uint8)
        is_reversed = orientation in _REVERSED
        rows_of_strip = slice(height - bottom, height - top) if is_reversed else slice(top, bottom)
        if turned:
            pixels[:, rows_of_strip] = part.reshape(width, bottom - top, 3)
        else:
            pixels[rows_of_strip] = part.reshape(bottom - top, width, 3)
    return pixels


def strips(width: int, height: int) -> Iterator[tuple[int, int]]:
    """Top and bottom row of each strip of an image."""
    rows = max(_STRIP_PIXELS // width, 1)
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def _split_alpha(strip: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours (L, RGB or CMYK) and alpha of an 8-bit Pillow image of any mode."""
    mode = strip.mode
    if mode in {"PA", "RGBa"} or "transparency" in strip.info:
        strip = strip.convert("RGBA")
    elif mode == "La":
        strip = strip.convert("LA")
    elif mode == "1":
        strip = strip.convert("L")
    elif mode not in {"RGB", "RGBA", "L", "LA", "CMYK"}:
        strip = strip.convert("RGB")
    if strip.mode not in {"LA", "RGBA"}:
        return strip, None
    return strip.convert("L" if strip.mode == "LA" else "RGB"), strip.getchannel("A")


def _to_rgb(strip: Image.Image, icc: bytes | None) -> Image.Image:
    """An L, RGB or CMYK strip as sRGB; unchanged colours if the profile does not fit."""
    if icc and len(icc) <= MAX_PROFILE_BYTES:
        transform = _srgb_transform(icc, strip.mode)
        if transform is None and strip.mode == "L":
            # Grey photographs often have the RGB profile of the camera or scanner.
            strip = strip.convert("RGB")
            transform = _srgb_transform(icc, "RGB")
        if transform is not None:
            strip = transform.apply(strip)
    return strip if strip.mode == "RGB" else strip.convert("RGB")


def _over_white(colours: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """An RGB strip, blended over white."""
    if alpha is None:
        return colours
    ground = Image.new("RGB", colours.size, "white")
    ground.paste(colours, mask=alpha)
    return ground


@lru_cache(maxsize=16)
def _srgb_transform(icc: bytes, mode: str) -> ImageCmsTransform | None:
    """The transform from the profile to sRGB; None if it does not fit `mode` or changes
    nothing."""
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if _MODES.get(profile.profile.xcolor_space.strip()) != mode:
            return None
        transform = ImageCms.buildTransform(
            profile,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return None if _is_identity(transform, mode) else transform


_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def _is_identity(transform: ImageCmsTransform, mode: str) -> bool:
    """Whether a grid of colours stays unchanged, as with the many sRGB profiles."""
    if mode == "CMYK":
        return False
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    axes = (steps,) if mode == "L" else (steps, steps, steps)
    grid: npt.NDArray[np.uint8] = np.stack(np.meshgrid(*axes), axis=-1).reshape(1, -1, len(axes))
    source = Image.fromarray(grid[..., 0] if mode == "L" else grid)
    moved = np.asarray(transform.apply(source), dtype=np.int16) - grid
    return bool(np.abs(moved).max() <= _IDENTITY_TOLERANCE)
