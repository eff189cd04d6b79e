"""Facts from packets of XMP, whole, broken or hostile."""

from __future__ import annotations

from datetime import datetime

import pytest
from made_metadata import (
    alternatives,
    bag,
    iim,
    packet,
    xmp_facts,
)

from regard.core.facts import PhotoFacts
from regard.photos.metadata.blocks import MetadataBlocks
from regard.photos.metadata.reading import read_facts
from regard.photos.metadata.xmp import MAX_XMP_BYTES, read_xmp


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


FACES = (
    "<mwg-rs:Regions rdf:parseType='Resource'><mwg-rs:RegionList><rdf:Bag>"
    "<rdf:li><rdf:Description mwg-rs:Name='Ann Lee' mwg-rs:Type='Face'/></rdf:li>"
    "<rdf:li rdf:parseType='Resource'><mwg-rs:Name>Bob</mwg-rs:Name></rdf:li>"
    "</rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>"
)


@pytest.mark.parametrize(
    ("body", "people"),
    [
        (FACES, ("Ann Lee", "Bob")),
        (bag("Iptc4xmpExt:PersonInImage", "Ann Lee", "Bob"), ("Ann Lee", "Bob")),
        (
            "<MP:RegionInfo><rdf:Description><MPRI:Regions><rdf:Bag><rdf:li>"
            "<rdf:Description MPReg:PersonDisplayName='Ann Lee'/></rdf:li></rdf:Bag>"
            "</MPRI:Regions></rdf:Description></MP:RegionInfo>",
            ("Ann Lee",),
        ),
    ],
)
def test_names_of_people_are_keywords(body: str, people: tuple[str, ...]) -> None:
    names = (
        ("Iptc4xmpExt", "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"),
        ("mwg-rs", "http://www.metadataworkinggroup.com/schemas/regions/"),
        ("MP", "http://ns.microsoft.com/photo/1.2/"),
        ("MPRI", "http://ns.microsoft.com/photo/1.2/t/RegionInfo#"),
        ("MPReg", "http://ns.microsoft.com/photo/1.2/t/Region#"),
    )
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in names)
    embedded = packet(bag("dc:subject", "lake") + body, declared)
    assert xmp_facts(embedded).keywords == ("lake", *people)
    blocks = MetadataBlocks(None, (embedded,))
    without = read_facts(blocks, read_xmp(packet(bag("dc:subject", "sea") + body, declared)))
    assert without.keywords == ("sea",)
    assert read_facts(blocks, read_xmp(packet(""))).keywords == ("lake", *people)


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


def test_items_without_an_array_are_read() -> None:
    body = "<dc:subject><rdf:li>a</rdf:li><rdf:li>b</rdf:li></dc:subject>"
    facts = xmp_facts(packet(body + "<dc:title><rdf:li xml:lang='x-default'>T</rdf:li></dc:title>"))
    assert (facts.keywords, facts.title) == (("a", "b"), "T")


def test_ampersands_in_cdata_are_plain() -> None:
    facts = xmp_facts(packet("<dc:title><![CDATA[R&D &amp; <b>]]> &amp; more</dc:title>"))
    assert facts.title == "R&D &amp; <b> & more"


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
