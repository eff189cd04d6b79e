"""Which source of a fact is believed, and what reading a photograph costs."""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import piexif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_metadata import (
    CAMERA,
    alternatives,
    bag,
    exif,
    exif_facts,
    iim,
    jpeg,
    packet,
    photoshop_segment,
    xmp_facts,
)
from PIL import Image as Pillow

from regard.core.facts import Capture, DatePrecision, PhotoFacts
from regard.photos import decoding
from regard.photos.metadata.blocks import MetadataBlocks
from regard.photos.metadata.reading import read_facts, read_sidecar
from regard.photos.metadata.texts import clean_text
from regard.photos.metadata.xmp import MAX_XMP_BYTES, read_xmp
from regard.photos.photo_file import PhotoFile
from regard.photos.tiff import TiffBlock

YEAR, MONTH, DAY, TIME = DatePrecision


# Precedence


def test_a_sidecar_comes_before_the_order_of_the_file(tmp_path: Path) -> None:
    inside = packet(alternatives("dc:title", x_default="inside") + bag("dc:subject", "xmp"))
    data = jpeg(exif=piexif.dump(CAMERA), xmp=inside)
    block = iim((2, 5, b"iptc"), (2, 25, b"iptc"), (2, 120, b"from iptc"))
    data = data[:2] + photoshop_segment(block) + data[2:]
    sidecar = tmp_path / "photo.jpg.xmp"
    photo = PhotoFile(data)
    facts = photo.facts()
    assert (facts.title, facts.keywords, facts.description) == ("inside", ("xmp",), "A café")
    assert (facts.camera_make, facts.rating) == ("Acme", 3)
    assert facts.capture.iso == 400
    sidecar.write_bytes(packet(alternatives("dc:title", x_default="beside"), 'xmp:Rating="-1"'))
    facts = photo.facts(read_sidecar(sidecar))
    assert (facts.title, facts.keywords, facts.rating) == ("beside", ("xmp",), -1)


@pytest.mark.parametrize(("is_stale", "title"), [(None, "xmp"), (False, "xmp"), (True, "iptc")])
def test_iptc_that_a_program_changed_alone_comes_before_xmp(
    is_stale: bool | None, title: str
) -> None:
    block = iim((2, 5, b"iptc"), (2, 25, b"iptc"))
    digest = {None: None, False: hashlib.md5(block).digest(), True: bytes(16)}[is_stale]
    xmp = packet(alternatives("dc:title", x_default="xmp") + bag("dc:subject", "xmp"))
    facts = read_facts(MetadataBlocks(None, (xmp,), block, digest))
    assert (facts.title, facts.keywords) == (title, (title,))


ORIGINAL = {piexif.ExifIFD.DateTimeOriginal: b"1985:07:04 12:00:00"}


DIGITIZED = {piexif.ExifIFD.DateTimeDigitized: b"2019:03:02 09:00:00"}


CHANGED = {piexif.ImageIFD.DateTime: b"2020:02:02 09:00:00"}


