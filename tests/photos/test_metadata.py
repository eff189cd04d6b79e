from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import piexif
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from regard.core.facts import Capture, PhotoFacts
from regard.photos.metadata.iptc import iptc_facts
from regard.photos.metadata.reading import MetadataBlocks, read_facts, read_sidecar
from regard.photos.metadata.values import clean_text
from regard.photos.metadata.xmp import MAX_XMP_BYTES, xmp_facts
from regard.photos.photo_file import PhotoFile
from regard.photos.tiff import TiffBlock

GPS_PARIS = {
    piexif.GPSIFD.GPSLatitudeRef: b"N",
    piexif.GPSIFD.GPSLatitude: ((48, 1), (51, 1), (3024, 100)),
    piexif.GPSIFD.GPSLongitudeRef: b"W",
    piexif.GPSIFD.GPSLongitude: ((2, 1), (21, 1), (0, 1)),
    piexif.GPSIFD.GPSAltitudeRef: 1,
    piexif.GPSIFD.GPSAltitude: (125, 10),
}
CAMERA = {
    "0th": {
        piexif.ImageIFD.Make: b"Acme",
        piexif.ImageIFD.Model: b"One",
        piexif.ImageIFD.ImageDescription: "A café".encode(),
        piexif.ImageIFD.Rating: 3,
        piexif.ImageIFD.DateTime: b"2030:01:01 00:00:00",
    },
    "Exif": {
        piexif.ExifIFD.DateTimeOriginal: b"2024:05:01 12:30:15",
        piexif.ExifIFD.SubSecTimeOriginal: b"25",
        36881: b"+05:30",
        piexif.ExifIFD.LensModel: b"50mm F1.8",
        piexif.ExifIFD.ExposureTime: (1, 250),
        piexif.ExifIFD.FNumber: (18, 10),
        piexif.ExifIFD.ISOSpeedRatings: 400,
        piexif.ExifIFD.FocalLength: (50, 1),
    },
    "GPS": GPS_PARIS,
}


def exif_facts(block: bytes) -> PhotoFacts:
    return read_facts(MetadataBlocks(TiffBlock.open(block)))


def jpeg(**options: object) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", (16, 12), (90, 20, 30)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def exif(**directories: dict[int, object]) -> bytes:
    return piexif.dump({name.strip("_"): fields for name, fields in directories.items()})


def gps(**changes: object) -> PhotoFacts:
    fields = dict(GPS_PARIS)
    for name, value in changes.items():
        tag = getattr(piexif.GPSIFD, name)
        if value is None:
            del fields[tag]
        else:
            fields[tag] = value
    return exif_facts(piexif.dump({"GPS": fields}))


