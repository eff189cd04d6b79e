"""Tells a photograph's format from its bytes, never from its name.

What is not listed here is never handed to a decoder: Pillow alone would also open PostScript, fonts
and dozens of formats that no camera writes.
"""

from __future__ import annotations

import re
from enum import StrEnum

from regard.photos.tiff import SUB_DIRECTORIES, TiffBlock

# Enough of a file's start to tell every format but TIFF from RAW, which may need all of it.
SNIFF_BYTES = 64


class PhotoFormat(StrEnum):
    """The formats that are decoded."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WEBP"
    GIF = "GIF"
    BMP = "BMP"
    TIFF = "TIFF"
    HEIF = "HEIF"
    AVIF = "AVIF"
    RAW = "RAW"


# How names of files in these formats end: those that are looked at in folders.
PHOTO_SUFFIXES = frozenset(
    b".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .dib .tif .tiff .heic .heif .hif .avif "
    b".dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .raf .orf .rw2 .pef .srw .3fr .iiq .erf .mrw "
    b".x3f .kdc .dcr".split()
)
_HEIF_BRANDS = {
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    *(b"mif1", b"msf1"),
}
_AVIF_BRANDS = {b"avif", b"avis"}

# Fujifilm RAF, Sigma X3F, Minolta MRW, Canon CRW; then Olympus and Panasonic, which vary TIFF's magic.
_RAW_STARTS = (
    *(b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR"),
    *(b"IIRO", b"IIRS", b"MMOR", b"IIU\0"),
)
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# TIFF fields and values that only RAW files have (TIFF/EP, DNG 1.7, and the makers' own).
_SUBFILE_COMPRESSION, _SUBFILE_PHOTOMETRIC, _DNG_VERSION = 259, 262, 50706
_SENSOR_PHOTOMETRICS = {32803, 34892}
_SENSOR_COMPRESSIONS = {32767, 32769, 32770, 34713, 65000, 65535}

_JPEG_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")


def sniff(data: bytes) -> PhotoFormat | None:
    """The format that `data` starts like, or None; RAW is told from TIFF by its directories."""
    if data.startswith(_TIFF_STARTS):
        return PhotoFormat.RAW if _is_raw_tiff(data) else PhotoFormat.TIFF
    return sniff_start(data[:SNIFF_BYTES])


def sniff_start(head: bytes) -> PhotoFormat | None:
    """The format by the first `SNIFF_BYTES` alone; TIFF-like RAW files count as TIFF."""
    found = None
    if head.startswith(b"\xff\xd8\xff"):
        found = PhotoFormat.JPEG
    elif head.startswith(b"\x89PNG\r\n\x1a\n"):
        found = PhotoFormat.PNG
    elif head.startswith((b"GIF87a", b"GIF89a")):
        found = PhotoFormat.GIF
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        found = PhotoFormat.WEBP
    elif head[4:8] == b"ftyp":
        found = _sniff_brands(head)
    elif head.startswith(_TIFF_STARTS):
        found = PhotoFormat.TIFF
    elif head.startswith(_RAW_STARTS):
        found = PhotoFormat.RAW
    elif head.startswith(b"BM") and len(head) >= 18 and head[6:10] == bytes(4):
        # "BM" alone starts plain text too; the reserved fields of a bitmap are zero.
        found = PhotoFormat.BMP
    return found


def _sniff_brands(head: bytes) -> PhotoFormat | None:
    """The format of an ISO base media file by its major and compatible brands."""
    length = int.from_bytes(head[:4], "big")
    major = head[8:12]
    compatible = {head[i : i + 4] for i in range(16, min(length, len(head)), 4)}
    if major == b"crx ":
        return PhotoFormat.RAW
    if major in _AVIF_BRANDS or (major in {b"mif1", b"msf1"} and compatible & _AVIF_BRANDS):
        return PhotoFormat.AVIF
    return PhotoFormat.HEIF if major in _HEIF_BRANDS else None


def _is_raw_tiff(data: bytes) -> bool:
    """Whether a TIFF holds sensor data somewhere, or calls itself a digital negative."""
    if data[8:10] == b"CR":
        return True
    block = TiffBlock.open(data)
    if block is None:
        return False
    for directory in block.directories():
        if _DNG_VERSION in directory:
            return True
        for image in (directory, *block.below(directory, SUB_DIRECTORIES)):
            if (
                block.integer(image, _SUBFILE_PHOTOMETRIC) in _SENSOR_PHOTOMETRICS
                or block.integer(image, _SUBFILE_COMPRESSION) in _SENSOR_COMPRESSIONS
            ):
                return True
    return False


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a WebP file declares, before any of it is decoded (RFC 9649)."""
    chunk, body = data[12:16], data[20:30]
    if chunk == b"VP8X" and len(body) == 10:
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if chunk == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 " and len(body) == 10:
        width, height = body[6:8], body[8:10]
        return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF
    return None


def has_more_jpeg_scans(data: bytes, limit: int) -> bool:
    """Whether the first image of a JPEG file has more than `limit` scans.

    A small progressive file may hold thousands, each of which costs a pass over all pixels.
    """
    # The bytes of the marker are seldom there by chance, so as a rule this settles it.
    if data.count(b"\xff\xda") <= limit:
        return False
    position, scans = 2, 0
    while scans <= limit:
        found = _JPEG_MARKER.search(data, position)
        if found is None:
            return False
        marker = data[found.end() - 1]
        if marker == 0xD9:
            return False
        scans += marker == 0xDA
        length = (
            0 if marker in {0x01, 0xD8} else int.from_bytes(data[found.end() : found.end() + 2])
        )
        position = found.end() + length
    return True
