"""Facts of a photograph from EXIF, IPTC and XMP: dates, positions and texts."""

from __future__ import annotations

import io
import struct
from datetime import datetime

import piexif
import pillow_heif
import pytest
from made_metadata import (
    CAMERA,
    exif,
    exif_facts,
    gps,
    iim,
    iptc_facts,
    packet,
    xmp_facts,
)
from PIL import Image as Pillow

from regard.core.facts import Capture, DatePrecision, PhotoFacts
from regard.photos.photo_file import PhotoFile


def test_all_exif_facts_are_read() -> None:
    facts = exif_facts(piexif.dump(CAMERA))
    assert facts.latitude == pytest.approx(48.8584)
    assert facts.longitude == pytest.approx(-2.35)
    assert facts == PhotoFacts(
        taken_at=datetime(2024, 5, 1, 12, 30, 15, 250_000),
        taken_precision=DatePrecision.TIME,
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


YEAR, MONTH, DAY, TIME = DatePrecision


@pytest.mark.parametrize(
    ("text", "date", "precision"),
    [
        *(("0000:00:00 00:00:00", None, None), ("    :  :     :  :  ", None, None)),
        *(("0001:01:01 00:00:00", None, None), ("rubbish", None, None), ("1083497384", None, None)),
        *(("12345-01-01", None, None), ("", None, None), ("12", None, None)),
        *(("1985", (1985, 1, 1), YEAR), ("1985:00:00 00:00:00", (1985, 1, 1), YEAR)),
        *(("19850000", (1985, 1, 1), YEAR), ("1985:  :     :  :  ", (1985, 1, 1), YEAR)),
        *(("1985-XX-XX", (1985, 1, 1), YEAR), ("2024:13:01 10:00:00", (2024, 1, 1), YEAR)),
        *(("1985-07", (1985, 7, 1), MONTH), ("19850700", (1985, 7, 1), MONTH)),
        *(("1985:07:00 00:00:00", (1985, 7, 1), MONTH), ("198507", (1985, 7, 1), MONTH)),
        ("2023:02:29 10:00:00", (2023, 2, 1), MONTH),
        *(("1985-07-04", (1985, 7, 4), DAY), ("19850704", (1985, 7, 4), DAY)),
        *(("2004/05/01", (2004, 5, 1), DAY), ("2004.5.1", (2004, 5, 1), DAY)),
        *(("1985:07:04   :  :  ", (1985, 7, 4), DAY), ("1985-07-04T24:00", (1985, 7, 4), DAY)),
        *(("2024:05:01 24:61:00", (2024, 5, 1), DAY), ("2024:05:01 noon", (2024, 5, 1), DAY)),
        *(("2004:05:01 12-30-15", (2004, 5, 1), DAY), ("1 May 2004", (2004, 5, 1), DAY)),
        *(("1985-07-04Z", (1985, 7, 4), DAY), ("1985-07-04+02:00", (1985, 7, 4), DAY)),
        ("2004-05-01T12:30", (2004, 5, 1, 12, 30), TIME),
        ("2004:05:01 12:30:  ", (2004, 5, 1, 12, 30), TIME),
        ("2004:05:01 23:59:60", (2004, 5, 1, 23, 59, 59), TIME),
        ("2004:05:01 12:30:75", (2004, 5, 1, 12, 30), TIME),
        ("20040501T123015", (2004, 5, 1, 12, 30, 15), TIME),
        ("20040501123015", (2004, 5, 1, 12, 30, 15), TIME),
        ("20040501_123015", (2004, 5, 1, 12, 30, 15), TIME),
        ("2004:05:01:12:30:15", (2004, 5, 1, 12, 30, 15), TIME),
        ("2004: 5: 1  2: 3: 5", (2004, 5, 1, 2, 3, 5), TIME),
        ("Sat, 01 May 2004 12:30:15", (2004, 5, 1, 12, 30, 15), TIME),
        ("2004/05/01 1:30:15 PM", (2004, 5, 1, 13, 30, 15), TIME),
        ("2004-05-01 12:30:15,123456789", (2004, 5, 1, 12, 30, 15, 123456), TIME),
        ("1985:07:04 00:00:00", (1985, 7, 4), TIME),
    ],
)
def test_sound_parts_of_a_date_are_kept_in_every_source(
    text: str, date: tuple[int, ...] | None, precision: DatePrecision | None
) -> None:
    expected = (None if date is None else datetime(*date), precision, None)
    in_exif = exif_facts(exif(Exif={piexif.ExifIFD.DateTimeOriginal: text.encode()}))
    in_xmp = xmp_facts(packet("", f'photoshop:DateCreated="{text}"'))
    in_iptc = iptc_facts(iim((2, 55, text.encode())))
    for facts in (in_exif, in_xmp, in_iptc):
        found = (facts.taken_at, facts.taken_precision, facts.utc_offset_minutes)
        assert found == expected


def test_fraction_and_zone_of_a_partial_date_are_ignored() -> None:
    fields = {piexif.ExifIFD.DateTimeOriginal: b"1985:07:00 00:00:00", 36881: b"+05:30"}
    facts = exif_facts(exif(Exif=fields | {piexif.ExifIFD.SubSecTimeOriginal: b"25"}))
    assert (facts.taken_at, facts.taken_precision) == (datetime(1985, 7, 1), MONTH)
    assert facts.utc_offset_minutes is None


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        *((b"-03:00", -180), (b"Z", 0), (b"+14:00", 840), (b"+0545", 345), (b"+02", 120)),
        *((b"+99:00", None), (b"+02:75", None), (b"   :  ", None)),
    ],
)
def test_valid_offsets_are_kept_and_others_are_none(text: bytes, minutes: int | None) -> None:
    fields = {piexif.ExifIFD.DateTimeOriginal: b"2024:05:01 12:30:15", 36881: text}
    facts = exif_facts(exif(Exif=fields))
    assert facts.taken_at == datetime(2024, 5, 1, 12, 30, 15)
    assert facts.utc_offset_minutes == minutes