def packet(body: str, attributes: str = "") -> bytes:
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
   xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
   xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
   xmlns:lr="http://ns.adobe.com/lightroom/1.0/" {attributes}>{body}</rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>""".encode()


def alternatives(name: str, **texts: str) -> str:
    items = "".join(
        f'<rdf:li xml:lang="{language.replace("_", "-")}">{text}</rdf:li>'
        for language, text in texts.items()
    )
    return f"<{name}><rdf:Alt>{items}</rdf:Alt></{name}>"


def bag(name: str, *texts: str) -> str:
    items = "".join(f"<rdf:li>{text}</rdf:li>" for text in texts)
    return f"<{name}><rdf:Bag>{items}</rdf:Bag></{name}>"


def iim(*fields: tuple[int, int, bytes]) -> bytes:
    return b"".join(
        bytes([0x1C, record, number]) + len(value).to_bytes(2, "big") + value
        for record, number, value in fields
    )


def photoshop_segment(data: bytes) -> bytes:
    resource = b"8BIM\x04\x04\0\0" + len(data).to_bytes(4, "big") + data + bytes(len(data) % 2)
    body = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + (len(body) + 2).to_bytes(2, "big") + body


# EXIF


def test_all_exif_facts_are_read() -> None:
    facts = exif_facts(piexif.dump(CAMERA))
    assert facts.latitude == pytest.approx(48.8584)
    assert facts.longitude == pytest.approx(-2.35)
    assert facts == PhotoFacts(
        taken_at=datetime(2024, 5, 1, 12, 30, 15, 250_000),
        utc_offset_minutes=330,
        camera_make="Acme",
        camera_model="One",
        lens="50mm F1.8",
        latitude=facts.latitude,
        longitude=facts.longitude,
        description="A café",
        rating=3,
        capture=Capture(0.004, 1.8, 400, 50.0, -12.5),
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_exif_is_found_in_every_format(kind: str) -> None:
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
    block = Pillow.Exif()
    block[271] = "Acme"
    block.get_ifd(34665)[36867] = "2024:05:01 12:30:15"
    buffer = io.BytesIO()
    Pillow.new("RGB", (64, 48)).save(buffer, kind, exif=block.tobytes())
    facts = PhotoFile(buffer.getvalue()).facts()
    assert facts.camera_make == "Acme"
    assert facts.taken_at == datetime(2024, 5, 1, 12, 30, 15)


def test_big_endian_exif_is_read() -> None:
    entry = b"\x01\x0f" + b"\0\x02" + b"\0\0\0\x05" + b"\0\0\0\x1a"
    body = b"MM\0*\0\0\0\x08" + b"\0\x01" + entry + bytes(4) + b"Acme\0"
    assert exif_facts(body).camera_make == "Acme"


@pytest.mark.parametrize(
    "date",
    [
        b"0000:00:00 00:00:00",
        b"    :  :     :  :  ",
        b"2024:13:01 10:00:00",
        b"2023:02:29 10:00:00",
        b"2024:05:01 24:61:00",
        b"0001:01:01 00:00:00",
        b"rubbish",
        b"",
        b"\xff\xfe\x00",
    ],
)
def test_invalid_dates_are_none(date: bytes) -> None:
    facts = exif_facts(exif(Exif={piexif.ExifIFD.DateTimeOriginal: date}))
    assert facts.taken_at is None
    assert facts.utc_offset_minutes is None


def test_the_date_closest_to_the_exposure_wins() -> None:
    digitized = {piexif.ExifIFD.DateTimeDigitized: b"2024:05:02 10:00:00"}
    changed = {piexif.ImageIFD.DateTime: b"2024:05:03 10:00:00"}
    invalid = {piexif.ExifIFD.DateTimeOriginal: b"0000:00:00 00:00:00"}
    assert exif_facts(exif(_0th=changed)).taken_at == datetime(2024, 5, 3, 10)
    both = exif_facts(exif(_0th=changed, Exif=digitized | invalid))
    assert both.taken_at == datetime(2024, 5, 2, 10)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [(b"-03:00", -180), (b"Z", 0), (b"+14:00", 840), (b"+99:00", None), (b"   :  ", None)],
)
def test_valid_offsets_are_kept_and_others_are_none(text: bytes, minutes: int | None) -> None:
    fields = {piexif.ExifIFD.DateTimeOriginal: b"2024:05:01 12:30:15", 36881: text}
    facts = exif_facts(exif(Exif=fields))
    assert facts.taken_at == datetime(2024, 5, 1, 12, 30, 15)
    assert facts.utc_offset_minutes == minutes


@pytest.mark.parametrize(
    "changes",
    [
        {"GPSLatitude": ((48, 0), (51, 1), (0, 1))},
        {"GPSLatitude": ((0, 0), (0, 0), (0, 0))},
        {"GPSLatitude": ((91, 1), (0, 1), (0, 1))},
        {"GPSLatitude": ((48, 1), (61, 1), (0, 1))},
        {"GPSLongitude": ((180, 1), (1, 1), (0, 1))},
        {"GPSLatitudeRef": None},
        {"GPSLongitudeRef": b"X"},
        {"GPSLongitude": None},
    ],
)
def test_impossible_positions_are_none(changes: dict[str, object]) -> None:
    facts = gps(**changes)
    assert facts.latitude is None
    assert facts.longitude is None


def test_southern_latitudes_are_negative_and_eastern_longitudes_positive() -> None:
    facts = gps(GPSLatitudeRef=b"S", GPSLongitudeRef=b"E", GPSAltitudeRef=0)
    assert facts.latitude == pytest.approx(-48.8584)
    assert facts.longitude == pytest.approx(2.35)
    assert facts.capture.altitude_m == 12.5


def test_zero_denominators_are_none() -> None:
    fields = {piexif.ExifIFD.ExposureTime: (1, 0), piexif.ExifIFD.FNumber: (0, 1)}
    assert exif_facts(exif(Exif=fields)).capture == Capture()


def test_windows_fields_and_comments_are_decoded() -> None:
    words = "Strand;Süden;Strand;;".encode("utf-16-le") + b"\0\0"
    fields = {
        piexif.ImageIFD.XPKeywords: tuple(words),
        piexif.ImageIFD.XPTitle: tuple("Titel".encode("utf-16-le")),
        piexif.ImageIFD.ImageDescription: b"OLYMPUS DIGITAL CAMERA         ",
    }
    comment = b"UNICODE\0" + "Am Meer".encode("utf-16-be")
    facts = exif_facts(exif(_0th=fields, Exif={piexif.ExifIFD.UserComment: comment}))
    assert facts.keywords == ("Strand", "Süden")
    assert facts.title == "Titel"
    assert facts.description == "Am Meer"


def test_latin_1_is_decoded_and_control_characters_removed() -> None:
    fields = {piexif.ImageIFD.Make: b"Caf\xe9\x01\x7f Co\0junk", piexif.ImageIFD.Model: b"\0\0"}
    facts = exif_facts(exif(_0th=fields))
    assert facts.camera_make == "Café Co"
    assert facts.camera_model is None


# IPTC


def test_iptc_texts_are_decoded_with_and_without_charset() -> None:
    fields = [(2, 5, "Über".encode()), (2, 25, "é1".encode()), (2, 25, b"two"), (2, 25, b"two")]
    declared = iptc_facts(iim((1, 90, b"\x1b%G"), *fields, (2, 120, b"line\rtwo")))
    assert (declared.title, declared.keywords) == ("Über", ("é1", "two"))
    assert declared.description == "line\ntwo"
    assert iptc_facts(iim((2, 5, "Über".encode("latin-1")))).title == "Über"


def test_iptc_fields_before_damage_are_kept() -> None:
    dated = iim((2, 55, b"20240501"), (2, 60, b"123015+0200"), (2, 5, b"whole"))
    facts = iptc_facts(dated + b"\x1c\x02\x78\xff\xff\xff")
    assert (facts.taken_at, facts.utc_offset_minutes) == (datetime(2024, 5, 1, 12, 30, 15), 120)
    assert facts.title == "whole"
    assert iptc_facts(iim((2, 55, b"20240501"))).taken_at == datetime(2024, 5, 1)
    assert iptc_facts(iim((2, 55, b"00000000"))).taken_at is None


# XMP


def test_xmp_elements_and_attributes_are_read() -> None:
    body = (
        alternatives("dc:title", de="Titel", x_default="Title")
        + alternatives("dc:description", x_default="Words\nover lines")
        + bag("dc:subject", "a", "b", " a ", "")
    )
    attributes = 'xmp:Rating="4" photoshop:DateCreated="2024-05-01T12:30:15.5+02:00" '
    attributes += 'exif:GPSLatitude="48,51.504N" exif:GPSLongitude="2,21,0W"'
    facts = xmp_facts(packet(body, attributes))
    assert facts.title == "Title"
    assert facts.description == "Words\nover lines"
    assert facts.keywords == ("a", "b")
    assert facts.rating == 4
    assert facts.taken_at == datetime(2024, 5, 1, 12, 30, 15, 500_000)
    assert facts.utc_offset_minutes == 120
    assert facts.latitude == pytest.approx(48.8584)
    assert facts.longitude == pytest.approx(-2.35)


@pytest.mark.parametrize(
    ("text", "rating"),
    [("-1", -1), ("0", 0), ("5", 5), ("3.0", 3), ("6", None), ("x", None), ("NaN", None)],
)
def test_ratings_outside_the_scale_are_none(text: str, rating: int | None) -> None:
    assert xmp_facts(packet(f"<xmp:Rating>{text}</xmp:Rating>")).rating == rating


def test_hierarchies_replace_missing_keywords() -> None:
    hierarchy = bag("lr:hierarchicalSubject", "Places|France|Paris", "People")
    assert xmp_facts(packet(hierarchy)).keywords == ("Paris", "People")
    assert xmp_facts(packet(hierarchy + bag("dc:subject", "one"))).keywords == ("one",)


def test_hostile_xmp_gives_no_facts() -> None:
    entities = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
    outside = b'<!DOCTYPE x SYSTEM "file:///etc/passwd">'
    deep = b"<a>" * 200_000
    good = packet(alternatives("dc:title", x_default="Title"))
    for data in (entities + good, outside + good, deep, b"<", b"\xff\xfe<", b"\0" * 99):
        assert xmp_facts(data) == PhotoFacts()
    assert xmp_facts(good + b" " * MAX_XMP_BYTES) == PhotoFacts()
    assert xmp_facts(good + b"\0" * 2_000).title == "Title"
    assert xmp_facts(good.decode().encode("utf-16")).title == "Title"


# Precedence


def test_sidecar_xmp_iptc_and_exif_rank_in_this_order(tmp_path: Path) -> None:
    inside = packet(alternatives("dc:title", x_default="inside") + bag("dc:subject", "xmp"))
    data = jpeg(exif=piexif.dump(CAMERA), xmp=inside)
    block = iim((2, 5, b"iptc"), (2, 25, b"iptc"), (2, 120, b"from iptc"))
    data = data[:2] + photoshop_segment(block) + data[2:]
    sidecar = tmp_path / "photo.jpg.xmp"
    photo = PhotoFile(data)
    facts = photo.facts()
    assert (facts.title, facts.keywords, facts.description) == ("inside", ("xmp",), "from iptc")
    assert (facts.camera_make, facts.rating) == ("Acme", 3)
    assert facts.capture.iso == 400
    sidecar.write_bytes(packet(alternatives("dc:title", x_default="beside"), 'xmp:Rating="-1"'))
    facts = photo.facts(sidecar)
    assert (facts.title, facts.keywords, facts.rating) == ("beside", ("xmp",), -1)


def test_a_coarser_date_does_not_hide_a_finer_one() -> None:
    block = piexif.dump(CAMERA)

    def merged(created: str) -> PhotoFacts:
        xmp = packet("", f'photoshop:DateCreated="{created}"')
        return read_facts(MetadataBlocks(TiffBlock.open(block), xmp))

    exact = datetime(2024, 5, 1, 12, 30, 15, 250_000)
    assert merged("2024-05-01").taken_at == exact
    assert merged("2024-05-01T12:30:15").taken_at == exact
    assert merged("2024-05-01T12:30:15").utc_offset_minutes == 330
    corrected = merged("2019-01-01T08:00:00")
    assert (corrected.taken_at, corrected.utc_offset_minutes) == (datetime(2019, 1, 1, 8), None)


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


def test_xmp_and_iptc_in_a_tiff_are_read() -> None:
    from PIL import TiffImagePlugin

    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[700] = packet(bag("dc:subject", "tiff"))
    tags.tagtype[700] = 1
    tags[33723] = iim((2, 5, b"title"))
    tags.tagtype[33723] = 7
    buffer = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(buffer, "TIFF", tiffinfo=tags)
    facts = PhotoFile(buffer.getvalue()).facts()
    assert (facts.title, facts.keywords) == ("title", ("tiff",))


def test_unusable_sidecars_are_ignored(tmp_path: Path) -> None:
    photo = PhotoFile(jpeg(exif=piexif.dump(CAMERA)))
    os.mkfifo(tmp_path / "pipe.xmp")
    (tmp_path / "huge.xmp").write_bytes(b" " * (MAX_XMP_BYTES + 1))
    (tmp_path / "broken.xmp").write_bytes(b"<x:xmpmeta")
    for name in ("pipe.xmp", "huge.xmp", "broken.xmp", "missing.xmp"):
        assert photo.facts(tmp_path / name).camera_make == "Acme"
    assert read_sidecar(tmp_path / "pipe.xmp") is None


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
    facts = read_facts(MetadataBlocks(TiffBlock.open(block), block, block))
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
