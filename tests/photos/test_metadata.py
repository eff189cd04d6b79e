from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import piexif
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_metadata import (
    CAMERA,
    alternatives,
    bag,
    exif,
    exif_facts,
    gps,
    iim,
    iptc_facts,
    jpeg,
    packet,
    photoshop_segment,
    xmp_facts,
)
from PIL import Image as Pillow

from regard.core.facts import Capture, DatePrecision, PhotoFacts
from regard.photos.metadata.blocks import MetadataBlocks
from regard.photos.metadata.reading import read_facts, read_sidecar
from regard.photos.metadata.texts import clean_text
from regard.photos.metadata.xmp import MAX_XMP_BYTES, read_xmp
from regard.photos.photo_file import PhotoFile
from regard.photos.tiff import TiffBlock


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
        *(("1985-07-04Z", (1985, 7, 4), DAY), ("1985-07-04+02:00", (1985, 7, 4), DAY)),
        ("2004-05-01T12:30", (2004, 5, 1, 12, 30), TIME),
        ("2004:05:01 12:30:  ", (2004, 5, 1, 12, 30), TIME),
        ("2004:05:01 23:59:60", (2004, 5, 1, 23, 59, 59), TIME),
        ("2004:05:01 12:30:75", (2004, 5, 1, 12, 30), TIME),
        ("20040501T123015", (2004, 5, 1, 12, 30, 15), TIME),
        ("20040501123015", (2004, 5, 1, 12, 30, 15), TIME),
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


@pytest.mark.parametrize(
    ("body", "keywords"),
    [
        (
            bag("lr:hierarchicalSubject", "Places|France|Paris", "People"),
            "Places France Paris People",
        ),
        (
            bag("lr:hierarchicalSubject", "Places|France|Paris")
            + bag("dc:subject", "Paris", "one"),
            "Paris one Places France",
        ),
        (bag("digiKam:TagsList", "Places/France"), "Places France"),
        (
            bag("digiKam:TagsList", "Places/France", "Old/Gone") + bag("dc:subject", "France"),
            "France Places",
        ),
        (bag("MicrosoftPhoto:LastKeywordXMP", "Places/France"), "Places France"),
        (bag("mediapro:CatalogSets", "Places|France"), "Places France"),
        (bag("acdsee:keywords", "Places", "France"), "Places France"),
        (
            "<acdsee:categories>&lt;Categories>&lt;Category Assigned='0'>Places&lt;Category"
            " Assigned='1'>France&lt;/Category>&lt;/Category>&lt;/Categories></acdsee:categories>",
            "Places France",
        ),
        (
            "<mwg-kw:Keywords rdf:parseType='Resource'><mwg-kw:Hierarchy><rdf:Bag><rdf:li"
            " mwg-kw:Keyword='Places'><mwg-kw:Children><rdf:Bag><rdf:li rdf:parseType='Resource'>"
            "<mwg-kw:Keyword>France</mwg-kw:Keyword></rdf:li></rdf:Bag></mwg-kw:Children></rdf:li>"
            "</rdf:Bag></mwg-kw:Hierarchy></mwg-kw:Keywords>",
            "Places France",
        ),
    ],
)
def test_every_level_of_a_hierarchy_is_a_keyword(body: str, keywords: str) -> None:
    assert xmp_facts(packet(body)).keywords == tuple(keywords.split())


def test_hierarchies_in_xmp_add_to_keywords_in_iptc() -> None:
    block = iim((2, 25, b"Paris"), (2, 25, b"one"))
    for field, expected in (
        (bag("lr:hierarchicalSubject", "Places|Paris", "People"), "Paris one Places People"),
        (bag("digiKam:TagsList", "Places/Paris", "Gone"), "Paris one Places"),
    ):
        facts = read_facts(MetadataBlocks(None, (packet(field),), block))
        assert facts.keywords == tuple(expected.split())


def test_composed_and_decomposed_letters_are_one_keyword() -> None:
    facts = xmp_facts(packet(bag("dc:subject", "Ba\u0308ume", "B\u00e4ume")))
    assert facts.keywords == ("B\u00e4ume",)


OTHER_PICTURE = """<rdf:Description rdf:about="other" xmp:Rating="1"
 photoshop:DateCreated="1999-01-01"><dc:subject><rdf:Bag><rdf:li>texture</rdf:li></rdf:Bag>
 </dc:subject><dc:title>Stock</dc:title></rdf:Description>"""


