"""Where metadata is found in each format of file."""

from __future__ import annotations

import io
import struct
import zlib
from datetime import datetime
from typing import Any

import numpy as np
import piexif
import pytest
import tifffile
from made_metadata import (
    CAMERA,
    alternatives,
    bag,
    iim,
    jpeg,
    packet,
    photoshop_segment,
    resource,
)
from PIL import Image as Pillow

from regard.photos.photo_file import PhotoFile


def png_chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(kind + body).to_bytes(4, "big")
    return len(body).to_bytes(4, "big") + kind + body + checksum


def raw_profile(name: str, data: bytes) -> bytes:
    digits = data.hex()
    lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    return f"\n{name}\n{len(data):8d}\n{lines}\n".encode()


def text_chunk(kind: str, keyword: bytes, text: bytes) -> bytes:
    keyword += b"\0"
    match kind:
        case "tEXt":
            return png_chunk(b"tEXt", keyword + text)
        case "zTXt":
            return png_chunk(b"zTXt", keyword + b"\0" + zlib.compress(text))
        case "iTXt":
            return png_chunk(b"iTXt", keyword + b"\0\0en\0\0" + text)
        case _:
            return png_chunk(b"iTXt", keyword + b"\1\0\0\0" + zlib.compress(text))


TURNED = piexif.dump({"0th": CAMERA["0th"] | {piexif.ImageIFD.Orientation: 6}})
TITLED = packet(alternatives("dc:title", x_default="Title"))
CAPTIONED = iim((2, 5, b"Title"))


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "iTXt compressed"])
@pytest.mark.parametrize(
    ("keyword", "data"),
    [
        ("Raw profile type exif", TURNED),
        ("Raw profile type exif", TURNED[6:]),
        ("Raw profile type APP1", TURNED),
        ("Raw profile type APP1", b"http://ns.adobe.com/xap/1.0/\0" + TITLED),
        ("Raw profile type xmp", TITLED),
        ("Raw profile type iptc", photoshop_segment(CAPTIONED)[4:]),
        ("Raw profile type iptc", photoshop_segment(CAPTIONED)[18:]),
        ("Raw profile type iptc", CAPTIONED),
        ("Raw profile type 8bim", photoshop_segment(CAPTIONED)[18:]),
        ("XML:com.adobe.xmp", TITLED),
    ],
)
def test_metadata_is_found_in_every_text_chunk_of_png(kind: str, keyword: str, data: bytes) -> None:
    buffer = io.BytesIO()
    Pillow.new("RGB", (16, 12)).save(buffer, "PNG")
    whole = buffer.getvalue()
    text = data if keyword.startswith("XML") else raw_profile("generic profile", data)
    chunk = text_chunk(kind, keyword.encode(), text)
    photo = PhotoFile(whole[:33] + chunk + whole[33:])
    if data in {TURNED, TURNED[6:]}:
        assert photo.facts().camera_make == "Acme"
        assert (photo.header.width, photo.header.height) == (12, 16)
    else:
        assert photo.facts().title == "Title"


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "iTXt compressed"])
def test_plain_texts_of_png_are_read_where_there_is_nothing_better(kind: str) -> None:
    buffer = io.BytesIO()
    Pillow.new("RGB", (16, 12)).save(buffer, "PNG")
    whole = buffer.getvalue()
    texts = {b"Title": "Größe", b"Description": "A lake", b"Creation Time": "1 May 2004 12:30"}
    chunks = b"".join(text_chunk(kind, name, text.encode()) for name, text in texts.items())
    facts = PhotoFile(whole[:33] + chunks + whole[33:]).facts()
    assert (facts.title, facts.description) == ("Größe", "A lake")
    assert facts.taken_at == datetime(2004, 5, 1, 12, 30)
    better = text_chunk("iTXt", b"XML:com.adobe.xmp", TITLED)
    facts = PhotoFile(whole[:33] + chunks + better + whole[33:]).facts()
    assert (facts.title, facts.description) == ("Title", "A lake")


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def extension(name: bytes, data: bytes, start: int, end: int) -> bytes:
    head = b"http://ns.adobe.com/xmp/extension/\0" + name
    return segment(
        0xE1, head + len(data).to_bytes(4, "big") + start.to_bytes(4, "big") + data[start:end]
    )


