"""Queries as people type them: words that every photograph has, names of files, other scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_library import Library, regard
from PIL import Image

_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    'rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title><rdf:Alt>'
    '<rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt></dc:title>'
    "<dc:subject><rdf:Bag><rdf:li>{}</rdf:li></rdf:Bag></dc:subject>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def photograph(path: Path, seed: int, title: str | None = None, tag: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    picture = Image.fromarray(noise).resize((64, 48))
    picture.save(path, **({} if title is None else {"xmp": _XMP.format(title, tag).encode()}))


def index(library: Library, profile: str) -> None:
    outcome = library.run("index", library.photos, "--profile", profile)
    assert outcome.code == 0, outcome


def answer(library: Library, *arguments: str) -> dict[str, Any]:
    outcome = regard("search", "--home", library.home, "--json", *arguments)
    assert outcome.code == 0, outcome
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def batch(library: Library, queries: list[str]) -> list[dict[str, Any]]:
    file = library.home.parent / "queries.txt"
    file.write_text("\n".join(queries))
    outcome = library.run("search", "--queries", file, "--json", "--limit", "9")
    assert outcome.code == 0, outcome
    return [json.loads(line) for line in outcome.out.splitlines()]


def names(found: dict[str, Any]) -> list[str]:
    return [hit["asset"]["uri"].rsplit("/", 1)[-1] for hit in found["hits"]]


@pytest.fixture(scope="module")
def event(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """All photographs of a home, with one title, one tag and one folder."""
    library = Library(tmp_path_factory.mktemp("event"))
    for number in range(3):
        path = library.photos / "Harbour" / f"IMG_{number}.jpg"
        photograph(path, number, f"Wedding of Zaphod {number}", "wedding")
    index(library, "lite")
    return library


@pytest.mark.parametrize(
    "query", ["zaphod", "wedding", "harbour", "wedding of zaphod", '"wedding of zaphod"']
)
def test_words_that_every_photograph_has_match_all(event: Library, query: str) -> None:
    found = answer(event, query)
    assert found["matched"]
    assert len(found["hits"]) == 3
    for hit in found["hits"]:
        assert "keyword" in {match["kind"] for match in hit["channels"]}


def test_one_photograph_matches_its_own_name(tmp_path: Path) -> None:
    library = Library(tmp_path)
    photograph(library.photos / "Zaphod.jpg", 1)
    index(library, "lite")
    assert answer(library, "zaphod")["matched"]
    assert not answer(library, "trillian")["matched"]


def test_absent_things_still_match_nothing(event: Library) -> None:
    assert not answer(event, "a submarine")["matched"]


@pytest.fixture(scope="module")
def roll(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """A camera's roll in two folders, one of whose photographs has a title."""
    library = Library(tmp_path_factory.mktemp("roll"))
    for number in range(60):
        folder = "Zürich" if number % 2 else "DCIM"
        title = "A red letter day" if number == 7 else None
        photograph(library.photos / folder / f"IMG_{number:04}.JPG", 100 + number, title)
    index(library, "fake")
    return library


def test_the_name_of_a_file_finds_it_first(roll: Library) -> None:
    queries = [
        (number, query)
        for number in range(60)
        for query in (
            f"IMG_{number:04}.JPG",
            f"img_{number:04}",
            f"{number:04}",
            f"IMG {number:04}",
        )
    ]
    lines = batch(roll, [query for _, query in queries])
    assert len(lines) == len(queries)
    for (number, query), found in zip(queries, lines, strict=True):
        assert names(found)[0] == f"IMG_{number:04}.JPG", query
        assert found["matched"], query


_NAMES = {
    "IMG_0001.jpg": "IMG_0001.jpg",
    "IMG_0001.png": "IMG_0001.png",
    "img0001.PNG": "IMG_0001.png",
    "IMG_0001 (1)": "IMG_0001 (1).jpg",
    "IMG_0001 (1).jpg": "IMG_0001 (1).jpg",
    "IMG_0001-edited": "IMG_0001-edited.jpg",
    "DSC01234": "DSC01234.jpg",
    "01234": "DSC01234.jpg",
    "2023-05-12 14.30.55": "2023-05-12 14.30.55.jpg",
    "Photo 12": "Photo 12.jpg",
    "12": "12.jpg",
    "a.b-c d": "a.b-c d.jpg",
    "Zu\u0308rich": "Zürich.jpg",
    "ZÜRICH.JPG": "Zürich.jpg",
    "猫": "猫.jpg",
    "the": "the.jpg",
}


def test_an_exact_name_comes_before_names_that_contain_it(oddly_named: Library) -> None:
    found = batch(oddly_named, [*_NAMES])
    first = {query: names(line)[0] for query, line in zip(_NAMES, found, strict=True)}
    assert first == _NAMES
    # The query language reads names alike.
    for query in ("IMG_0001 (1).jpg", "2023-05-12 14.30.55", "a.b-c d"):
        assert names(answer(oddly_named, query))[0] == _NAMES[query]
    assert names(answer(oddly_named, '"the"'))[0] == "the.jpg"


def test_names_that_share_a_stem_come_first_together(oddly_named: Library) -> None:
    found = names(answer(oddly_named, "IMG_0001"))
    assert set(found[:2]) == {"IMG_0001.jpg", "IMG_0001.png"}
    assert set(found[2:4]) == {"IMG_0001 (1).jpg", "IMG_0001-edited.jpg"}


def test_a_whole_name_is_explained(oddly_named: Library) -> None:
    (hit,) = answer(oddly_named, "img_0001.png", "--limit", "1")["hits"]
    (words,) = (match["words"] for match in hit["channels"] if match["kind"] == "keyword")
    assert {"text": "img 0001 png", "field": "file_name"} in words


