"""Annotations written into XMP packets, as regard and ExifTool read them back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_metadata import alternatives, bag, packet

from regard.core.annotations import Annotations
from regard.core.errors import DecodeError
from regard.core.facts import PhotoFacts
from regard.photos.metadata.blocks import MetadataBlocks
from regard.photos.metadata.reading import read_facts
from regard.photos.metadata.xmp import MAX_XMP_BYTES, read_xmp
from regard.photos.metadata.xmp_writing import says, writable, write_xmp

texts = st.text(max_size=20) | st.sampled_from(
    [
        "a|b",
        "a/b",
        "<!DOCTYPE x>",
        "&amp;",
        "]]>",
        "é",
        "e\u0301",
        " x ",
        "\ufffe",
        "\ud800",
        "\r\n",
    ]
)
annotations = st.builds(
    Annotations,
    st.none() | texts,
    st.none() | st.lists(texts, max_size=6).map(tuple),
    st.none() | st.integers(-1, 5),
    st.none() | st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
)
# What other programs leave, with attributes, hierarchies and several languages.
packets = st.sampled_from(
    [
        None,
        packet(""),
        packet(
            bag("dc:subject", "Paris") + bag("lr:hierarchicalSubject", "Places|France|Paris"),
            'xmp:Rating="1"',
        ),
        packet(
            bag("digiKam:TagsList", "a/b", "c") + alternatives("dc:title", de="T", x_default="U")
        ),
        packet(
            '<acdsee:categories>&lt;Categories&gt;&lt;Category Assigned="1"&gt;a'
            "&lt;/Category&gt;&lt;/Categories&gt;</acdsee:categories>"
        ),
        packet(
            '<mwg-kw:Keywords rdf:parseType="Resource"><mwg-kw:Hierarchy><rdf:Bag>'
            '<rdf:li rdf:parseType="Resource"><mwg-kw:Keyword>a</mwg-kw:Keyword></rdf:li>'
            "</rdf:Bag></mwg-kw:Hierarchy></mwg-kw:Keywords>"
        ),
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>',
    ]
)


def facts_of(sidecar: bytes, blocks: MetadataBlocks | None = None) -> PhotoFacts:
    return read_facts(blocks or MetadataBlocks(), read_xmp(sidecar))


@given(packets, annotations)
def test_what_is_written_is_read_back(former: bytes | None, said: Annotations) -> None:
    said = writable(said)
    written = write_xmp(former, said)
    facts = facts_of(written)
    if (
        said.position is not None
        and read_facts(
            MetadataBlocks(),
            read_xmp(write_xmp(None, Annotations(position=said.position))),
        ).latitude
        is None
    ):
        # 0, 0 is not a place.
        said = Annotations(said.title, said.keywords, said.rating)
    assert says(facts, said)
    assert read_xmp(written).is_whole
    assert facts_of(write_xmp(written, said)) == facts


@given(annotations, annotations)
def test_a_second_writing_replaces_the_first(first: Annotations, second: Annotations) -> None:
    written = write_xmp(write_xmp(None, writable(first)), writable(second))
    said = writable(second)
    assert says(facts_of(written), Annotations(said.title, said.keywords, said.rating))


OTHERS = packet(
    alternatives("dc:title", de="Alt", fr="Vieux", x_default="Old")
    + bag("dc:subject", "Paris", "sea")
    + bag("lr:hierarchicalSubject", "Places|France|Paris", "Nature|sea")
    + bag("digiKam:TagsList", "Places/France/Paris", "Nature/sea")
    + alternatives("dc:description", x_default="Words &amp; more")
    + "<xmpMM:History><rdf:Seq><rdf:li>saved</rdf:li></rdf:Seq></xmpMM:History>"
    + "<!-- a comment --><dc:rights><![CDATA[<mine>]]></dc:rights>",
    'xmp:Rating="2" exif:GPSLatitude="48,51.504N" exif:GPSLongitude="2,21.0E"',
)


def test_all_else_in_a_packet_stays() -> None:
    written = write_xmp(
        OTHERS,
        Annotations("New", ("Places", "France", "Paris", "Nature", "lake"), 4, (1.0, 2.0)),
    )
    text = written.decode()
    for kept in (
        "<!-- a comment -->",
        "<![CDATA[<mine>]]>",
        'id="W5M0MpCehiHzreSzNTczkc9d"',
        '<?xpacket end="w"?>',
        "saved",
        "Words &amp; more",
    ):
        assert kept in text
    properties, former = read_xmp(written).properties, read_xmp(OTHERS).properties
    changed = {name for name in former if properties.get(name) != former[name]}
    assert changed == {
        "dc:title",
        "dc:subject",
        "lr:hierarchicalSubject",
        "digiKam:TagsList",
        "xmp:Rating",
    }
    assert properties["dc:title"] == ["New", "Alt", "Vieux"]
    assert properties["lr:hierarchicalSubject"] == ["Places|France|Paris", "Nature", "lake"]
    assert properties["digiKam:TagsList"] == ["Places/France/Paris", "Nature", "lake"]
    assert properties["xmp:Rating"] == ["4"]
    # The sidecar's own place stays.
    assert properties["exif:GPSLatitude"] == ["48,51.504N"]


def test_a_packet_that_says_it_already_stays_as_it_is() -> None:
    said = Annotations("Old", ("sea", "Paris", "Nature", "Places", "France"), 2, (48.8584, 2.35))
    assert read_xmp(write_xmp(OTHERS, said)).properties == read_xmp(OTHERS).properties


def test_no_keywords_in_a_sidecar_hide_those_of_the_file() -> None:
    embedded = MetadataBlocks(xmp=(packet(bag("dc:subject", "a", "b")),))
    written = write_xmp(None, Annotations(keywords=()))
    assert facts_of(written, embedded).keywords == ()
    # A damaged sidecar may have lost them, and one without the property says nothing.
    assert facts_of(written.replace(b"</x:xmpmeta>", b""), embedded).keywords == ("a", "b")
    assert facts_of(write_xmp(None, Annotations("t")), embedded).keywords == ("a", "b")


@pytest.mark.parametrize(
    "damaged",
    [
        packet("<dc:title>x & y</dc:title>"),
        OTHERS[:-100],
        packet("<none:such>x</none:such>"),
        b"<!DOCTYPE x>" + packet(""),
        b"",
        b"a" * (MAX_XMP_BYTES + 1),
    ],
)
def test_a_damaged_packet_is_not_written(damaged: bytes) -> None:
    with pytest.raises(DecodeError, match="damaged"):
        write_xmp(damaged, Annotations("t"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_other_encodings_become_utf_8(encoding: str) -> None:
    text = '<?xml version="1.0"?>' + packet(bag("dc:subject", "é")).decode()
    written = write_xmp(text.encode(encoding), Annotations("ü"))
    assert (facts_of(written).title, facts_of(written).keywords) == ("ü", ("é",))
    assert written.startswith(b"<?xml")


@pytest.mark.skipif(
    shutil.which("exiftool") is None and "CI" not in os.environ,
    reason="run: apt-get install libimage-exiftool-perl",
)
@pytest.mark.parametrize("former", [None, OTHERS])
def test_exiftool_reads_what_is_written(tmp_path: Path, former: bytes | None) -> None:
    said = Annotations(
        'Tür & "Tor" <1>', ("lake", "日本", "a, b", "Zoë"), -1, (-33.856789, 151.2153)
    )
    sidecar = tmp_path / "photo.jpg.xmp"
    sidecar.write_bytes(write_xmp(former, said))
    run = subprocess.run(
        ["exiftool", "-j", "-n", "-G1", str(sidecar)], capture_output=True, check=True
    )
    (values,) = json.loads(run.stdout)
    assert former is not None or "ExifTool:Warning" not in values
    assert values["XMP-dc:Title"] == said.title
    assert values["XMP-dc:Subject"] == list(said.keywords or ())
    assert values["XMP-xmp:Rating"] == -1
    latitude, longitude = (values[f"XMP-exif:GPS{axis}"] for axis in ("Latitude", "Longitude"))
    expected = said.position if former is None else (48.8584, 2.35)
    assert (latitude, longitude) == pytest.approx(expected, abs=1e-8)
    if former is not None:
        assert values["XMP-dc:Description"] == "Words & more"
        assert values["XMP-lr:HierarchicalSubject"] == ["lake", "日本", "a, b", "Zoë"]
