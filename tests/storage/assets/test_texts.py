"""Text in pictures in the catalog: readings, their lines, and the search for their words."""

from __future__ import annotations

from itertools import pairwise

import pytest
from catalog_samples import Home, attach, header, save
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, update

from regard.core.catalog import WORD_FIELDS, Words
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.texts import Reading, TextLine
from regard.storage.assets.reading import SqlAssetReading
from regard.storage.assets.texts import SqlTexts
from regard.storage.database import schema
from regard.storage.retrieval.keywords import SqlKeywordSearch
from regard.storage.retrieval.read_words import (
    rebuild_read_words,
    similar_words,
    verify_read_words,
)

LETTERS = st.text("abcxyz019", min_size=1, max_size=8)


def line(text: str, y: int = 0) -> TextLine:
    return TextLine(text, ((1, y), (21, y), (21, y + 5), (1, y + 5)), 0.9)


def numbers(home: Home) -> dict[str, int]:
    """The ids of contents by their names."""
    known = {header(name).sha256: name for name in "abcdef"}
    return {known[row.sha256]: row.id for row in home.rows(schema.content)}


def read(home: Home, spec: str = "reader-1", **readings: Reading) -> None:
    ids = numbers(home)
    store = SqlTexts(home.catalog, home.pipeline, spec)
    store.save({ids[name]: reading for name, reading in readings.items()})


def find(
    home: Home, *words: str, phrase: bool = False, chosen: AssetFilter = EVERYTHING
) -> set[tuple[str, str]]:
    """(name of the content, field) of the lines with one of the words."""
    asked = [Words(words, exact=True)] if phrase else [Words((word,)) for word in words]
    (found,) = SqlKeywordSearch(home.catalog, home.pipeline).find([asked], chosen)
    names = {number: name for name, number in numbers(home).items()}
    lines = {row.id for row in home.rows(schema.text_line)}
    return {
        (names[content], WORD_FIELDS[field].value)
        for content, field, region in zip(
            found.contents.tolist(), found.fields.tolist(), found.regions.tolist(), strict=True
        )
        if region in lines
    }


@pytest.fixture
def photographs(home: Home) -> None:
    with home.writing() as writer:
        for name in "abc":
            save(writer, f"/p/{name}.jpg", name)


@pytest.mark.usefixtures("photographs")
def test_each_content_is_read_once_by_each_reader(home: Home) -> None:
    store = SqlTexts(home.catalog, home.pipeline, "reader-1")
    waiting = store.unread(0, 10)
    assert [content.files[0].path for content in waiting] == [b"/p/a.jpg", b"/p/b.jpg", b"/p/c.jpg"]
    read(home, a=[line("Hello")], b=[], c="it can't be read")
    assert (store.count_unread(), store.unread(0, 10)) == (0, [])
    assert store.failures() == [("/p/c.jpg", "it can't be read")]
    later = SqlTexts(home.catalog, home.pipeline, "reader-2")
    assert later.count_unread() == 3
    assert find(home, "hello") == {("a", "text")}
    read(home, "reader-2", a=[line("Goodbye")], c=[line("Hello")])
    assert find(home, "hello") == {("c", "text")}
    assert find(home, "goodbye") == {("a", "text")}
    assert later.count_unread() == 1


@pytest.mark.usefixtures("photographs")
def test_words_are_found_as_read_or_as_similar_ones(home: Home) -> None:
    read(
        home,
        a=[line("FRESH Coffee"), line("2 buns", 9)],
        b=[line("C0ffee; cofee")],
        c=[line("Café")],
    )
    assert find(home, "coffee") == {("a", "text"), ("b", "similar_text")}
    assert find(home, "cofffe") == {("a", "similar_text")}
    assert find(home, "bun") == {("a", "text")}
    assert find(home, "cafe") == {("c", "text")}
    # Short words, and exact ones, are found only as they are.
    assert find(home, "coffe") == set()
    assert find(home, "cofee", phrase=True) == {("b", "text")}
    assert find(home, "fresh", "coffee", phrase=True) == {("a", "text")}
    assert find(home, "coffee", "fresh", phrase=True) == set()


@pytest.mark.usefixtures("photographs")
def test_words_are_found_in_other_spellings_and_numbers(home: Home) -> None:
    read(home, a=[line("Hauptstraße 5")], b=[line("GOETHESTRASSE")], c=[line("Bakery Mueller")])
    assert find(home, "hauptstrasse") == {("a", "text")}
    assert find(home, "goethestraße") == {("b", "text")}
    assert find(home, "bakeries") == find(home, "müller") == {("c", "text")}
    read(home, "reader-2", a=[line("Cherries")])
    assert find(home, "cherry") == {("a", "text")}


