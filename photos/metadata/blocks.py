"""Finds the metadata blocks of a photograph in its file.

Blocks are also found where programs put them against a standard's word. Damaged files never raise.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TypeGuard

from regard.photos.containers import (
    inflated,
    iso_boxes,
    jpeg_segments,
    png_chunks,
    riff_chunks,
)
from regard.photos.formats import PhotoFormat
from regard.photos.metadata.heif import heif_items
from regard.photos.metadata.texts import decode_text
from regard.photos.tiff import TiffBlock

MAX_METADATA_BYTES = 8 << 20

_EXIF_HEADER = re.compile(rb".{0,4}Exif\0.", re.DOTALL | re.IGNORECASE)
_TIFF_STARTS = (b"II", b"MM")
_XMP_HEADER = re.compile(rb"(?:http|XMP\0):+//ns\.adobe\.com/xap/1\.0/\0?")
_XMP_STARTS = (b"<?xpacket", b"<x:xmpmeta", b"<x:xapmeta", b"<rdf:RDF")
_MAX_PACKETS = 8
_EXTENSION_HEADER = b"http://ns.adobe.com/xmp/extension/\0"
_EXTENSION_NAME = re.compile(rb"HasExtendedXMP\W{1,20}([0-9A-Fa-f]{32})")
_PHOTOSHOP_HEADER = b"Photoshop 3.0\0"
# Almost as much as a segment can hold.
_FULL_SEGMENT = 65_000

_RESOURCE = re.compile(rb"8BIM|MeSa|AgHg|PHUT|DCSR")
_IPTC_RESOURCE, _EXIF_RESOURCE, _XMP_RESOURCE, _DIGEST_RESOURCE = 0x0404, 0x0422, 0x0424, 0x0425
_MAX_RESOURCES = 5_000

_PNG_XMP = "xml:com.adobe.xmp"
_PNG_TEXTS = {"title", "description", "creation time"}
_RAW_PROFILES = {f"raw profile type {name}" for name in ("exif", "app1", "xmp", "iptc", "8bim")}
# A name, the number of bytes, and the bytes in hexadecimal.
_RAW_PROFILE_TEXT = re.compile(rb"\s{0,9}[^\n]{0,80}\n\s{0,20}(\d{1,9})\s+([0-9a-fA-F\s]*)")

_GIF_XMP, _GIF_XMP_END = b"\x21\xff\x0bXMP DataXMP", b"\x01\xff\xfe\xfd\xfc"

_TIFF_XMP, _TIFF_IPTC, _TIFF_PHOTOSHOP = 700, 33723, 34377
_IIM_MARK = b"\x1c"


@dataclass(frozen=True, slots=True)
class MetadataBlocks:
    """The metadata blocks of a photograph, unparsed: EXIF, XMP packets, an IPTC IIM data set.

    The first XMP packet counts, later ones complete it. `iptc_digest` is the MD5 of the data set
    that the XMP was last made equal to. `texts` are those of PNG, by their keywords in lower case.
    """

    exif: TiffBlock | None = None
    xmp: tuple[bytes, ...] = ()
    iptc: bytes | None = None
    iptc_digest: bytes | None = None
    texts: tuple[tuple[str, str], ...] = ()

    @property
    def is_iptc_newer(self) -> bool:
        """Whether the IPTC data set was changed by a program that left the XMP alone."""
        if self.iptc is None or self.iptc_digest is None:
            return False
        return hashlib.md5(self.iptc, usedforsecurity=False).digest() != self.iptc_digest

    def or_else(self, other: MetadataBlocks) -> MetadataBlocks:
        """These blocks, completed from others."""
        return MetadataBlocks(
            self.exif or other.exif,
            self.xmp or other.xmp,
            self.iptc or other.iptc,
            self.iptc_digest or other.iptc_digest,
            self.texts or other.texts,
        )


def file_metadata(data: bytes, kind: PhotoFormat, block: TiffBlock | None) -> MetadataBlocks:
    """The metadata blocks of a file; `block` is the structure of a TIFF file."""
    if block is not None:
        return _tiff_metadata(block)
    readers = {
        PhotoFormat.JPEG: _jpeg_metadata,
        PhotoFormat.PNG: _png_metadata,
        PhotoFormat.WEBP: _webp_metadata,
        PhotoFormat.GIF: _gif_metadata,
        PhotoFormat.HEIF: _heif_metadata,
        PhotoFormat.AVIF: _heif_metadata,
        PhotoFormat.JXL: _jpegxl_metadata,
    }
    return readers[kind](data) if kind in readers else MetadataBlocks()


def _blocks(exif: bytes | None, xmp: bytes | None) -> MetadataBlocks:
    """Blocks from the parts of a file that are only for them."""
    blocks = _recognise(exif) if _is_small(exif) else MetadataBlocks()
    return replace(blocks, xmp=(xmp,)) if _is_small(xmp) else blocks


def _is_small(data: bytes | None) -> TypeGuard[bytes]:
    return data is not None and 0 < len(data) <= MAX_METADATA_BYTES


def _recognise(data: bytes) -> MetadataBlocks:
    """The blocks in bytes that are EXIF, XMP, Photoshop resources or IPTC, with or without header.

    `Exif\\0\\0` may be missing or repeated.
    """
    while header := _EXIF_HEADER.match(data):
        data = data[header.end() :]
    if data.startswith(_TIFF_STARTS):
        return MetadataBlocks(TiffBlock.open(data))
    header = _XMP_HEADER.match(data)
    if header or data.lstrip().startswith(_XMP_STARTS):
        return MetadataBlocks(xmp=(data[header.end() if header else 0 :],))
    data = data.removeprefix(_PHOTOSHOP_HEADER)
    if _RESOURCE.match(data):
        return _photoshop_metadata(data)
    return MetadataBlocks(iptc=data) if data.startswith(_IIM_MARK) else MetadataBlocks()


def _photoshop_metadata(data: bytes) -> MetadataBlocks:
    """The blocks in Photoshop's image resources."""
    found = dict[int, bytes]()
    position = 0
    for _ in range(_MAX_RESOURCES):
        # Some programs pad resources.
        signature = _RESOURCE.search(data, position)
        if signature is None or len(data) < signature.end() + 8:
            break
        kind = int.from_bytes(data[signature.end() : signature.end() + 2], "big")
        # The name's length byte and its text have an even length together.
        start = signature.end() + 2 + (data[signature.end() + 2] // 2 + 1) * 2
        length = int.from_bytes(data[start : start + 4], "big")
        found.setdefault(kind, data[start + 4 : start + 4 + length])
        position = start + 4 + length
    exif, xmp = found.get(_EXIF_RESOURCE), found.get(_XMP_RESOURCE)
    return MetadataBlocks(
        TiffBlock.open(exif) if exif else None,
        (xmp,) if xmp else (),
        found.get(_IPTC_RESOURCE),
        found.get(_DIGEST_RESOURCE),
    )


def _jpeg_metadata(data: bytes) -> MetadataBlocks:
    exif, photoshop = bytearray(), bytearray()
    packets: list[bytes] = []
    extensions: list[bytes] = []
    is_continued = False
    for marker, start, end in jpeg_segments(data):
        body = data[start:end] if marker in {0xE1, 0xED} else b""
        if marker == 0xED and body.startswith(_PHOTOSHOP_HEADER):
            photoshop += body[len(_PHOTOSHOP_HEADER) :]
        elif marker == 0xE1 and (header := _EXIF_HEADER.match(body)):
            # A long block goes on in further segments; other blocks after the first are copies.
            part = body[header.end() :]
            if not exif or (is_continued and not part.startswith(_TIFF_STARTS)):
                exif += part
                is_continued = len(body) >= _FULL_SEGMENT
        elif marker == 0xE1 and body.startswith(_EXTENSION_HEADER):
            extensions.append(body[len(_EXTENSION_HEADER) :])
        elif marker == 0xE1 and len(packets) < _MAX_PACKETS:
            packets += _recognise(body).xmp
    extension = _extension(b"".join(packets), extensions)
    blocks = MetadataBlocks(
        TiffBlock.open(bytes(exif)) if exif else None,
        tuple(filter(None, (*packets[:1], extension, *packets[1:]))),
    )
    return blocks.or_else(_photoshop_metadata(bytes(photoshop)))


def _extension(packet: bytes, parts: list[bytes]) -> bytes:
    """The extension of an XMP packet, from parts of 32 digits, total size, offset and text.

    The packet has the digits too; empty if it has no extension.
    """
    digits = _EXTENSION_NAME.search(packet)
    named = [part for part in parts if digits and part[:32] == digits[1] and len(part) > 40]
    if not named:
        return b""
    size = int.from_bytes(named[0][32:36], "big")
    whole = bytearray(min(size, MAX_METADATA_BYTES))
    for part in named:
        offset, text = int.from_bytes(part[36:40], "big"), part[40:]
        if offset + len(text) <= len(whole):
            whole[offset : offset + len(text)] = text
    return bytes(whole)


def _png_metadata(data: bytes) -> MetadataBlocks:
    """The blocks of a PNG file (PNG 3, section 11), even if they follow the pixels.

    Programs older than the chunk `eXIf` write blocks as hexadecimal text.
    """
    chunks, profiles = MetadataBlocks(), MetadataBlocks()
    seen = set[str]()
    texts: list[tuple[str, str]] = []
    for kind, start, end in png_chunks(data):
        if end - start > MAX_METADATA_BYTES:
            continue
        if kind == b"eXIf":
            chunks = chunks.or_else(_recognise(data[start:end]))
        elif kind in {b"tEXt", b"zTXt", b"iTXt"}:
            keyword, _, body = data[start:end].partition(b"\0")
            name = keyword[:80].decode("latin-1").lower()
            if name in seen:
                continue  # or many would cost much to decompress
            seen.add(name)
            if name in _PNG_TEXTS:
                texts.append((name, decode_text(_png_text(kind, body))))
            elif name == _PNG_XMP:
                text = _png_text(kind, body)
                chunks = chunks.or_else(MetadataBlocks(xmp=(text,) if text else ()))
            elif name in _RAW_PROFILES:
                profiles = profiles.or_else(_raw_profile(_png_text(kind, body)))
    return replace(chunks.or_else(profiles), texts=tuple(texts))


def _png_text(kind: bytes, body: bytes) -> bytes:
    """The text after the keyword of a chunk; empty if it is damaged."""
    if kind == b"iTXt":
        # Compression flag and method, language, translated keyword.
        is_compressed = body[:1] == b"\1"
        parts = body[2:].split(b"\0", 2)
        body = parts[2] if len(parts) == 3 else b""
    else:
        is_compressed = kind == b"zTXt"
        body = body[1:] if is_compressed else body
    if not is_compressed:
        return body
    return inflated(body, 3 * MAX_METADATA_BYTES) or b""


def _raw_profile(text: bytes) -> MetadataBlocks:
    matched = _RAW_PROFILE_TEXT.match(text)
    if matched is None:
        return MetadataBlocks()
    digits = b"".join(matched[2].split())
    data = bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    return _recognise(data[: int(matched[1])])


def _webp_metadata(data: bytes) -> MetadataBlocks:
    """The blocks of a WebP file (RFC 9649), even if its header does not announce them."""
    blocks = MetadataBlocks()
    for kind, start, end, _ in riff_chunks(data):
        if kind == b"EXIF":
            blocks = blocks.or_else(_blocks(data[start:end], None))
        elif kind in {b"XMP ", b"XMP\0"}:
            blocks = blocks.or_else(_blocks(None, data[start:end]))
    return blocks


def _gif_metadata(data: bytes) -> MetadataBlocks:
    """The XMP packet of a GIF file, an application extension with a trailer (XMP part 3, 1.1.2)."""
    start = data.find(_GIF_XMP)
    end = data.find(_GIF_XMP_END, start)
    if start < 0 or end < 0:
        return MetadataBlocks()
    return _blocks(None, data[start + len(_GIF_XMP) : end])


def _heif_metadata(data: bytes) -> MetadataBlocks:
    return _blocks(*heif_items(data, MAX_METADATA_BYTES))


def _jpegxl_metadata(data: bytes) -> MetadataBlocks:
    """The blocks in the boxes of a JPEG XL file (ISO/IEC 18181-2), which may be compressed."""
    found = dict[bytes, bytes]()
    for box, start, end in iso_boxes(data):
        is_compressed = box == b"brob"
        kind = data[start : start + 4] if is_compressed else box
        if kind in {b"Exif", b"xml "} and kind not in found and end - start <= MAX_METADATA_BYTES:
            body = data[start:end]
            found[kind] = _unpacked_brotli(body[4:]) if is_compressed else body
    exif = found.get(b"Exif", b"")
    # Four bytes tell how many more precede the block.
    return _blocks(exif[4 + int.from_bytes(exif[:4], "big") :], found.get(b"xml "))


def _unpacked_brotli(data: bytes) -> bytes:
    """Decompress Brotli data; empty if it is damaged or unpacks to too much."""
    import imagecodecs

    try:
        return bytes(imagecodecs.brotli_decode(data, out=MAX_METADATA_BYTES))
    except (RuntimeError, ValueError):
        return b""


def _tiff_metadata(block: TiffBlock) -> MetadataBlocks:
    main = block.first
    xmp, iptc, photoshop = (
        block.raw(main, tag, MAX_METADATA_BYTES) for tag in (_TIFF_XMP, _TIFF_IPTC, _TIFF_PHOTOSHOP)
    )
    if iptc[3:4] == _IIM_MARK != iptc[:1]:
        # Some programs swap the bytes of a field that was declared as long integers.
        iptc = b"".join(iptc[i : i + 4][::-1] for i in range(0, len(iptc), 4))
    blocks = MetadataBlocks(block, (xmp,) if xmp else (), iptc or None)
    return blocks.or_else(_photoshop_metadata(photoshop))
