"""Splits JPEG, PNG, WebP and GIF files into the picture and what else they hold.

A decoder gets a minimal file of the first picture alone. Metadata that is damaged, huge, misplaced
or compressed to a bomb, later pictures, and bytes after the end therefore cannot fail a picture,
as in browsers. The pixel data goes to the decoder as stored: it is complete, or decoding fails.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from regard.core.errors import DecodeError

# Printer profiles with several rendering tables reach a few megabytes.
MAX_PROFILE_BYTES = 8 << 20

_MAX_JPEG_SEGMENTS = 50_000
_JPEG_MARKER = re.compile(rb"\xff+[\x01-\xfe]")
_EOI, _SOS, _APP0, _COMMENT = 0xD9, 0xDA, 0xE0, 0xFE
# Markers without a length: TEM and the restart markers.
_BARE_MARKERS = {0x01, *range(0xD0, 0xD9)}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Neither lossless nor hierarchical.
_DCT_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_PROGRESSIVE_FRAMES = {0xC2, 0xC6, 0xCA, 0xCE}
_JFIF_SEGMENT = b"\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
_ICC = b"ICC_PROFILE\0"

_MAX_BOXES = 10_000
# An item's name box up to its type, in versions 2 and 3.
_METADATA_ITEM = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))(?:Exif|mime)", re.DOTALL)

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PNG_CHUNKS = 200_000
_GREY, _RGB, _INDEXED = 0, 2, 3
# Unpacks to at most 16 MiB.
_ZLIB_BLOCK = 1 << 14


@dataclass(frozen=True, slots=True)
class Parts:
    """A file of the picture alone, and its ICC profile; `orientation` is that of AVIF's boxes.

    `key` is the transparent colour of a PNG of 16 bits, which Pillow cannot apply. A PNG
    `is_suspect` if a checksum of its pixels is wrong. `frame` is where a GIF's first picture lies in
    its canvas: x, y, and the canvas's width and height.
    """

    picture: bytes
    icc: bytes | None = None
    orientation: int | None = None
    key: tuple[int, ...] | None = None
    is_suspect: bool = False
    frame: tuple[int, int, int, int] | None = None


def jpeg_parts(data: bytes) -> Parts:
    """The segments that libjpeg needs."""
    kept = [b"\xff\xd8"]
    profile: list[bytes] = []
    for marker, start, end in jpeg_segments(data):
        if marker == _SOS:
            picture = b"".join((*kept, memoryview(data)[start - 4 :]))
            return Parts(picture, _joined_profile(profile))
        body = data[start:end]
        if marker == _APP0 and body.startswith(b"JFIF\0") and len(body) >= 14:
            kept.append(_JFIF_SEGMENT)
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            kept.append(b"\xff\xee\0\x0e" + body[:12])
        elif marker == 0xE2 and body.startswith(_ICC):
            profile.append(body[len(_ICC) :])
        elif not (_APP0 <= marker <= 0xEF or marker == _COMMENT):
            if marker in _FRAMES:
                _check_frame(marker, body)
            kept.append(data[start - 4 : end])
    raise DecodeError("its JPEG data is damaged or cut short: no pixels follow the header")


def _check_frame(marker: int, body: bytes) -> None:
    """Refuse the forms of JPEG that Pillow takes for damaged."""
    bits, components = (body[0], body[5]) if len(body) > 5 else (8, 1)
    if marker not in _DCT_FRAMES:
        raise DecodeError("lossless JPEG is not supported")
    if bits != 8:
        raise DecodeError(f"JPEG of {bits} bits is not supported")
    if components not in {1, 3, 4}:
        raise DecodeError(f"JPEG of {components} components is not supported")


def jpeg_segments(data: bytes) -> list[tuple[int, int, int]]:
    """Marker, start and end of each segment's body, up to the first scan, which has no end."""
    segments: list[tuple[int, int, int]] = []
    position = 2
    while len(segments) < _MAX_JPEG_SEGMENTS and (match := _JPEG_MARKER.search(data, position)):
        position = match.end()
        marker = data[position - 1]
        if marker in _BARE_MARKERS:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if marker == _EOI or length < 2:
            break
        segments.append((marker, position + 2, position + length))
        if marker == _SOS:
            break
        position += length
    return segments


def _joined_profile(pieces: list[bytes]) -> bytes | None:
    """The ICC profile of numbered pieces; None if any is missing."""
    numbered = {piece[0]: piece[2:] for piece in reversed(pieces) if piece}
    if sorted(numbered) != list(range(1, len(numbered) + 1)):
        return None
    return b"".join(numbered[number] for number in sorted(numbered)) or None


def without_end_marker(picture: bytes) -> bytes | None:
    """A JPEG file up to its last byte of pixels; None if scans that it announces are missing.

    Zeros after the pixels are dropped: restored and partly downloaded files are filled with them.
    """
    body = picture.rstrip(b"\0")
    if body.endswith(b"\xff") and len(body) < len(picture):
        body += b"\0"  # an escaped 255
    body = body.removesuffix(b"\xff")
    return body if _has_all_scans(body) else None


