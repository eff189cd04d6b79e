"""Reads what a JPEG XL file says before its pixels: size, orientation, channels and colours.

libjxl knows this too, but tells it only after it has decoded the pixels of whatever size.
(ISO/IEC 18181-1, annexes C to E; 18181-2 for the container.)
"""

from __future__ import annotations

from dataclasses import dataclass

from regard.core.errors import DecodeError
from regard.photos.containers import iso_boxes
from regard.photos.jpegxl.bits import BitReader, EndOfData
from regard.photos.jpegxl.profile import MAX_PROFILE_BYTES, read_profile

_CODESTREAM_START = b"\xff\x0a"

# What precedes the pixels is small, except for a profile.
_MAX_HEADER_BYTES = MAX_PROFILE_BYTES + (1 << 16)
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_UPSAMPLING_WEIGHTS = (15, 55, 210)
_MAX_CHANNELS = 64

_RGB, _GREY, _XYB = range(3)
_ALPHA, _SPOT, _BLACK, _CFA = 0, 2, 4, 5
_CUSTOM = 2
BT709, LINEAR, SRGB, PQ, DCI, HLG = 1, 8, 13, 16, 17, 18
_WHITES = {1: (0.3127, 0.3290), 10: (1 / 3, 1 / 3), 11: (0.314, 0.351)}
_PRIMARIES = {
    1: (0.639998686, 0.330010138, 0.300003784, 0.600003357, 0.150002046, 0.059997204),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}


@dataclass(frozen=True, slots=True)
class Colours:
    """A colour space that the standard describes without a profile.

    `white` and `primaries` are CIE x and y, of red, green and blue. `transfer` is the number of a
    curve in the standard, `gamma` replaces it by a power: light = sample ^ (1 / gamma).
    """

    is_grey: bool = False
    white: tuple[float, ...] = _WHITES[1]
    primaries: tuple[float, ...] = _PRIMARIES[1]
    transfer: int = SRGB
    gamma: float | None = None

    @property
    def has_srgb_primaries(self) -> bool:
        """Whether white and primaries are those of sRGB."""
        return self.white == _WHITES[1] and (self.is_grey or self.primaries == _PRIMARIES[1])


@dataclass(frozen=True, slots=True)
class JpegXlHeader:
    """The header; `width` and `height` in pixels before `orientation` (1 to 8) is applied.

    `bits` are those of a sample, None of a floating-point one. `alpha` is the index of the
    transparency among the channels after those of colour, or None. The colours are those of the
    profile `icc`; where it is None, `colours`.
    """

    width: int
    height: int
    orientation: int = 1
    bits: int | None = 8
    alpha: int | None = None
    is_premultiplied: bool = False
    colours: Colours = Colours()
    icc: bytes | None = None


def read_header(data: bytes) -> JpegXlHeader:
    """Read the header of a file; raises DecodeError if it is damaged or not supported."""
    try:
        return _read_header(BitReader(_codestream(data)))
    except EndOfData as error:
        raise DecodeError("its JXL data is damaged or cut short: its header ends") from error


def _codestream(data: bytes) -> bytes:
    """The first bytes of the codestream, which a container may hold in several boxes."""
    if data.startswith(_CODESTREAM_START):
        return data[2:_MAX_HEADER_BYTES]
    parts = bytearray()
    for kind, start, end in iso_boxes(data):
        if kind == b"jxlc":
            parts += data[start : min(end, start + _MAX_HEADER_BYTES)]
            break
        if kind == b"jxlp" and len(parts) < _MAX_HEADER_BYTES:
            # The number of the part precedes it.
            parts += data[start + 4 : min(end, start + _MAX_HEADER_BYTES)]
    if not parts.startswith(_CODESTREAM_START):
        raise DecodeError("its JXL data is damaged or cut short: it has no picture")
    return bytes(parts[2:])


def _read_header(reader: BitReader) -> JpegXlHeader:
    width, height = _size(reader)
    orientation, alpha, is_premultiplied = 1, None, False
    bits, is_float = 8, False
    is_xyb, has_profile, colours = True, False, Colours()
    if not reader.flag():
        has_more = reader.flag()
        if has_more:
            orientation = _extra_fields(reader)
        bits, is_float = _depth(reader)
        if bits not in ({16, 32} if is_float else range(1, 17)):
            raise DecodeError(f"JPEG XL of {bits} bits is not supported")
        reader.flag()  # whether 16 bits suffice for the decoder
        count = reader.u32(0, 1, (4, 2), (12, 1))
        if count > _MAX_CHANNELS:
            raise DecodeError(f"JPEG XL of {count} more channels than colours is not supported")
        for index in range(count):
            kind, is_associated = _channel(reader)
            if kind == _BLACK:
                raise DecodeError("JPEG XL in CMYK is not supported")
            if kind == _ALPHA and alpha is None:
                alpha, is_premultiplied = index, is_associated
        is_xyb = reader.flag()
        has_profile, colours = _colours(reader)
        if has_more and not reader.flag():
            reader.skip(16 + 16 + 1 + 16)
        _skip_extensions(reader)
    icc = None
    if has_profile and is_xyb:
        # The decoder gives these colours as linear light of sRGB's primaries.
        colours = Colours(colours.is_grey, transfer=LINEAR)
    elif has_profile:
        _skip_transform(reader)
        icc = read_profile(reader)
    return JpegXlHeader(
        width,
        height,
        orientation,
        None if is_float else bits,
        alpha,
        is_premultiplied,
        colours,
        icc,
    )


