"""Metadata on its way into the catalog and out of searches: partial dates, letters, sidecars."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from made_library import Library, regard

PACKET = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
 {attributes}><dc:subject><rdf:Bag><rdf:li>{keyword}</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta>"""
DATES = {
    "year": "1985",
    "month": "1985-07",
    "day": "1985-07-04",
    "time": "1985-07-04T12:30:00",
    "january": "1985-01-01T00:00:00",
    "other": "1986-07-04",
}


def packet(keyword: str = "k", date: str | None = None) -> str:
    attributes = "" if date is None else f'photoshop:DateCreated="{date}"'
    return PACKET.format(attributes=attributes, keyword=keyword)


def found(library: Library, query: str, *options: str) -> list[str]:
    answer = library.run("search", query, "--limit", "50", "--json", *options).document
    return [Path(hit["asset"]["uri"]).stem for hit in answer["hits"]]


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Library:
    library = Library(tmp_path_factory.mktemp("dated"))
    for number, (name, date) in enumerate(DATES.items()):
        library.photo(f"{name}.png", number)
        (library.photos / f"{name}.xmp").write_text(packet(date=date))
    library.index()
    return library


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("taken:1985", "year month day time january"),
        ("taken:1980..1989", "year month day time january other"),
        ("taken:1985-07", "month day time"),
        ("taken:1985-01", "january"),
        ("taken:1985-01-01", "january"),
        ("taken:1985-07-04", "day time"),
        ("taken:1985-07-04T12:30", "time"),
        ("taken:<1985-07", "january"),
        ("taken:>=1985-07", "month day time other"),
        ("has:date -taken:1985", "other"),
        ("has:date", "year month day time january other"),
    ],
)
def test_partial_dates_are_found_by_what_they_certainly_lie_in(
    dated: Library, query: str, names: str
) -> None:
    assert set(found(dated, query)) == set(names.split())


def test_partial_dates_are_listed_near_their_time(dated: Library) -> None:
    listed = found(dated, "taken:1980..1990")
    assert listed[0] == "other"
    assert set(listed[-2:]) == {"year", "january"}


def test_letters_written_in_parts_and_composed_are_the_same(tmp_path: Path) -> None:
    library = Library(tmp_path)
    for number, form in enumerate(("NFC", "NFD")):
        folder = unicodedata.normalize(form, "Z\u00fcrich")
        library.photo(f"{form}/{folder}/{form}.png", number)
        keyword = unicodedata.normalize(form, "B\u00e4ume")
        (library.photos / form / folder / f"{form}.xmp").write_text(packet(keyword))
    collection = "\u00c4rger"
    library.run(
        "index", str(library.photos), "--collection", unicodedata.normalize("NFD", collection)
    )
    for form in ("NFC", "NFD"):
        for query in (
            "path:Z\u00fcrich",
            f"path:{library.photos}/NFD/Z\u00fcrich",
            "tag:B\u00e4ume",
            f"collection:{collection}",
            "has:tag -tag:B\u00e4ume",
        ):
            expected = {"NFC", "NFD"}
            if "/NFD/" in query:
                expected = {"NFD"}
            elif query.startswith("has"):
                expected = set()
            assert set(found(library, unicodedata.normalize(form, query))) == expected, query
        named = unicodedata.normalize(form, collection)
        assert len(found(library, "has:tag", "--collection", named)) == 2


def test_sidecars_that_are_not_read_whole_are_counted(tmp_path: Path) -> None:
    library = Library(tmp_path)
    sidecars = {
        "sound": packet("sound"),
        "cut": packet("cut")[: packet("cut").index("</rdf:Description>")],
        "rubbish": "rubbish",
        "bare": packet("a & b"),
    }
    for number, (name, text) in enumerate(sidecars.items()):
        library.photo(f"{name}.png", number)
        (library.photos / f"{name}.xmp").write_text(text)
    outcome = regard("index", str(library.photos), "--home", str(library.home), "--profile", "fake")
    assert "sidecars that could not be read, or only in part: 3" in outcome.err
    assert found(library, "tag:cut") == ["cut"]
    assert found(library, 'tag:"a & b"') == ["bare"]
    again = library.index()
    assert (again["damaged_sidecars"], again["failed"]) == (0, 0)
    (library.photos / "rubbish.xmp").write_text("other rubbish")
    assert library.index()["damaged_sidecars"] == 1
