"""Decodes bitmaps of Windows and OS/2.

Pillow reads eleven fixed layouts of colour bits; here any masks are applied, as browsers do.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from regard.core.errors import DecodeError
from regard.photos.colour import Raster, palette_image

_FILE_HEADER = 14
_CORE_HEADER, _INFO_HEADER, _OS2_HEADER, _V5_HEADER = 12, 40, 64, 124
_RAW, _RLE8, _RLE4, _BITFIELDS, _ALPHA_BITFIELDS = 0, 1, 2, 3, 6
_EMBEDDED_PROFILE = b"DEBM"
# Compressions and bits a pixel, besides those with masks.
_LAYOUTS = {*((_RAW, bits) for bits in (1, 2, 4, 8, 16, 24, 32)), (_RLE8, 8), (_RLE4, 4)}
# Beyond the 256 colours of a palette: pixels that run lengths leave out, which are transparent.
_UNSET = 256

Masks = tuple[int, int, int, int]
_DEFAULT_MASKS: dict[int, Masks] = {
    16: (0x7C00, 0x03E0, 0x001F, 0),
    24: (0xFF0000, 0x00FF00, 0x0000FF, 0),
    32: (0xFF0000, 0x00FF00, 0x0000FF, 0),
}


@dataclass(frozen=True, slots=True)
class Bitmap:
    """The header of a bitmap; `masks` are the bits of red, green, blue and alpha."""

    data: bytes
    width: int
    height: int
    is_top_down: bool
    bits: int
    compression: int
    masks: Masks
    palette: npt.NDArray[np.uint8]
    pixels: int
    icc: bytes | None


def read_bitmap(data: bytes) -> Bitmap:
    """Read the header; raises DecodeError if it is damaged or its form is not supported."""
    (pixels, size) = struct.unpack_from("<II", data, 10)
    end = _FILE_HEADER + size
    if size == _CORE_HEADER:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = colours = 0
    elif 16 <= size <= _V5_HEADER:
        # Headers of OS/2 may end early; missing fields are 0.
        fields = data[_FILE_HEADER:end].ljust(_V5_HEADER, b"\0")
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", fields, 4)
        (colours,) = struct.unpack_from("<I", fields, 32)
    else:
        raise DecodeError("its BMP header is damaged")
    is_os2 = size == _OS2_HEADER or size < _INFO_HEADER
    masks = _DEFAULT_MASKS.get(bits, (0, 0, 0, 0))
    if compression in {_BITFIELDS, _ALPHA_BITFIELDS} and not is_os2 and bits in {16, 32}:
        has_alpha = size >= 56 or (size == _INFO_HEADER and compression == _ALPHA_BITFIELDS)
        red, green, blue, alpha = struct.unpack("<4I", data[54:70].ljust(16, b"\0"))
        masks = (red, green, blue, alpha if has_alpha else 0)
        end += {_INFO_HEADER: 16 if has_alpha else 12}.get(size, 0)
        if not red | green | blue:
            masks = _DEFAULT_MASKS[bits]
    elif (compression, bits) not in _LAYOUTS:
        raise DecodeError(f"BMP compression {compression} at {bits} bits is not supported")
    entry = 3 if size == _CORE_HEADER else 4
    palette = np.zeros((256, 3), np.uint8)
    if bits <= 8:
        colours = min(colours or 1 << bits, 1 << bits)
        table = data[end : min(end + colours * entry, pixels or len(data))]
        colours = len(table) // entry
        stored = np.frombuffer(table, np.uint8, colours * entry).reshape(colours, entry)
        palette[:colours] = stored[:, 2::-1]
        end += colours * entry
    icc = None
    if size >= _V5_HEADER and data[70:74] == _EMBEDDED_PROFILE:
        start, length = struct.unpack_from("<II", data, 126)
        icc = data[_FILE_HEADER + start : _FILE_HEADER + start + length]
    return Bitmap(
        data, width, abs(height), height < 0, bits, compression, masks, palette, pixels or end, icc
    )


def decode_bitmap(bitmap: Bitmap) -> Raster:
    """The pixels, top row first; raises DecodeError if any is missing."""
    if bitmap.compression in {_RLE8, _RLE4}:
        rows: npt.NDArray[np.unsignedinteger] = _run_lengths(bitmap)
    else:
        rows = _stored_rows(bitmap)
    masks = bitmap.masks
    if masks[3] and not np.bitwise_or.reduce(rows, axis=None) & masks[3]:
        # Screenshots and clipboards declare alpha and leave it 0: browsers show them opaque.
        masks = (*masks[:3], 0)

    def strip(top: int, bottom: int) -> tuple[Image.Image, Image.Image | None]:
        part = rows[top:bottom]
        if bitmap.bits == 24:
            return Image.frombytes("RGB", part.shape[1::-1], part.tobytes(), "raw", "BGR"), None
        if bitmap.bits > 8:
            colours = np.stack([_channel(part, mask) for mask in masks[:3]], axis=-1)
            opacity = Image.fromarray(_channel(part, masks[3])) if masks[3] else None
            return Image.fromarray(colours), opacity
        if bitmap.compression == _RAW:
            indices = _indices(part, bitmap.bits)[:, : bitmap.width]
            return palette_image(indices, bitmap.palette), None
        alpha = Image.fromarray(part != _UNSET).convert("L")
        return palette_image(part.astype(np.uint8), bitmap.palette), alpha

    return Raster(bitmap.width, bitmap.height, strip)


def _stored_rows(bitmap: Bitmap) -> npt.NDArray[np.unsignedinteger]:
    """A view of the uncompressed rows: (height, width) pixels, or their bytes."""
    width, height, bits = bitmap.width, bitmap.height, bitmap.bits
    stride = (width * bits + 31) // 32 * 4
    used = (width * bits + 7) // 8
    missing = bitmap.pixels + stride * height - len(bitmap.data)
    if missing > stride - used:
        raise DecodeError("its BMP data is damaged or cut short: pixels are missing")
    # The padding of the last row may be missing.
    stored = memoryview(bitmap.data)[bitmap.pixels :]
    stored = memoryview(bytes(stored) + bytes(missing)) if missing > 0 else stored
    rows = np.frombuffer(stored, np.uint8, stride * height).reshape(height, stride)
    rows = rows[:, :used] if bitmap.is_top_down else rows[::-1, :used]
    if bits == 24:
        return rows.reshape(height, width, 3)
    return rows.view(f"<u{bits // 8}") if bits > 8 else rows


def _channel(pixels: npt.NDArray[np.unsignedinteger], mask: int) -> npt.NDArray[np.uint8]:
    """The samples under a mask, scaled to 8 bits."""
    shift = max((mask & -mask).bit_length() - 1, 0)
    white = mask >> shift
    samples = (pixels & pixels.dtype.type(mask)) >> shift
    if white in {0, 255}:
        return samples.astype(np.uint8)
    return (samples * (255.0 / white) + 0.5).astype(np.uint8)


def _indices(rows: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Palette indices of 1, 2, 4 or 8 bits, one a byte."""
    if bits == 8:
        return rows
    if bits == 1:
        return np.unpackbits(rows, axis=1)
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    samples = rows[..., None] >> shifts & np.uint8((1 << bits) - 1)
    return samples.reshape(len(rows), -1)