def _size(reader: BitReader) -> tuple[int, int]:
    is_small = reader.flag()

    def length() -> int:
        if is_small:
            return 8 * (reader.bits(5) + 1)
        return reader.u32((9, 1), (13, 1), (18, 1), (30, 1))

    height = length()
    ratio = reader.bits(3)
    if ratio == 0:
        return length(), height
    across, down = _RATIOS[ratio - 1]
    return height * across // down, height


def _extra_fields(reader: BitReader) -> int:
    """The orientation, from fields that also hold intended size, preview and animation."""
    orientation = 1 + reader.bits(3)
    if reader.flag():
        _size(reader)
    if reader.flag():
        _skip_preview(reader)
    if reader.flag():
        reader.u32(100, 1000, (10, 1), (30, 1))
        reader.u32(1, 1001, (8, 1), (10, 1))
        reader.u32(0, (3, 0), (16, 0), (32, 0))
        reader.flag()
    return orientation


def _skip_preview(reader: BitReader) -> None:
    is_small = reader.flag()
    choices = ((16, 32, (5, 1), (9, 33)), ((6, 1), (8, 65), (10, 321), (12, 1345)))[not is_small]
    reader.u32(*choices)
    if reader.bits(3) == 0:
        reader.u32(*choices)


def _depth(reader: BitReader) -> tuple[int, bool]:
    """The bits of a sample, and whether it is floating-point."""
    is_float = reader.flag()
    bits = reader.u32(32, 16, 24, (6, 1)) if is_float else reader.u32(8, 10, 12, (6, 1))
    if is_float:
        reader.bits(4)
    return bits, is_float


def _channel(reader: BitReader) -> tuple[int, bool]:
    """The kind of a channel, and whether colours are multiplied by it."""
    if reader.flag():
        return _ALPHA, False
    kind = reader.enum()
    _depth(reader)
    reader.u32(0, 3, 4, (3, 1))
    reader.skip(8 * reader.u32(0, (4, 0), (5, 16), (10, 48)))
    is_associated = kind == _ALPHA and reader.flag()
    if kind == _SPOT:
        reader.skip(4 * 16)
    elif kind == _CFA:
        reader.u32(1, (2, 0), (4, 3), (8, 19))
    return kind, is_associated


def _colours(reader: BitReader) -> tuple[bool, Colours]:
    """Whether a profile follows, and the colours without it; unknown ones count as sRGB."""
    if reader.flag():
        return False, Colours()
    has_profile = reader.flag()
    space = reader.enum()
    is_grey = space == _GREY
    if has_profile:
        return True, Colours(is_grey)
    white: tuple[float, ...] = _WHITES[1]
    primaries: tuple[float, ...] = _PRIMARIES[1]
    transfer, gamma = SRGB, None
    if space != _XYB:
        number = reader.enum()
        white = _points(reader, 1) if number == _CUSTOM else _WHITES.get(number, white)
        if not is_grey:
            number = reader.enum()
            custom = number == _CUSTOM
            primaries = _points(reader, 3) if custom else _PRIMARIES.get(number, primaries)
        if reader.flag():
            gamma = reader.bits(24) / 1e7 or None
        else:
            transfer = reader.enum()
    reader.enum()  # the rendering intent
    if space not in {_RGB, _GREY}:
        return False, Colours()
    return False, Colours(is_grey, white, primaries, transfer, gamma)


def _points(reader: BitReader, count: int) -> tuple[float, ...]:
    """CIE x and y of some points, in millionths; the lowest bit is the sign."""
    numbers = [
        reader.u32((19, 0), (19, 524288), (20, 1048576), (21, 2097152)) for _ in range(2 * count)
    ]
    return tuple((-(n + 1) // 2 if n & 1 else n // 2) / 1e6 for n in numbers)


def _skip_extensions(reader: BitReader) -> None:
    extensions = reader.u64()
    reader.skip(sum(reader.u64() for _ in range(extensions.bit_count())))


def _skip_transform(reader: BitReader) -> None:
    """The weights of the decoder, in a file whose colours are not XYB."""
    if reader.flag():
        return
    weights = reader.bits(3)
    for bit, count in enumerate(_UPSAMPLING_WEIGHTS):
        if weights >> bit & 1:
            reader.skip(16 * count)