def _has_all_scans(data: bytes) -> bool:
    """Whether the scans cover each component's 64 coefficients down to the lowest bit."""
    missing_bits: dict[int, list[int]] = {}
    components, is_progressive, position = 0, False, 2
    while match := _JPEG_MARKER.search(data, position):
        position = match.end()
        marker = data[position - 1]
        if marker in _BARE_MARKERS:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        body = data[position + 2 : position + length]
        position += length
        if marker in _FRAMES and len(body) > 5:
            components, is_progressive = body[5], marker in _PROGRESSIVE_FRAMES
        elif marker == _SOS and body and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[2 * body[0] + 1 :][:3]
            scanned = slice(first, last + 1) if is_progressive else slice(None)
            for component in body[1 : 1 + 2 * body[0] : 2]:
                missing = missing_bits.setdefault(component, [16] * 64)
                missing[scanned] = [bits & 15 if is_progressive else 0] * len(missing[scanned])
    return len(missing_bits) == components > 0 and not any(map(any, missing_bits.values()))


def png_parts(data: bytes) -> Parts:
    """The critical chunks and tRNS (PNG 3, section 11), and the ICC profile.

    The profile's own checksum decides, not that of its chunk.
    """
    header = palette = transparency = profile = b""
    pixels: list[memoryview] = []
    is_suspect = False
    for kind, start, end in png_chunks(data):
        if not header and kind == b"CgBI":
            raise DecodeError("PNG in Apple's own form (CgBI) is not supported")
        if not header and kind != b"IHDR":
            break
        if kind == b"IDAT":
            pixels.append(memoryview(data)[start:end])
            checksum = data[end : end + 4]
            is_suspect |= len(checksum) == 4 and checksum != _png_checksum(kind, pixels[-1])
        elif kind in {b"IHDR", b"PLTE"}:
            body = data[start:end]
            if data[end : end + 4] != _png_checksum(kind, body):
                raise DecodeError(f"its PNG header is damaged: wrong checksum of {kind.decode()}")
            if kind == b"IHDR":
                header = header or body
            else:
                palette = palette or body
        elif kind == b"tRNS":
            transparency = transparency or data[start:end]
        elif kind == b"iCCP":
            profile = profile or data[start:end]
    depth, colour = (header[8], header[9]) if len(header) == 13 else (0, 0)
    is_indexed = colour == _INDEXED
    if not depth or not pixels or (is_indexed and not palette):
        raise DecodeError("its PNG header is damaged")
    transparency, key = _png_transparency(transparency, depth, colour, len(palette) // 3)
    chunks = [(b"IHDR", header), (b"PLTE", palette if is_indexed else b""), (b"tRNS", transparency)]
    written = [_png_chunk(kind, body) for kind, body in chunks if body]
    # Pillow does not read the checksum of pixels; zlib has its own.
    size = struct.pack(">I4s", sum(map(len, pixels)), b"IDAT")
    picture = b"".join(
        (_PNG_SIGNATURE, *written, size, *pixels, bytes(4), _png_chunk(b"IEND", b""))
    )
    return Parts(picture, _png_profile(profile), key=key, is_suspect=is_suspect)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk's body before IEND; the last one may be cut short."""
    position = len(_PNG_SIGNATURE)
    for _ in range(_MAX_PNG_CHUNKS):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if len(kind) < 4 or kind == b"IEND":
            return
        yield kind, position + 8, min(position + 8 + length, len(data))
        position += 12 + length


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + _png_checksum(kind, body)


def _png_checksum(kind: bytes, body: bytes | memoryview) -> bytes:
    return struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def has_sound_pixels(png: bytes, width: int, height: int) -> bool:
    """Whether zlib's own checksum holds for the pixels of a PNG file from `png_parts`."""
    start, end = next((s, e) for kind, s, e in png_chunks(png) if kind == b"IDAT")
    stream = zlib.decompressobj()
    # Twice the bytes of 16-bit RGBA and the filters, against endless streams.
    left = 2 * height * (8 * width + 9)
    try:
        for position in range(start, end, _ZLIB_BLOCK):
            block = png[position : min(position + _ZLIB_BLOCK, end)]
            left -= len(stream.decompress(block))
            if stream.eof or left < 0:
                break
    except zlib.error:
        return False
    return stream.eof


def _png_transparency(
    body: bytes, depth: int, colour: int, entries: int
) -> tuple[bytes, tuple[int, ...] | None]:
    """tRNS as Pillow takes it, and the key colour of 16-bit images, which Pillow cannot apply."""
    if colour == _INDEXED:
        return body[:entries], None
    samples = {_GREY: 1, _RGB: 3}.get(colour)
    if samples is None or len(body) < 2 * samples:
        return b"", None
    key = struct.unpack_from(f">{samples}H", body)
    if depth == 16:
        return b"", key
    # Pillow scales grey to 8 bits but not its key, except for 1 bit.
    scale = {2: 85, 4: 17}.get(depth, 1)
    return struct.pack(f">{samples}H", *((v & (1 << depth) - 1) * scale for v in key)), None


def _png_profile(body: bytes) -> bytes | None:
    """The ICC profile of an iCCP chunk; None if it is damaged or too large."""
    _, end, rest = body.partition(b"\0")
    return inflated(rest[1:], MAX_PROFILE_BYTES) if end and rest[:1] == b"\0" else None


def inflated(data: bytes, limit: int) -> bytes | None:
    """Decompress zlib data; None if it is damaged, cut short or larger than `limit` bytes."""
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, limit + 1)
    except zlib.error:
        return None
    return text if stream.eof and len(text) <= limit else None