@pytest.mark.usefixtures("photographs")
def test_filters_and_the_trash_hold_for_text(home: Home) -> None:
    with home.writing("other") as writer:
        attach(writer, "/q/b.jpg", "b")
    read(home, a=[line("harbour")], b=[line("harbour")])
    assert find(home, "harbour", chosen=AssetFilter(collections=("other",))) == {("b", "text")}
    with home.writing() as writer:
        writer.remove(list(writer.known_assets(b"/p/a.jpg")))
    assert find(home, "harbour") == {("b", "text")}
    assert {row.word for row in home.rows(schema.read_word)} == {"harbour"}
    assert len(home.rows(schema.reading)) == 1


@pytest.mark.usefixtures("photographs")
def test_a_deleted_content_is_left_out_of_what_is_saved(home: Home) -> None:
    ids = numbers(home)
    with home.writing() as writer:
        writer.remove(list(writer.known_assets(b"/p/a.jpg")))
    store = SqlTexts(home.catalog, home.pipeline, "reader-1")
    store.save({ids["a"]: [line("gone")], ids["b"]: [line("here")]})
    assert [row.text for row in home.rows(schema.text_line)] == ["here"]


@pytest.mark.usefixtures("photographs")
def test_lines_are_regions_whose_ids_no_segment_gets(home: Home) -> None:
    read(home, a=[line("one"), line("two", 9)])
    with home.writing() as writer:
        save(writer, "/p/d.jpg", "d")
    read(home, d=[line("three")])
    lines = [row.id for row in home.rows(schema.text_line)]
    segments = [row.id for row in home.rows(schema.region)]
    assert len({*lines, *segments}) == len(lines) + len(segments)
    reading = SqlAssetReading(home.catalog, home.pipeline)
    region, asset = reading.region(lines[1])
    assert (region.text, region.box.to_list(), region.area) == ("two", [1, 9, 20, 5], 100)
    assert asset.path == b"/p/a.jpg"
    assert reading.detail(asset.id).texts[1] == region
    mask = reading.mask(lines[1])
    assert (mask.height, mask.width) == (30, 40)


@pytest.mark.usefixtures("photographs")
def test_new_text_is_found_though_its_word_was_just_searched(home: Home) -> None:
    keywords = SqlKeywordSearch(home.catalog, home.pipeline)
    asked = [[Words(("harbour",))]]
    assert not len(keywords.find(asked, EVERYTHING)[0].contents)
    read(home, a=[line("harbour")])
    assert len(keywords.find(asked, EVERYTHING)[0].contents) == 1


@pytest.mark.usefixtures("photographs")
def test_text_leaves_with_its_reading(home: Home) -> None:
    read(home, a=[line("harbour")])
    with home.catalog.database.writing() as connection:
        connection.execute(delete(schema.text_line))
    assert home.rows(schema.read_word) == []


@pytest.mark.usefixtures("photographs")
def test_damage_to_the_words_is_found_and_mended(home: Home) -> None:
    read(home, a=[line("old harbour"), line("pier", 9)])
    database = home.catalog.database
    assert verify_read_words(database) == []
    with database.writing() as connection:
        connection.execute(delete(schema.read_word).where(schema.read_word.c.word == "harbour"))
        connection.execute(update(schema.reading).values(line_count=7))
    assert [finding.message for finding in verify_read_words(database)] == [
        "1 lines of text have other words than those in the index",
        "1 readings do not count their lines right",
    ]
    assert find(home, "harbour") == set()
    rebuild_read_words(database)
    assert verify_read_words(database) == []
    assert find(home, "harbour") == {("a", "text")}


@given(LETTERS, LETTERS)
def test_similar_words_are_those_at_distance_one(word: str, other: str) -> None:
    assert (other in similar_words(word)) == (_distance(word, other) == 1)


def _distance(first: str, second: str) -> int:
    """Damerau's distance with neighbours swapped at most once (optimal string alignment)."""
    rows = [[*range(len(second) + 1)]]
    for down, letter in enumerate(first, 1):
        row = [down]
        for across, other in enumerate(second, 1):
            steps = [
                row[-1] + 1,
                rows[-1][across] + 1,
                rows[-1][across - 1] + (letter != other),
            ]
            if down > 1 and across > 1 and (first[down - 2], letter) == (other, second[across - 2]):
                steps.append(rows[-2][across - 2] + 1)
            row.append(min(steps))
        rows.append(row)
    return rows[-1][-1]


def test_the_distance_of_the_test_is_right() -> None:
    for words in pairwise(["coffee", "cofee", "cofees", "cfoees", "cfoe5s"]):
        assert _distance(*words) == 1
