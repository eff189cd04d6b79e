"""Metadata of PNG files, read without decoding pixels, since it may follow them (PNG 3, section 11)."""

from __future__ import annotations

import zlib

_MAX_CHUNKS = 200_000
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"


def png_metadata(data: bytes, limit: int) -> tuple[bytes | None, bytes | None]:
    """EXIF block and XMP packet, None where absent, damaged or of more than `limit` bytes."""
    exif, xmp = None, None
    position = 8
    for _ in range(_MAX_CHUNKS):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if len(kind) < 4 or kind == b"IEND":
            break
        start, end = position + 8, position + 8 + length
        if kind == b"eXIf" and length <= limit:
            exif = data[start:end]
        elif kind == b"iTXt" and length <= limit and data.startswith(_XMP_KEYWORD, start):
            xmp = _international_text(data[start + len(_XMP_KEYWORD) : end], limit)
        position = end + 4
    return exif, xmp


def _international_text(body: bytes, limit: int) -> bytes | None:
    """The text after compression flag and method, language and translated keyword."""
    parts = body[2:].split(b"\0", 2)
    if len(parts) < 3:
        return None
    if body[:1] == b"\0":
        return parts[2]
    try:
        return zlib.decompressobj().decompress(parts[2], limit)
    except zlib.error:
        return None
