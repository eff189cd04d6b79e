"""`regard search --explain`."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_library import Library, Outcome


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    made = Library(tmp_path_factory.mktemp("explained"))
    made.photo("harbour/IMG_0007_old-ferry.png", 1, "red", "blue")
    made.photo("harbour/b.png", 2, "green")
    made.photo("town/c.png", 3, "red", "yellow")
    made.index()
    return made


def paragraphs(outcome: Outcome) -> list[list[str]]:
    """The lines about each hit."""
    assert outcome.code == 0, outcome
    found: list[list[str]] = []
    for line in outcome.out.decode().splitlines():
        if not line.startswith(" "):
            found.append([])
        found[-1].append(line.rstrip())
    return found


def test_each_channel_says_its_part(library: Library) -> None:
    asked = ("search", "a red ferry in the harbour")
    hits = library.search(*asked[1:])
    explained = paragraphs(library.run(*asked, "--explain"))
    assert len(explained) == len(hits) == 3
    for hit, (head, summary, *parts) in zip(hits, explained, strict=True):
        assert head == f"{hit['rank']}. {hit['asset']['uri']}"
        assert summary.startswith(f"   score {hit['score']:.4f}")
        assert len(parts) == len(hit["channels"])
        for match in hit["channels"]:
            line = next(line for line in parts if f"{match['kind']} #{match['rank']}," in line)
            assert f"{match['contribution']:.4f}" in line
            assert f"{match['score']:.3f}" in line
        shares = [int(line.split("%")[0]) for line in parts]
        assert shares == sorted(shares, reverse=True)
        assert 97 <= sum(shares) <= 103
    first = explained[0]
    assert first[0].endswith("IMG_0007_old-ferry.png")
    (words,) = (line for line in first if "keyword #1" in line)
    assert "“ferry” in the file's name" in words
    assert "“harbour” in a folder's name" in words
    (part,) = (line for line in first if "region #" in line)
    region = hits[0]["region"]
    assert f"{region['id']} at {','.join(map(str, region['bbox']))}" in part
    (caption,) = (line for line in first if "caption #" in line)
    assert hits[0]["asset"]["caption"] in caption


def test_what_explain_does_not_go_with(library: Library, tmp_path: Path) -> None:
    queries = tmp_path / "queries.txt"
    queries.write_text("red\n")
    for other in (["--json"], ["--paths"], ["--preview"]):
        library.run("search", "red", "--explain", *other).expect_sentence(2, "exclude each other")
    outcome = library.run("search", "--queries", queries, "--explain")
    outcome.expect_sentence(2, "--queries answers in JSON")


def test_where_nothing_is_to_be_explained(tmp_path: Path) -> None:
    made = Library(tmp_path)
    made.photo("a.png", 1, "red")
    made.index()
    made.run("remove", made.photos)
    outcome = made.run("search", "red", "--explain")
    assert outcome.code == 0, outcome
    assert b"nothing" in outcome.out