def _run_lengths(bitmap: Bitmap) -> npt.NDArray[np.uint16]:
    """Palette indices of RLE8 and RLE4, shape (height, width); pixels left out are _UNSET."""
    width, height, data = bitmap.width, bitmap.height, bitmap.data
    half_bytes = bitmap.compression == _RLE4
    pixels = np.full((height, width), _UNSET, np.uint16)
    x, y, position = 0, 0, bitmap.pixels
    while y < height:
        if position + 2 > len(data):
            raise DecodeError("its BMP data is damaged or cut short: pixels are missing")
        count, value = data[position], data[position + 1]
        position += 2
        if count == 0 and value == 0:
            x, y = 0, y + 1
        elif count == 0 and value == 1:
            break
        elif count == 0 and value == 2:
            step = data[position : position + 2].ljust(2, b"\0")
            x, y, position = x + step[0], y + step[1], position + 2
        else:
            size = (count + 1) // 2 if half_bytes else count
            run = bytes([value]) * size
            if count == 0:
                count, size = value, (value + 1) // 2 if half_bytes else value
                run = data[position : position + size]
                position += size + size % 2
            indices = np.frombuffer(run, np.uint8)
            if half_bytes:
                indices = _indices(indices[None], 4)[0]
            end = min(x + min(count, len(indices)), width)
            pixels[y, x:end] = indices[: max(end - x, 0)]
            x = end
    return pixels if bitmap.is_top_down else pixels[::-1]
