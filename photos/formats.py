"""Recognises image formats by their bytes, never trusting file names.

Only the formats listed here reach a decoder: Pillow alone would also open PostScript, fonts and
dozens of formats that no camera writes.
"""

from __future__ import annotations

import re
from enum import StrEnum

from regard.photos.tiff import SUB_DIRECTORIES, TiffBlock

# Enough bytes to recognise every format, except that TIFF and RAW need the directories.
SNIFF_BYTES = 64
# Of a video; a setting may say otherwise. Settings import no module of pixels.
MOMENTS_A_MINUTE = 20


class PhotoFormat(StrEnum):
    """The formats that can be decoded."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WEBP"
    GIF = "GIF"
    BMP = "BMP"
    TIFF = "TIFF"
    HEIF = "HEIF"
    AVIF = "AVIF"
    JXL = "JXL"
    RAW = "RAW"


class VideoFormat(StrEnum):
    """The containers of video that can be read, with the package `av`."""

    MP4 = "MP4"
    MOV = "MOV"
    MKV = "MKV"
    WEBM = "WEBM"
    AVI = "AVI"


# Suffixes of files that are taken for photographs without a look inside.
PHOTO_SUFFIXES = frozenset(
    b".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .dib .tif .tiff .heic .heif .hif .avif .jxl "
    b".dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .raf .orf .rw2 .pef .srw .3fr .iiq .erf .mrw "
    b".x3f .kdc .dcr".split()
)
# Videos are known by their names alone: audio comes in the same containers.
VIDEO_SUFFIXES = frozenset(b".mp4 .m4v .mov .qt .3gp .3g2 .mkv .webm .avi".split())
_HEIF_BRANDS = {
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    *(b"mif1", b"msf1"),
}
_AVIF_BRANDS = {b"avif", b"avis"}
# QuickTime files from before there were brands begin with one of these boxes.
_MOV_BOXES = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}

# Fujifilm RAF, Sigma X3F, Minolta MRW, Canon CRW; Olympus and Panasonic, which vary TIFF's magic.
_RAW_STARTS = (
    *(b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR"),
    *(b"IIRO", b"IIRS", b"MMOR", b"IIU\0"),
)
# A bare codestream and a container (ISO/IEC 18181-2).
_JPEGXL_STARTS = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# TIFF fields and values that only RAW files have (TIFF/EP, DNG 1.7 and vendor extensions).
_COMPRESSION, _PHOTOMETRIC, _DNG_VERSION = 259, 262, 50706
_SENSOR_PHOTOMETRICS = {32803, 34892}
_SENSOR_COMPRESSIONS = {32767, 32769, 32770, 34713, 65000, 65535}

_JPEG_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
_BITMAP_HEADERS = range(12, 125)
_AV1_CONFIGURATION = re.compile(rb"av1C\x81.(.)", re.DOTALL)


def sniff(head: bytes) -> PhotoFormat | None:
    """The format by the first `SNIFF_BYTES`, or None; TIFF-like RAW files count as TIFF."""
    kind = None
    if head.startswith(b"\xff\xd8\xff"):
        kind = PhotoFormat.JPEG
    elif head.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = PhotoFormat.PNG
    elif head.startswith((b"GIF87a", b"GIF89a")):
        kind = PhotoFormat.GIF
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        kind = PhotoFormat.WEBP
    elif head[4:8] == b"ftyp":
        kind = _sniff_brands(head)
    elif head.startswith(_JPEGXL_STARTS):
        kind = PhotoFormat.JXL
    elif head.startswith(_TIFF_STARTS):
        kind = PhotoFormat.TIFF
    elif head.startswith(_RAW_STARTS):
        kind = PhotoFormat.RAW
    elif head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS:
        # Plain text can start with "BM", but not with a small number there.
        kind = PhotoFormat.BMP
    return kind


def sniff_video(head: bytes) -> VideoFormat | None:
    """The container of video by the first `SNIFF_BYTES`, or None."""
    if head.startswith(b"\x1aE\xdf\xa3"):
        return VideoFormat.WEBM if b"webm" in head else VideoFormat.MKV
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return VideoFormat.AVI
    if head[4:8] == b"ftyp" and sniff(head) is None:
        return VideoFormat.MOV if head[8:12] == b"qt  " else VideoFormat.MP4
    return VideoFormat.MOV if head[4:8] in _MOV_BOXES else None


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


def is_raw_tiff(data: bytes, block: TiffBlock) -> bool:
    """Whether a TIFF file contains sensor data or declares itself a digital negative."""
    if data[8:10] == b"CR":
        return True
    for directory in block.directories:
        if _DNG_VERSION in directory:
            return True
        for image in (directory, *block.below(directory, SUB_DIRECTORIES)):
            if (
                block.integer(image, _PHOTOMETRIC) in _SENSOR_PHOTOMETRICS
                or block.integer(image, _COMPRESSION) in _SENSOR_COMPRESSIONS
            ):
                return True
    return False


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a WebP file declares (RFC 9649), or None."""
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


def avif_bits(data: bytes) -> int:
    """Bits a sample of an AVIF file: 8, 10 or 12 (AV1 in ISOBMFF, section 2.3)."""
    configuration = _AV1_CONFIGURATION.search(data)
    flags = 0 if configuration is None else configuration[1][0]
    return 8 + 2 * bool(flags & 0x40) + 2 * bool(flags & 0x20)


def has_more_jpeg_scans(data: bytes, limit: int) -> bool:
    """Whether the first image of a JPEG file has more than `limit` scans.

    A small progressive file may hold thousands, each of which costs a pass over all pixels.
    """
    # The marker's bytes are rare by chance, so this usually settles it.
    if data.count(b"\xff\xda") <= limit:
        return False
    position, scans = 2, 0
    while scans <= limit:
        match = _JPEG_MARKER.search(data, position)
        if match is None:
            return False
        end = match.end()
        marker = data[end - 1]
        if marker == 0xD9:
            return False
        scans += marker == 0xDA
        has_length = marker not in {0x01, 0xD8}
        position = end + (int.from_bytes(data[end : end + 2], "big") if has_length else 0)
    return True
