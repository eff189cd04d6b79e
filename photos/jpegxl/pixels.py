"""Decodes the pixels of JPEG XL files with libjxl, in imagecodecs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from regard.core.errors import DecodeError
from regard.core.records import UInt8Array
from regard.photos.colour import Raster
from regard.photos.jpegxl.header import BT709, DCI, HLG, LINEAR, PQ, Colours, JpegXlHeader

# White of PQ and HLG, which also hold much brighter light, in cd/m² (ITU-R BT.2408).
_WHITE_LUMINANCE = 203.0

_Levels = npt.NDArray[np.float64]


def profile(header: JpegXlHeader) -> bytes | None:
    """The ICC profile of the pixels that `decode` gives; None if they are in sRGB."""
    if header.icc is not None or header.colours.has_srgb_primaries:
        return header.icc
    return _srgb_curve_profile(header.colours)


@lru_cache(maxsize=16)
def _srgb_curve_profile(colours: Colours) -> bytes | None:
    import imagecodecs

    curve = np.rint(_srgb_light(np.linspace(0, 1, 4096)) * 65535).astype(np.uint16)
    points = [colours.primaries[start : start + 2] for start in (0, 2, 4)]
    try:
        icc = imagecodecs.cms_profile(
            "gray" if colours.is_grey else "rgb",
            whitepoint=[*colours.white, 1.0],
            primaries=None if colours.is_grey else [n for point in points for n in (*point, 1.0)],
            transferfunction=curve,
        )
    except (RuntimeError, ValueError):
        # No such colours exist.
        return None
    return bytes(icc)


def decode(data: bytes, header: JpegXlHeader) -> Raster:
    """The first picture, not yet oriented; raises DecodeError or what libjxl raises."""
    import imagecodecs

    samples = imagecodecs.jpegxl_decode(data, 0, keeporientation=True, numthreads=1)
    samples = samples[..., None] if samples.ndim == 2 else samples
    colours = 1 if header.colours.is_grey else 3
    height, width, channels = samples.shape
    alpha = None if header.alpha is None else colours + header.alpha
    if (width, height) != (header.width, header.height) or channels <= max(colours - 1, alpha or 0):
        raise DecodeError("its form of JPEG XL is not supported")
    is_float = header.bits is None
    white = 65535 if header.bits is None else (1 << header.bits) - 1
    colour_table = _table(white, None if header.icc is not None else header.colours)
    alpha_table = _table(white, None)

    def strip(top: int, bottom: int) -> tuple[Image.Image, Image.Image | None]:
        part = samples[top:bottom]
        if is_float:
            levels = np.clip(np.nan_to_num(part.astype(np.float32)), 0, 1)
            part = np.rint(levels * white).astype(np.uint16)
        else:
            part = np.minimum(part, white)
        pixels = colour_table[part[..., :colours]]
        opacity = None if alpha is None else alpha_table[part[..., alpha]]
        if opacity is not None and header.is_premultiplied:
            # Undo the multiplication, so that profiles apply to the colours.
            scale = 255.0 / np.maximum(opacity, 1)[..., None]
            pixels = np.minimum(pixels * scale + 0.5, 255).astype(np.uint8)
        image = Image.fromarray(pixels[..., 0] if colours == 1 else pixels)
        return image, None if opacity is None else Image.fromarray(opacity)

    return Raster(width, height, strip)


@lru_cache(maxsize=16)
def _table(white: int, colours: Colours | None) -> UInt8Array:
    """8 bits for samples from 0 to `white`, with sRGB's curve instead of that of the colours."""
    levels = np.arange(white + 1) / white
    if colours is not None:
        levels = _srgb_level(_light(levels, colours))
    return (levels * 255 + 0.5).astype(np.uint8)


def _srgb_level(light: _Levels) -> _Levels:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def _srgb_light(level: _Levels) -> _Levels:
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)


def _light(level: _Levels, colours: Colours) -> _Levels:
    """Light from 0 to 1, where 1 is white, of samples from 0 to 1."""
    if colours.gamma is not None:
        return level ** (1 / colours.gamma)
    if colours.transfer in {PQ, HLG}:
        return np.minimum(_luminance(level, colours.transfer) / _WHITE_LUMINANCE, 1)
    if colours.transfer == BT709:
        return np.where(level < 0.081, level / 4.5, ((level + 0.099) / 1.099) ** (1 / 0.45))
    if colours.transfer in {LINEAR, DCI}:
        return level ** (1 if colours.transfer == LINEAR else 2.6)
    return _srgb_light(level)


def _luminance(level: _Levels, transfer: int) -> _Levels:
    """Light in cd/m² of samples of PQ or HLG (ITU-R BT.2100), of HLG on a common display."""
    if transfer == PQ:
        root = level ** (32 / 2523)
        light = np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
        return 10_000 * light ** (16384 / 2610)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(level <= 0.5, level**2 / 3, (np.exp((level - c) / a) + b) / 12)
    return 1_000 * scene**1.2