def test_jpeg_segments_are_found_anywhere_and_joined() -> None:
    plain = jpeg()
    xmp_head = b"http://ns.adobe.com/xap/1.0/\0"
    guid = b"0123456789ABCDEF0123456789ABCDEF"
    main = packet("", f'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="{guid.decode()}"')
    more = packet(bag("dc:subject", "far"))
    resources = photoshop_segment(iim((2, 5, b"Title"), (2, 120, b"x" * 400)))[4:]
    after_others = segment(0xE2, b"ICC") + segment(0xED, b"other") + segment(0xE1, b"other")
    facts = PhotoFile(
        plain[:2]
        + after_others
        + segment(0xED, resources[:100])
        + segment(0xED, b"Photoshop 3.0\0" + resources[100:])
        + extension(guid, more, 300, len(more))
        + extension(b"F" * 32, packet(bag("dc:subject", "foreign")), 0, 2_000)
        + segment(0xE1, xmp_head + main)
        + extension(guid, more, 0, 300)
        + segment(0xE1, xmp_head + packet(bag("dc:subject", "late"), 'xmp:Rating="3"'))
        + b"\0\0"
        + segment(0xE1, piexif.dump(CAMERA))
        + segment(0xE1, piexif.dump({"0th": {piexif.ImageIFD.Make: b"Other"}}))
        + plain[2:]
    ).facts()
    assert (facts.title, facts.keywords, facts.camera_make) == ("Title", ("far",), "Acme")
    assert facts.rating == 3


@pytest.mark.parametrize("exif_block", [TURNED, TURNED[6:], b"Exif\0\0" + TURNED])
def test_webp_chunks_are_found_without_flags(exif_block: bytes) -> None:
    buffer = io.BytesIO()
    Pillow.new("RGB", (16, 12)).save(buffer, "WEBP", lossless=True)
    body = buffer.getvalue()[8:]
    for name, data in ((b"EXIF", exif_block), (b"XMP\0", TITLED)):
        body += name + len(data).to_bytes(4, "little") + data + bytes(len(data) % 2)
    facts = PhotoFile(b"RIFF" + len(body).to_bytes(4, "little") + body).facts()
    assert (facts.camera_make, facts.title) == ("Acme", "Title")


def test_gif_and_avif_hand_out_their_blocks_unchanged() -> None:
    buffer = io.BytesIO()
    Pillow.new("P", (16, 12)).save(buffer, "GIF")
    data = buffer.getvalue()
    trailer = b"\1" + bytes(range(255, -1, -1)) + b"\0"
    with_xmp = data[:-1] + b"\x21\xff\x0bXMP DataXMP" + TITLED + trailer + data[-1:]
    assert PhotoFile(with_xmp).facts().title == "Title"
    buffer = io.BytesIO()
    Pillow.new("RGB", (16, 12)).save(buffer, "AVIF", exif=piexif.dump(CAMERA), xmp=TITLED)
    facts = PhotoFile(buffer.getvalue()).facts()
    assert (facts.description, facts.title) == ("A café", "Title")


def test_png_metadata_after_the_pixels_is_read() -> None:
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet(bag("dc:subject", "late")).decode(), zip=True)
    buffer = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    data = buffer.getvalue()
    start = data.index(b"iTXt") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    chunk, rest = data[start:end], data[:start] + data[end:]
    moved = rest[:-12] + chunk + rest[-12:]
    assert PhotoFile(moved).facts().keywords == ("late",)


@pytest.mark.parametrize(
    ("tag", "kind", "data"),
    [
        (33723, 7, CAPTIONED),
        (33723, 1, CAPTIONED),
        (33723, 4, struct.unpack("<3I", CAPTIONED.ljust(12, b"\0"))),
        (33723, 4, struct.unpack(">3I", CAPTIONED.ljust(12, b"\0"))),
        (34377, 1, photoshop_segment(CAPTIONED)[18:]),
        (34377, 7, resource(0x0424, TITLED)),
    ],
)
def test_xmp_and_iptc_in_a_tiff_are_read(tag: int, kind: int, data: Any) -> None:
    keywords = packet(bag("dc:subject", "tiff"))
    tags = [(tag, kind, len(data), data, True)]
    if data != resource(0x0424, TITLED):
        tags.append((700, 1, len(keywords), keywords, True))
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((8, 8, 3), np.uint8), photometric="rgb", extratags=tags)
    facts = PhotoFile(buffer.getvalue()).facts()
    assert facts.title == "Title"
    assert len(tags) == 1 or facts.keywords == ("tiff",)
