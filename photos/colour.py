"""Converts any Pillow image to sRGB pixels: sample depth, ICC profile, transparency, orientation.

Strips are converted straight into the result, so memory holds the decoded image (up to 4 bytes a
pixel) and the result (3 bytes a pixel) but never a third copy.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from regard.core.records import UInt8Array

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

_STRIP_PIXELS = 1 << 18
# Printer profiles with several rendering tables reach a few megabytes.
_MAX_PROFILE_BYTES = 8 << 20
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

_SCALAR_MODES = {"I;16", "I;16L", "I;16B", "I;16N", "I", "F"}


def srgb_pixels(
    photo: Image.Image, *, orientation: int, icc: bytes | None, white: float | None
) -> UInt8Array:
    """The image as sRGB, uint8 of shape (height, width, 3), after `orientation` (EXIF, 1 to 8).

    `icc` is the embedded profile, ignored if it is broken or for another colour model. `white` is
    the sample value of white in images of more than 8 bits, negative if 0 is white; None derives
    it from the samples. Transparency is blended over white.
    """
    width, height = photo.size
    turned = orientation in TURNED
    shape = (width, height, 3) if turned else (height, width, 3)
    pixels = np.empty(shape, dtype=np.uint8)
    to_eight_bits = _depth_scale(photo, white)
    rows = max(_STRIP_PIXELS // width, 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = photo.crop((0, top, width, bottom))
        if to_eight_bits is not None:
            strip = to_eight_bits(strip)
        strip = _over_white(_to_srgb(strip, icc))
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


def _depth_scale(
    photo: Image.Image, white: float | None
) -> Callable[[Image.Image], Image.Image] | None:
    """A function that scales strips of more than 8 bits a sample down to 8, without clipping."""
    if photo.mode not in _SCALAR_MODES:
        return None
    low, high = 0.0, 65535.0
    if white is not None:
        low, high = (0.0, white) if white > 0 else (-white, 0.0)
    elif photo.mode in {"I", "F"}:
        low, high = _sample_range(photo)

    def scale(strip: Image.Image) -> Image.Image:
        samples = np.asarray(strip).astype(np.float32)
        np.nan_to_num(samples, copy=False, nan=low, posinf=high, neginf=low)
        samples -= low
        samples *= 255.0 / (high - low)
        np.clip(samples, 0.0, 255.0, out=samples)
        return Image.fromarray((samples + 0.5).astype(np.uint8))

    return scale


def _sample_range(photo: Image.Image) -> tuple[float, float]:
    """Black and white of 32-bit samples, whose white no format declares.

    Samples within 0 to 1, 255 or 65535 are taken to span that range, others their own range.
    """
    width, height = photo.size
    low, high = np.inf, -np.inf
    rows = max(_STRIP_PIXELS // width, 1)
    for top in range(0, height, rows):
        strip = np.asarray(photo.crop((0, top, width, min(top + rows, height))))
        finite = strip[np.isfinite(strip)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    ranges = (1.0, 255.0, 65535.0) if photo.mode == "F" else (255.0, 65535.0)
    if low >= 0:
        for top_value in ranges:
            if high <= top_value:
                return 0.0, top_value
    return (low, high) if low < high else (low - 1.0, low)


def _to_srgb(strip: Image.Image, icc: bytes | None) -> Image.Image:
    """An 8-bit strip of any mode as RGB or, with transparency, RGBA."""
    mode = strip.mode
    if mode in {"PA", "RGBa"} or "transparency" in strip.info:
        strip = strip.convert("RGBA")
    elif mode == "La":
        strip = strip.convert("LA")
    elif mode == "1":
        strip = strip.convert("L")
    elif mode not in {"RGB", "RGBA", "L", "LA", "CMYK", "LAB"}:
        strip = strip.convert("RGB")
    if strip.mode == "LAB":
        return _convert(strip, _lab_transform())
    if not icc or len(icc) > _MAX_PROFILE_BYTES:
        return strip
    if strip.mode in {"LA", "RGBA"}:
        bands = strip.split()
        colour = bands[0] if strip.mode == "LA" else Image.merge("RGB", bands[:3])
        colour = _through_profile(colour, icc).convert("RGB")
        colour.putalpha(bands[-1])
        return colour
    return _through_profile(strip, icc)


def _through_profile(strip: Image.Image, icc: bytes) -> Image.Image:
    """Apply the profile to an L, RGB or CMYK strip; unchanged if the profile does not fit."""
    transform = _srgb_transform(icc, strip.mode)
    if transform is None and strip.mode == "L":
        # Grey photographs often have the RGB profile of the camera or scanner.
        strip = strip.convert("RGB")
        transform = _srgb_transform(icc, "RGB")
    return strip if transform is None else _convert(strip, transform)


def _convert(strip: Image.Image, transform: ImageCmsTransform) -> Image.Image:
    result = transform.apply(strip)
    # The converted strip must not keep the source profile.
    result.info = {}
    return result


def _over_white(strip: Image.Image) -> Image.Image:
    """A strip as RGB, transparency blended over white."""
    if strip.mode == "RGB":
        return strip
    if strip.mode not in {"LA", "RGBA"}:
        return strip.convert("RGB")
    ground = Image.new("RGB", strip.size, "white")
    ground.paste(strip.convert("RGB"), mask=strip.getchannel("A"))
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


@lru_cache(maxsize=1)
def _lab_transform() -> ImageCmsTransform:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(
        lab, srgb, "LAB", "RGB", renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC
    )


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