@pytest.mark.parametrize(
    ("fields", "xmp", "beside", "iptc", "year"),
    [
        (ORIGINAL | DIGITIZED, 'xmp:CreateDate="2019-03-02T09:00:00"', "", {}, 1985),
        (ORIGINAL, "", 'xmp:CreateDate="2019-03-02T09:00:00"', {}, 1985),
        (DIGITIZED, 'photoshop:DateCreated="1985"', "", {}, 1985),
        (DIGITIZED, 'xmp:CreateDate="2001-01-01"', "", {}, 2019),
        (DIGITIZED, "", "", {55: b"19850000"}, 1985),
        (DIGITIZED, "", "", {62: b"20010101"}, 2019),
        (ORIGINAL, 'photoshop:DateCreated="2001-01-01"', "", {}, 1985),
        (ORIGINAL, "", 'photoshop:DateCreated="1984"', {}, 1984),
        ({}, 'photoshop:DateCreated="1984"', "", {55: b"19850000"}, 1984),
        ({}, 'xmp:CreateDate="1984" xmp:ModifyDate="2001-01-01"', "", {}, 1984),
        ({}, 'xmp:ModifyDate="2001-01-01"', "", {}, 2020),
        ({}, "", 'xmp:ModifyDate="2001-01-01"', {}, 2020),
        ({piexif.ExifIFD.DateTimeOriginal: b"0000:00:00 00:00:00"} | DIGITIZED, "", "", {}, 2019),
    ],
)
def test_the_exposure_date_comes_before_the_scan_and_the_change(
    fields: dict[int, bytes], xmp: str, beside: str, iptc: dict[int, bytes], year: int
) -> None:
    block = TiffBlock.open(exif(_0th=CHANGED, Exif=fields))
    data_set = iim(*((2, number, value) for number, value in iptc.items()))
    blocks = MetadataBlocks(block, (packet("", xmp),), data_set)
    facts = read_facts(blocks, read_xmp(packet("", beside)))
    assert facts.taken_at is not None
    assert facts.taken_at.year == year


def test_a_coarser_date_does_not_hide_a_finer_one_of_its_meaning() -> None:
    block = piexif.dump(CAMERA)

    def merged(created: str) -> PhotoFacts:
        sidecar = read_xmp(packet("", f'photoshop:DateCreated="{created}"'))
        return read_facts(MetadataBlocks(TiffBlock.open(block)), sidecar)

    exact = datetime(2024, 5, 1, 12, 30, 15, 250_000)
    for created in ("2024", "2024-05", "2024-05-01", "2024-05-01T12:30:15"):
        facts = merged(created)
        assert (facts.taken_at, facts.utc_offset_minutes) == (exact, 330)
    corrected = merged("2019-01-01T08:00:00")
    assert (corrected.taken_at, corrected.utc_offset_minutes) == (datetime(2019, 1, 1, 8), None)
    scanned = exif(Exif=DIGITIZED | {piexif.ExifIFD.DateTimeOriginal: b"2019:00:00 00:00:00"})
    assert exif_facts(scanned).taken_precision is YEAR


@pytest.mark.parametrize(
    ("fields", "xmp", "lens"),
    [
        ({piexif.ExifIFD.LensModel: b"one"}, 'aux:Lens="two"', "one"),
        ({}, 'aux:Lens="two" exifEX:LensModel="three"', "three"),
        ({piexif.ExifIFD.LensModel: b"----"}, 'aux:Lens="two"', "two"),
        ({piexif.ExifIFD.LensModel: b"Unknown"}, 'aux:Lens="0.0 mm f/0.0"', None),
        (
            {piexif.ExifIFD.LensSpecification: ((24, 1), (70, 1), (28, 10), (4, 1))},
            "",
            "24-70mm f/2.8-4",
        ),
        ({piexif.ExifIFD.LensSpecification: ((50, 1), (50, 1), (0, 0), (0, 0))}, "", "50mm"),
        ({piexif.ExifIFD.LensSpecification: ((0, 0),) * 4}, "", None),
        ({}, 'aux:LensInfo="500/10 50/1 18/10 18/10"', "50mm f/1.8"),
    ],
)
def test_the_lens_is_its_name_or_its_range(
    fields: dict[int, object], xmp: str, lens: str | None
) -> None:
    block = TiffBlock.open(exif(Exif=fields))
    assert read_facts(MetadataBlocks(block, (packet("", xmp),))).lens == lens