@pytest.fixture(scope="module")
def oddly_named(tmp_path_factory: pytest.TempPathFactory) -> Library:
    library = Library(tmp_path_factory.mktemp("odd"))
    stems = (
        "IMG_0001|IMG_0001 (1)|IMG_0001-edited|DSC01234|2023-05-12 14.30.55|Photo 12|Image 12|12"
    )
    stems += "|a.b-c d|d c b a|Zürich|Zürich 2|猫|猫 2|the|the end|cat"
    for number, stem in enumerate(stems.split("|")):
        photograph(library.photos / f"{stem}.jpg", 400 + number)
    photograph(library.photos / "IMG_0001.png", 500)
    index(library, "fake")
    return library


@pytest.mark.parametrize("query", ["a cat", "cats", "the cat and a dog"])
def test_a_sentence_is_no_name_of_a_file_with_one_of_its_words(
    oddly_named: Library, query: str
) -> None:
    found = answer(oddly_named, query, "--limit", "30")
    (cat,) = (hit for hit in found["hits"] if hit["asset"]["uri"].endswith("/cat.jpg"))
    named = answer(oddly_named, "cat")["hits"][0]
    assert named["asset"]["uri"].endswith("/cat.jpg")
    assert cat["score"] < named["score"] / 2


@pytest.mark.parametrize("query", ["zurich", "Zürich", "Zu\u0308rich"])
def test_the_name_of_a_folder_finds_its_photographs_first(roll: Library, query: str) -> None:
    found = answer(roll, query, "--limit", "40")
    assert {hit["asset"]["uri"].split("/")[-2] for hit in found["hits"][:30]} == {"Zürich"}


def test_a_whole_title_comes_before_what_looks_like_it(roll: Library) -> None:
    assert names(answer(roll, "a red letter day"))[0] == "IMG_0007.JPG"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Library:
    library = Library(tmp_path_factory.mktemp("scripts"))
    for number in range(3):
        photograph(library.photos / f"{number}.jpg", 200 + number)
    photograph(library.photos / "tokyo.jpg", 300, "東京タワー", "夜景")
    index(library, "lite")
    return library


@pytest.mark.parametrize(
    "query", ["猫", "고양이", "кошка", "❤️", "😀", "$", "?!", "xqzt", "猫 -cat"]
)
def test_what_the_models_cannot_read_matches_nothing_and_says_so(
    scripts: Library, query: str
) -> None:
    found = answer(scripts, "--", query)
    assert not found["matched"]
    assert found["hits"] == []
    assert found["unknown_words"] == [query.removesuffix(" -cat")]
    shown = regard("search", "--home", scripts.home, "--", query).out.decode()
    assert "nothing here matches" in shown
    assert "can't read" in shown


@pytest.mark.parametrize("query", ["東京タワー", "夜景", '"東京タワー"', "夜景 -猫"])
def test_titles_and_tags_in_any_script_are_found(scripts: Library, query: str) -> None:
    found = answer(scripts, "--", query)
    assert found["matched"]
    assert names(found) == ["tokyo.jpg"]


def test_the_known_part_of_a_query_is_searched(scripts: Library) -> None:
    plain, mixed = answer(scripts, "a cat"), answer(scripts, "a 猫 cat")
    assert mixed["unknown_words"] == ["猫"]
    assert "unknown_words" not in plain
    scores = [
        [m["score"] for hit in found["hits"] for m in hit["channels"] if m["kind"] != "keyword"]
        for found in (plain, mixed)
    ]
    assert scores[0] == pytest.approx(scores[1])


@pytest.mark.parametrize(
    ("query", "unknown"),
    [
        ("我的cat照片", ["我的", "照片"]),
        ("cat😀", ["😀"]),
        ("a cat 👩🏽\u200d🚀 ❤️", ["👩🏽\u200d🚀", "❤️"]),
        ("a cat — it’s asleep, $5…", []),
        ("a cat at 20° & 30%", []),
        ("Katze auf Böden", []),
        ("cat -猫", ["猫"]),
        ("Кошка^2 cat", ["кошка"]),
    ],
)
def test_what_is_not_understood_is_told_and_left_out(
    scripts: Library, query: str, unknown: list[str]
) -> None:
    found = answer(scripts, "--", query)
    assert found.get("unknown_words", []) == unknown
    assert len(found["hits"]) == 4


def test_a_picture_is_searched_beside_a_text_that_is_not_understood(scripts: Library) -> None:
    picture = str(scripts.photos / "2.jpg")
    alone, both = answer(scripts, "--image", picture), answer(scripts, "猫", "--image", picture)
    assert both["unknown_words"] == ["猫"]
    assert names(both)[0] == names(alone)[0] == "2.jpg"


def test_no_region_is_found_by_a_text_that_is_not_understood(scripts: Library) -> None:
    found = answer(scripts, "猫", "--target", "region")
    assert (found["matched"], found["hits"]) == (False, [])
    assert found["unknown_words"] == ["猫"]


def test_full_width_letters_are_letters(scripts: Library) -> None:
    plain, wide = answer(scripts, "CAT"), answer(scripts, "ＣＡＴ")
    assert names(plain) == names(wide)
    assert [hit["relevance"] for hit in plain["hits"]] == [hit["relevance"] for hit in wide["hits"]]


def test_a_batch_answers_each_query_as_alone(scripts: Library) -> None:
    queries = ["a cat", "猫", "夜景", "$", "a dog"]
    for query, found in zip(queries, batch(scripts, queries), strict=True):
        alone = answer(scripts, query)
        assert found.get("unknown_words") == alone.get("unknown_words")
        assert found["matched"] == alone["matched"]
        assert names(found) == names(alone)