@pytest.mark.parametrize(
    "changes",
    [
        {"GPSLatitude": ((0, 0), (0, 0), (0, 0))},
        {"GPSLatitude": ((91, 1), (0, 1), (0, 1))},
        {"GPSLatitude": ((48, 1), (61, 1), (0, 1))},
        {"GPSLongitude": ((180, 1), (1, 1), (0, 1))},
        {"GPSLatitude": ((0, 1),) * 3, "GPSLongitude": ((0, 1),) * 3},
        {"GPSLatitudeRef": None},
        {"GPSLongitudeRef": b"X"},
        {"GPSLongitude": None},
        {"GPSStatus": b"V"},
    ],
)
def test_impossible_and_zero_positions_are_none(changes: dict[str, object]) -> None:
    facts = gps(**changes)
    assert facts.latitude is None
    assert facts.longitude is None


@pytest.mark.parametrize(
    ("latitude", "longitude", "place"),
    [
        *(("52,30N", "13,24E", (52.5, 13.4)), ("52,30,0S", "13,24,0W", (-52.5, -13.4))),
        *(("52.5N", "13.4E", (52.5, 13.4)), ("-52.5", "+13.4", (-52.5, 13.4))),
        *(("52.5", "13.4", (52.5, 13.4)), ("N 52° 30' 0\"", "W 13°24'", (52.5, -13.4))),
        *(("52 30 0 North", "13 24 0 west", (52.5, -13.4)), ("52/1,30/1,0/1 N", "0E", (52.5, 0))),
        *(("0,30N", "0,0E", (0.5, 0)), ("0,0,0N", "0,0,0E", None), ("0.0", "0.0", None)),
        *(("52.5E", "13.4N", None), ("91N", "13E", None), ("52,61N", "13E", None)),
        *(("nanN", "13E", None), ("52.5N", "", None), ("x", "13E", None), ("52.5.1N", "13E", None)),
    ],
)
def test_xmp_positions_are_read_in_every_notation(
    latitude: str, longitude: str, place: tuple[float, float] | None
) -> None:
    quoted = [text.replace('"', "&quot;") for text in (latitude, longitude)]
    both = 'exif:GPSLatitude="{}" exif:GPSLongitude="{}"'.format(*quoted)
    facts = xmp_facts(packet("", both))
    found = None if facts.latitude is None else (facts.latitude, facts.longitude)
    assert found == (place if place is None else pytest.approx(place))


def test_positions_without_hemisphere_or_whole_degrees_are_read_where_they_say_enough() -> None:
    fractions = xmp_facts(
        packet("", 'exif:GPSLatitude="52.5" exif:GPSLatitudeRef="S" exif:GPSLongitude="13.4E"')
    )
    assert (fractions.latitude, fractions.longitude) == (-52.5, 13.4)
    powers = 'exif:GPSLatitude="5.25e1" exif:GPSLatitudeRef="S" '
    powers = xmp_facts(packet("", powers + 'exif:GPSLongitude="5e-05" exif:GPSLongitudeRef="W"'))
    assert (powers.latitude, powers.longitude) == (-52.5, -0.00005)
    words = gps(GPSLatitudeRef=b"South", GPSLongitudeRef=b"east", GPSLatitude=((525, 10),))
    assert (words.latitude, words.longitude) == pytest.approx((-52.5, 2.35))
    seconds = gps(GPSLatitude=((48, 1), (30, 1), (0, 0)))
    assert seconds.latitude == 48.5
    zeroed = gps(GPSLatitude=((0, 1),) * 3, GPSLongitude=((0, 1),) * 3, GPSAltitude=(0, 1))
    assert zeroed.capture.altitude_m is None


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