def webp_parts(data: bytes) -> Parts:
    """The first picture of a WebP file (RFC 9649), which must be complete."""
    profile = None
    canvas, alpha, frame = b"", b"", b""
    for kind, start, end, is_whole in riff_chunks(data):
        if kind == b"VP8X" and not canvas:
            canvas = data[start:end]
        elif kind == b"ALPH" and not frame:
            alpha = alpha or _riff_chunk(kind, data[start:end])
        elif kind in {b"VP8 ", b"VP8L", b"ANMF"} and not frame:
            if not is_whole:
                raise DecodeError("its WEBP data is damaged or cut short: pixels are missing")
            frame = _riff_chunk(kind, memoryview(data)[start:end])
        elif kind == b"ICCP" and is_whole and profile is None:
            profile = data[start:end]
    if not frame:
        raise DecodeError("its WEBP data is damaged or cut short: it has no picture")
    body = alpha + frame
    if len(canvas) >= 10:
        is_animated = frame.startswith(b"ANMF")
        # Flags for an animation and for transparency; the others announce metadata.
        flags = bytes([(canvas[0] & 0x10) | (2 if is_animated else 0)])
        animation = _riff_chunk(b"ANIM", bytes(6)) if is_animated else b""
        body = _riff_chunk(b"VP8X", flags + bytes(3) + canvas[4:10]) + animation + body
    picture = b"".join((b"RIFF", struct.pack("<I", 4 + len(body)), b"WEBP", body))
    return Parts(picture, profile)


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int, bool]]:
    """Kind, start and end of each chunk's body, and whether all of it is there."""
    position = 12
    while position + 8 <= len(data):
        kind = data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        start, end = position + 8, position + 8 + length
        yield kind, start, min(end, len(data)), end <= len(data)
        position = end + length % 2


def _riff_chunk(kind: bytes, body: bytes | memoryview) -> bytes:
    return b"".join((kind, struct.pack("<I", len(body)), body, bytes(len(body) % 2)))


def gif_parts(data: bytes) -> Parts:
    """The first picture of a GIF file (GIF89a), at the origin of a canvas of its own size."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _gif_colours(flags)
    colours = data[13:position]
    control = b""
    while position < len(data):
        introducer, position = data[position], position + 1
        if introducer == 0x21:
            label, start = data[position : position + 1], position + 1
            position = _after_sub_blocks(data, start)
            if label == b"\xf9" and data[start : start + 1] >= b"\x04":
                control = b"\x21\xf9\x04" + data[start + 1 : start + 5] + b"\0"
        elif introducer == 0x2C:
            break
        elif introducer == 0x3B:
            raise DecodeError("its GIF data is damaged or cut short: it has no picture")
    if position + 9 > len(data):
        raise DecodeError("its GIF data is damaged or cut short: it has no picture")
    left, top, wide, high, frame_flags = struct.unpack_from("<HHHHB", data, position)
    pixels = position + 9 + _gif_colours(frame_flags)
    end = _after_sub_blocks(data, pixels + 1)
    screen = struct.pack("<6sHHBBB", b"GIF89a", wide, high, flags, 0, 0)
    descriptor = struct.pack("<BHHHHB", 0x2C, 0, 0, wide, high, frame_flags)
    rest = memoryview(data)[position + 9 : end]
    picture = b"".join((screen, colours, control, descriptor, rest, b"\0\x3b"))
    return Parts(picture, frame=(left, top, max(width, left + wide), max(height, top + high)))


def _gif_colours(flags: int) -> int:
    """The bytes of a colour table that the flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_sub_blocks(data: bytes, position: int) -> int:
    """The position after a chain of sub-blocks and its terminator."""
    while position < len(data) and data[position]:
        position += 1 + data[position]
    return min(position + 1, len(data))


def iso_boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of the body of each box in an ISO base media file (ISO 14496-12), up to
    the first damaged one; the last one may be cut short."""
    position = 0
    for _ in range(_MAX_BOXES):
        size, kind = (
            int.from_bytes(data[position : position + 4]),
            data[position + 4 : position + 8],
        )
        header = 8
        if size == 1:
            header, size = 16, int.from_bytes(data[position + 8 : position + 16], "big")
        elif size == 0:
            size = len(data) - position
        if len(kind) < 4 or size < header:
            return
        yield kind, position + header, min(position + size, len(data))
        position += size


def without_metadata_items(data: bytes) -> bytes:
    """An ISO base media file in which no item is declared to be EXIF or XMP (ISO 23008-12)."""
    return _METADATA_ITEM.sub(rb"\1free", data)