@pytest.mark.parametrize(
    "body",
    [
        f"<xmpMM:Pantry><rdf:Bag><rdf:li>{OTHER_PICTURE}</rdf:li></rdf:Bag></xmpMM:Pantry>",
        f"<xmpMM:Ingredients>{OTHER_PICTURE}</xmpMM:Ingredients>",
        '<xmpMM:DerivedFrom rdf:parseType="Resource"><dc:title>Stock</dc:title>'
        "<xmp:Rating>1</xmp:Rating></xmpMM:DerivedFrom>",
        f"</rdf:Description>{OTHER_PICTURE}<rdf:Description rdf:about=''>",
    ],
)
def test_metadata_of_other_pictures_in_a_packet_is_ignored(body: str) -> None:
    facts = xmp_facts(packet(bag("dc:subject", "mine") + body))
    assert facts == PhotoFacts(keywords=("mine",))


@pytest.mark.parametrize(
    "body",
    [
        '<xmp:Rating rdf:parseType="Resource"><rdf:value>4</rdf:value><a:b xmlns:a="a"/></xmp:Rating>',
        "<xmp:Rating><rdf:Description><rdf:value>4</rdf:value></rdf:Description></xmp:Rating>",
        '<xmp:Rating><rdf:Description rdf:value="4"/></xmp:Rating>',
        '<xmp:Rating rdf:value="4"/>',
        "</rdf:Description><x:Photo rdf:about=''><xmp:Rating>4</xmp:Rating></x:Photo><rdf:Description>",
        "<xmp:Rating><![CDATA[4]]><!-- stars --></xmp:Rating>",
    ],
)
def test_every_form_of_a_value_is_read(body: str) -> None:
    assert xmp_facts(packet(body)).rating == 4


SLIPS = {
    "undeclared prefixes": (
        "<acme:x>1</acme:x>",
        lambda data: data.replace(b'xmlns:dc="http://purl.org/dc/elements/1.1/"', b""),
    ),
    "a control character": ("<dc:format>a\x01b</dc:format>", None),
    "a reference to one": ("<dc:format>&#1; &#xFFFF; &#99999999;</dc:format>", None),
    "bare ampersands and HTML": ("<dc:format>a & b &nbsp; &x; &</dc:format>", None),
    "a tag that is not closed": ("<dc:format>a", None),
    "a repeated attribute": ('<dc:format a="1" a="2"/>', None),
    "a cut end": ("", lambda data: data[: data.index(b"</rdf:RDF>") - 3]),
    "a wrong encoding": ("", lambda data: b'<?xml version="1.0" encoding="bogus"?>' + data),
    "a wrong UTF-16 declaration": (
        "",
        lambda data: b'<?xml version="1.0" encoding="UTF-16"?>' + data,
    ),
    "a stray byte": (
        "<dc:format>\xff</dc:format>",
        lambda data: data.replace("\xff".encode(), b"\xff"),
    ),
    "text before": ("", lambda data: b"junk" + data),
    "zeros around": ("", lambda data: b"\0\0" + data + b"\0\0"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_broken_packet_loses_only_what_is_broken(slip: str) -> None:
    body, damage = SLIPS[slip]
    data = packet(alternatives("dc:title", x_default="Größe") + bag("dc:subject", "one") + body)
    facts = xmp_facts(data if damage is None else damage(data))
    assert (facts.title, facts.keywords) == ("Größe", ("one",))


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-be", "utf-32", "iso8859-1", "cp1251"])
def test_packets_in_other_encodings_are_read(charset: str) -> None:
    title = "Луна" if charset == "cp1251" else "Größe"
    text = packet(alternatives("dc:title", x_default=title)).decode().replace("\ufeff", "")
    declared = f'<?xml version="1.0" encoding="{charset}"?>{text}'
    assert xmp_facts(declared.encode(charset)).title == title


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


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "data",
    [
        b"<?xml " * 500_000,
        b"<rdf:RDF><rdf:Description " + b" ".join(b"a%d=''" % n for n in range(100_000)),
        b"<rdf:RDF><rdf:Description><dc:title>" + b"&" * 2_000_000,
        b"<rdf:RDF><rdf:Description><lr:hierarchicalSubject>" + b"a|" * 1_000_000,
        b"<rdf:RDF><rdf:Description><mwg-kw:Keywords mwg-kw:Keyword='" + b"x" * 1_000_000 + b"'>"
        b"<mwg-kw:a mwg-kw:Keyword='a'/>" * 50_000,
    ],
    ids=["declarations", "attributes", "ampersands", "levels", "keywords"],
)
def test_huge_packets_cost_little(data: bytes) -> None:
    facts = xmp_facts(data)
    assert len(facts.keywords) <= 1_000


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


def test_capture_is_read_from_xmp_too() -> None:
    attributes = 'exif:ExposureTime="1/250" exif:FNumber="18/10" exif:FocalLength="50/1" '
    attributes += 'exifEX:PhotographicSensitivity="400" exif:GPSAltitude="25/2" '
    facts = xmp_facts(packet("", attributes + 'exif:GPSAltitudeRef="1"'))
    assert facts.capture == Capture(0.004, 1.8, 400, 50.0, -12.5)


# Containers


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
