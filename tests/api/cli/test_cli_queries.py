"""The query language on the command line."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import pytest
from made_library import Argument, Library, Outcome, regard

sys.path.append(str(Path(__file__).parents[1] / "http"))

from made_service import jpeg, png

_DAY = datetime.datetime(2024, 5, 17, 8, 30)
_COLOURS = ("red", "blue", "green", "yellow")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    made = Library(tmp_path_factory.mktemp("queries"))
    for number, colour in enumerate(_COLOURS):
        taken = _DAY + datetime.timedelta(days=31 * number)
        place = (52.5, 13.4 + number) if number < 2 else None
        folder = made.photos / ("2024" if number < 2 else "other") / "trip"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{colour}.jpg").write_bytes(
            jpeg(colour, taken=taken, make="Canon", model=f"EOS {number}", place=place, seed=number)
        )
    (made.photos / "undated.png").write_bytes(png("red", "blue", seed=9))
    made.index()
    return made


def names(outcome: Outcome) -> list[str]:
    assert outcome.code == 0, outcome
    return [Path(hit["asset"]["uri"]).stem for hit in outcome.document["hits"]]


def search(library: Library, *arguments: Argument) -> Outcome:
    return library.run("search", *arguments, "--json")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("red taken:2024-05", ["red"]),
        ("taken:2024", ["yellow", "green", "blue", "red"]),
        ("taken:2024-06..2024-07", ["green", "blue"]),
        ("has:date -taken:2024-06..2024-07", ["yellow", "red"]),
        (" -has:date", ["undated"]),
        ("has:gps", ["blue", "red"]),
        ("near:52.5,13.4,10km", ["red"]),
        ("within:13,52,15,53 -near:52.5,13.4,10km", ["blue"]),
        ('camera:"canon eos 2" camera:"EOS 3"', ["yellow", "green"]),
        ("path:2024/trip", ["blue", "red"]),
        ("path:trip -path:2024", ["yellow", "green"]),
        ("path:green.jpg", ["green"]),
        ("path:rip", []),
        ('orientation:landscape -camera:"EOS 0" has:camera', ["yellow", "green", "blue"]),
        ("width:>24", []),
    ],
)
def test_filters(library: Library, query: str, expected: list[str]) -> None:
    found = search(library, query)
    assert names(found) == expected
    assert found.document["matched"] == bool(expected)


def test_an_absolute_path(library: Library) -> None:
    assert names(search(library, f"path:{library.photos}/2024")) == ["blue", "red"]
    assert names(search(library, f"path:{library.photos}/20")) == []


def test_filters_alone_are_a_list_in_pages(library: Library) -> None:
    whole = search(library, "has:date", "--limit", "100").document
    assert whole["query"] == {
        "target": "image",
        "query": "has:date",
        "parts": [{"field": "has", "value": "date", "negative": False, "position": 0, "length": 8}],
    }
    for rank, hit in enumerate(whole["hits"], 1):
        assert (hit["rank"], hit["score"], hit["region"], hit["channels"]) == (rank, 0.0, None, [])
    assert whole["hits"][:2] == search(library, "has:date", "--limit", "2").document["hits"]


def test_a_list_for_people(library: Library) -> None:
    shown = library.run("search", "has:gps")
    rows = [line.split() for line in shown.out.decode().splitlines()[1:]]
    # A number, and at once the id: there is no score.
    assert [(row[0], row[1][0], Path(row[2]).name) for row in rows] == [
        ("1", "a", "blue.jpg"),
        ("2", "a", "red.jpg"),
    ]
    assert library.run("search", "tag:nowhere").out == b"nothing passes the filters\n"


def test_a_plain_text_is_what_it_was(library: Library) -> None:
    """Neither the terms nor the answer of a mere text say anything of a language."""
    plain = search(library, "a red bus at 10:30").document
    assert plain["query"] == {"text": "a red bus at 10:30", "target": "image"}
    lines = regard(
        "search", "--queries", _written(library, "a red bus at 10:30"), "--home", library.home
    ).lines
    assert lines[0]["hits"] == plain["hits"]


def test_lines_of_queries_are_never_parsed(library: Library) -> None:
    for text in ("red tag:x", '"red', "-red", "taken:never"):
        outcome = regard("search", "--queries", _written(library, text), "--home", library.home)
        (line,) = outcome.lines
        assert line["query"] == {"text": text, "target": "image"}
        assert len(line["hits"]) == len(_COLOURS) + 1


def _written(library: Library, line: str) -> Path:
    file = library.photos.parent / "queries.txt"
    file.write_text(line + "\n")
    return file


def test_options_add_terms(library: Library) -> None:
    red = library.photos / "2024" / "trip" / "red.jpg"
    yellow = library.photos / "other" / "trip" / "yellow.jpg"
    found = search(
        library, f'blue -image:"{yellow}"^1', "--image", red, "--box", "0,0,9,9",
        "--like", "a5",
    ).document  # fmt: skip
    assert found["query"] == {
        "text": "blue",
        "negative_image": str(yellow),
        "image": str(red),
        "box": [0, 0, 9, 9],
        "like": "a5",
        "weights": {"text": 1.0, "negative_image": 1.0, "image": 1.0, "like": 1.0},
        "target": "image",
        "query": f'blue -image:"{yellow}"^1',
        "parts": [
            {
                "text": "blue", "phrase": False, "weight": 1.0, "negative": False,
                "position": 0, "length": 4,
            },
            {
                "image": str(yellow), "weight": 1.0, "negative": True,
                "position": 5, "length": len(str(yellow)) + 11,
            },
        ],
    }  # fmt: skip
    assert "a5" not in {hit["asset"]["id"] for hit in found["hits"]}
    # The same said in the language alone.
    said = f'blue -image:"{yellow}"^1 box:"{red},0,0,9,9" like:a5'
    assert search(library, said).document["hits"] == found["hits"]


def test_terms_count(library: Library) -> None:
    red, blue = (library.photos / "2024" / "trip" / f"{name}.jpg" for name in ("red", "blue"))
    assert names(search(library, f"image:{red}^9 image:{blue}"))[0] == "red"
    assert names(search(library, f"image:{red} image:{blue}^9"))[0] == "blue"
    assert names(search(library, "red -blue^1"))[0] == "red"
    assert names(search(library, "red^0.1 blue^5"))[0] == "blue"
    regions = search(library, f'"red" -like:r5 box:"{red},0,0,9,9"', "--target", "region")
    assert all(hit["region"] for hit in regions.document["hits"])


@pytest.mark.parametrize(
    ("query", "place", "message"),
    [
        ("red tags:x", "    ^^^^^", "there is no field tags; write tag:,"),
        ('a "red', "  ^", "the quote that starts here is not closed"),
        ("taken:2024-13", "      ^^^^^^^", "'2024-13' is not a date"),
        ("日本 tags:x", "     ^^^^^", "there is no field tags"),
        ("a\ttags:x", "   ^^^^^", "there is no field tags"),
        ("x" * 200 + " tags:x", " " * 61 + "^^^^^", "there is no field tags"),
    ],
)
def test_errors_point_at_the_place(library: Library, query: str, place: str, message: str) -> None:
    here = library.run("search", query, "--json")
    assert (here.code, here.out) == (2, b"")
    sentence, shown, marks = here.err.splitlines()
    assert sentence.startswith(f"regard: {message}")
    assert (shown[:2], marks) == ("  ", "  " + place)


def test_a_box_beside_its_picture_is_pointed_at(library: Library) -> None:
    inside, outside = (f"box:{library.photos}/undated.png,{x},0,5,5" for x in (0, 9999))
    message = "the box lies outside the picture of"
    query = f"日本 {inside} {outside}"
    sentence, shown, marks = library.run("search", query).err.splitlines()
    assert sentence.startswith(f"regard: {message}")
    assert shown.endswith(outside[:60])
    assert len(marks.strip()) == min(len(outside), 60)
    # An option is not part of the text.
    option = ("--image", library.photos / "undated.png", "--box", "9999,0,5,5")
    library.run("search", "a", *option).expect_sentence(2, message)


def test_a_query_that_begins_with_a_minus_stands_behind_two(library: Library) -> None:
    given = ("search", "--home", library.home, "--")
    assert regard(*given, "-blue red").code == 0
    for query in ("-night", "-like:a1 has:date"):
        regard(*given, query).expect_sentence(2, "only negative terms")