@pytest.mark.parametrize(
    ("fields", "xmp", "rating"),
    [
        ({piexif.ImageIFD.Rating: 2}, 'xmp:Rating="4"', 4),
        ({piexif.ImageIFD.Rating: 2, piexif.ImageIFD.RatingPercent: 99}, "", 2),
        *(
            ({piexif.ImageIFD.RatingPercent: percent}, "", stars)
            for percent, stars in ((0, 0), (1, 1), (25, 2), (50, 3), (75, 4), (99, 5), (101, None))
        ),
        ({}, 'MicrosoftPhoto:Rating="75"', 4),
    ],
)
def test_ratings_are_read_in_stars_and_percent(
    fields: dict[int, object], xmp: str, rating: int | None
) -> None:
    block = TiffBlock.open(exif(_0th=fields))
    assert read_facts(MetadataBlocks(block, (packet("", xmp),))).rating == rating


def test_the_headline_is_the_title_where_there_is_none() -> None:
    headline = "<photoshop:Headline>Head</photoshop:Headline>"
    data_set = iim((2, 105, b"Headline"))
    assert xmp_facts(packet(headline)).title == "Head"
    assert read_facts(MetadataBlocks(None, (), data_set)).title == "Headline"
    titled = packet(headline + alternatives("dc:title", x_default="Title"))
    assert read_facts(MetadataBlocks(None, (titled,), data_set)).title == "Title"


def test_capture_is_read_from_xmp_too() -> None:
    attributes = 'exif:ExposureTime="1/250" exif:FNumber="18/10" exif:FocalLength="50/1" '
    attributes += 'exifEX:PhotographicSensitivity="400" exif:GPSAltitude="25/2" '
    facts = xmp_facts(packet("", attributes + 'exif:GPSAltitudeRef="1"'))
    assert facts.capture == Capture(0.004, 1.8, 400, 50.0, -12.5)


# Containers


_REFERENCE = 'xmlns:stRef="http://ns.adobe.com/xap/1.0/sType/ResourceRef#"'


@pytest.mark.parametrize(
    "derived_from",
    [
        '<xmpMM:DerivedFrom stRef:instanceID="xmp.iid:9" stRef:documentID="xmp.did:1"/>',
        '<xmpMM:DerivedFrom rdf:parseType="Resource"><stRef:instanceID>xmp.iid:9'
        "</stRef:instanceID><stRef:documentID>xmp.did:1</stRef:documentID></xmpMM:DerivedFrom>",
        "<xmpMM:DerivedFrom><rdf:Description><stRef:documentID>xmp.did:1</stRef:documentID>"
        "</rdf:Description></xmpMM:DerivedFrom>",
    ],
)
def test_xmp_names_the_file_and_what_it_was_made_from(derived_from: str) -> None:
    attributes = (
        f'{_REFERENCE} xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" '
        'crs:RawFileName="IMG_1.CR2" xmpMM:DocumentID="xmp.did:2"'
    )
    expected = Capture(document_id="xmp.did:2", derived_from_id="xmp.did:1", raw_name="IMG_1.CR2")
    assert xmp_facts(packet(derived_from, attributes)).capture == expected
    assert xmp_facts(packet("", f'xmpMM:DocumentID="{"x" * 256}"')).capture == Capture()


@pytest.mark.parametrize("order", [">", "<"])
def test_apples_maker_note_names_the_live_photo(order: str) -> None:
    identifier = b"4E7B4D0C-6A4E-4A0F-8E3C-2B7C1B1B8B11\0"
    entry = struct.pack(f"{order}HHII", 17, 2, len(identifier), 32)
    mark = {">": b"MM", "<": b"II"}[order]
    head = b"Apple iOS\0\0\1" + mark + struct.pack(f"{order}H", 1)
    note = head + entry + bytes(4) + identifier

    def live_photo_id(note: bytes) -> str | None:
        return exif_facts(exif(Exif={piexif.ExifIFD.MakerNote: note})).capture.live_photo_id

    assert live_photo_id(note) == identifier[:-1].decode()
    for end in range(len(note) - len(identifier)):
        assert live_photo_id(note[:end]) is None
    assert live_photo_id(b"Canon" + note[5:]) is None