@pytest.mark.parametrize(
    "text",
    [
        *(b"oznorWO", b"Exif_JPEG_PICTURE", b"oplus_1048608", b"Created with GIMP"),
        *(b"filter: 0; fileterIntensity: 0.0;", b"Maker:0x4c,Date:2017-6-19,Ver:4"),
        *(b'{"mirror":false,"sensor_type":"rear"}', bytes(8) + bytes(range(256)) * 2),
    ],
)
def test_what_cameras_write_into_every_photograph_is_no_description(text: bytes) -> None:
    fields = {piexif.ImageIFD.ImageDescription: text, 40095: tuple("Subject".encode("utf-16-le"))}
    facts = exif_facts(exif(_0th=fields, Exif={piexif.ExifIFD.UserComment: text}))
    assert facts.description == "Subject"


KYOTO, ONE, MOON, HELLO = "京都の庭", "一二三四", "луна", "नमस्ते"


@pytest.mark.parametrize("text", [KYOTO, ONE, MOON, HELLO, "山水", "すし", "שלום", "Garden", "é"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_unicode_comments_are_read_in_the_byte_order_of_the_block(order: str, text: str) -> None:
    wide = text.encode("utf-16-le" if order == "<" else "utf-16-be")
    for data in (wide, wide + b"\0\0", ("\ufeff" + text).encode("utf-16"), text.encode()):
        assert exif_facts(comment(order, b"UNICODE\0" + data)).description == text
    for swapped in (MOON, "Garden in Kyoto", "Ελλάδα"):
        data = swapped.encode("utf-16-be" if order == "<" else "utf-16-le")
        assert exif_facts(comment(order, b"UNICODE\0" + data)).description == swapped


@pytest.mark.parametrize(
    "data",
    [
        b"JIS\0\0\0\0\0" + KYOTO.encode("iso2022_jp"),
        b"JIS\0\0\0\0\0" + KYOTO.encode("cp932"),
        b"JIS\0\0\0\0\0" + KYOTO.encode("euc_jp"),
        b"ASCII\0\0\0" + KYOTO.encode(),
        bytes(8) + KYOTO.encode(),
        bytes(8) + ("\ufeff" + KYOTO).encode("utf-16-be"),
        b"        " + KYOTO.encode() + bytes(4),
        b"unicode\0" + KYOTO.encode("utf-16-le"),
    ],
)
def test_comments_in_other_charsets_are_read(data: bytes) -> None:
    assert exif_facts(comment("<", data)).description == KYOTO


def comment(order: str, data: bytes) -> bytes:
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8)
    pointer = struct.pack(f"{order}HHHIII", 1, 34665, 4, 1, 26, 0)
    field = struct.pack(f"{order}HHHIII", 1, 37510, 7, len(data), 44, 0)
    return head + pointer + field + data


@pytest.mark.parametrize(
    ("data", "text"),
    [
        *(("Größe".encode(), "Größe"), ("Größe".encode("latin-1"), "Größe")),
        *(("“x” – €".encode("cp1252"), "“x” – €"), ("Gerö".encode()[:-1], "GerÃ")),
        *((KYOTO.encode(), KYOTO), (KYOTO.encode()[:-1], KYOTO[:-1])),
    ],
)
def test_undeclared_texts_are_utf_8_or_western(data: bytes, text: str) -> None:
    field = {piexif.ImageIFD.ImageDescription: data}
    assert exif_facts(exif(_0th=field)).description == text
    assert iptc_facts(iim((2, 120, data))).description == text
    assert iptc_facts(iim((1, 90, b"\x1b%G"), (2, 120, data))).description == text


def test_declared_charsets_of_iptc_are_obeyed() -> None:
    data = iim((1, 90, b"\x1b-L"), (2, 120, MOON.encode("iso8859-5")))
    assert iptc_facts(data).description == MOON


def test_utf_8_fields_of_exif_3_and_fields_in_the_main_directory_are_read() -> None:
    body = b"II*\0" + struct.pack("<IH", 8, 2) + struct.pack("<HHII", 272, 129, 4, 0)
    body = body[:-4] + "Ωß".encode() + struct.pack("<HHII", 36867, 2, 20, 38)
    facts = exif_facts(body + bytes(4) + b"2004:05:01 12:03:04\0")
    assert (facts.camera_model, facts.taken_at) == ("Ωß", datetime(2004, 5, 1, 12, 3, 4))


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