def test_unusable_sidecars_are_ignored(tmp_path: Path) -> None:
    photo = PhotoFile(jpeg(exif=piexif.dump(CAMERA)))
    os.mkfifo(tmp_path / "pipe.xmp")
    (tmp_path / "huge.xmp").write_bytes(b" " * (MAX_XMP_BYTES + 1))
    (tmp_path / "broken.xmp").write_bytes(b"<x:xmpmeta")
    for name in ("pipe.xmp", "huge.xmp", "broken.xmp", "missing.xmp"):
        assert photo.facts(read_sidecar(tmp_path / name)).camera_make == "Acme"
    assert not read_sidecar(tmp_path / "pipe.xmp").properties


# A file is read and parsed once


def test_photo_file_gives_hash_header_pixels_and_facts(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    rotated = {"0th": CAMERA["0th"] | {piexif.ImageIFD.Orientation: 6}, "Exif": CAMERA["Exif"]}
    data = jpeg(exif=piexif.dump(rotated))
    path.write_bytes(data)
    with PhotoFile.open(path) as photo:
        content = photo.content()
        assert (content.format, content.width, content.height) == ("JPEG", 12, 16)
        assert content.sha256 == hashlib.sha256(data).hexdigest()
        assert photo.decode().pixels.shape == photo.decode().pixels.shape == (16, 12, 3)
        assert photo.facts().camera_make == "Acme"


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("TIFF", {}), ("PNG", {})])
def test_the_header_is_parsed_once(
    kind: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    exif = piexif.dump({"0th": {piexif.ImageIFD.Make: b"Acme"}})
    Pillow.new("RGB", (16, 12)).save(buffer, kind, exif=exif, **options)
    opened = []
    monkeypatch.setattr(TiffBlock, "open", _counted(TiffBlock.open, opened))
    monkeypatch.setattr(Pillow, "open", _counted(Pillow.open, opened))
    monkeypatch.setattr(decoding, "JpegImageFile", _counted(decoding.JpegImageFile, opened))
    photo = PhotoFile(buffer.getvalue())
    photo.content()
    photo.decode()
    assert photo.facts().camera_make == "Acme"
    # libtiff reads the header of a TIFF only with its pixels.
    assert len(opened) == (1 if kind == "TIFF" else 2)


def _counted(function: Callable[..., object], calls: list[object]) -> Callable[..., object]:
    def counting(*arguments: object, **options: object) -> object:
        calls.append(function)
        return function(*arguments, **options)

    return counting


# Anything at all

SEEDS = [
    piexif.dump(CAMERA),
    packet(bag("dc:subject", "a", "b") + alternatives("dc:title", x_default="t")),
    iim((1, 90, b"\x1b%G"), (2, 5, b"title"), (2, 25, b"keyword"), (2, 55, b"20240501")),
]


def texts_of(facts: PhotoFacts) -> list[str]:
    named = (facts.camera_make, facts.camera_model, facts.lens, facts.title, facts.description)
    return [text for text in (*named, *facts.keywords) if text is not None]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(range(len(SEEDS))),
    st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=24),
    st.integers(0, 2_000),
)
def test_damaged_metadata_gives_only_valid_facts(
    seed: int, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(SEEDS[seed])
    for position, value in changes:
        data[position % len(data)] = value
    block = bytes(data[: len(data) - cut % len(data)])
    facts = read_facts(MetadataBlocks(TiffBlock.open(block), (block,), block))
    for text in texts_of(facts):
        assert text == clean_text(text)
        assert "\0" not in text
        text.encode()
    assert facts.latitude is None or -90 <= facts.latitude <= 90
    assert facts.longitude is None or -180 <= facts.longitude <= 180
    assert (facts.latitude is None) == (facts.longitude is None)
    assert facts.rating is None or -1 <= facts.rating <= 5


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(st.characters(), max_size=40))
def test_clean_texts_can_be_stored(text: str) -> None:
    cleaned = clean_text(text)
    if cleaned is not None:
        assert cleaned.encode()
        assert all(c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f") for c in cleaned)
        assert clean_text(cleaned) == cleaned
