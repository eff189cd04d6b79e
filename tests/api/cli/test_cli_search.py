"""`regard search`: its outputs, their shapes, and how many hits there are."""

from __future__ import annotations

import codecs
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_library import Library, Outcome, regard, regard_process, write_photo

from regard.photos.files import uri_of_path

_COUNT = 24


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    made = Library(tmp_path_factory.mktemp("search"))
    for number in range(_COUNT):
        made.photo(f"{number:02}.png", number)
    made.index()
    return made


_NUMBER = (int, float)
_HIT = {
    "rank": int,
    "score": _NUMBER,
    "relevance": (type(None), *_NUMBER),
    "asset": dict,
    "region": (type(None), dict),
    "channels": list,
}
_ASSET = {"id": str, "uri": str, "width": int, "height": int, "caption": (str, type(None))}
_REGION = {"id": str, "bbox": list, "area": int, "caption": (str, type(None))}
_RANKED = {"kind": str, "rank": int, "score": _NUMBER, "contribution": _NUMBER}
_VECTOR_CHANNEL = {"space": str, **_RANKED}
_KEYWORD_CHANNEL = {**_RANKED, "words": list}


def _is(value: dict[str, Any], form: dict[str, Any]) -> None:
    assert list(value) == list(form)
    for name, kinds in form.items():
        assert isinstance(value[name], kinds), (name, value[name])
        assert not isinstance(value[name], bool)


def _check_answer(document: dict[str, Any], query: dict[str, Any], target: str, limit: int) -> None:
    assert list(document) == ["query", "took_ms", "matched", "relevance_source", "hits"]
    assert document["query"] == {**query, "target": target}
    assert document["took_ms"] > 0
    assert document["matched"] is bool(document["hits"])
    assert len(document["hits"]) <= limit
    for rank, hit in enumerate(document["hits"], start=1):
        _is(hit, _HIT)
        assert hit["rank"] == rank
        _is(hit["asset"], _ASSET)
        assert hit["asset"]["uri"].startswith("/")
        if target == "region":
            assert hit["region"] is not None
        if hit["region"] is not None:
            _is(hit["region"], _REGION)
            x, y, width, height = hit["region"]["bbox"]
            assert all(isinstance(part, int) for part in (x, y, width, height))
            assert 0 <= x < x + width <= hit["asset"]["width"]
            assert 0 <= y < y + height <= hit["asset"]["height"]
        assert hit["channels"]
        for channel in hit["channels"]:
            _is(channel, _KEYWORD_CHANNEL if channel["kind"] == "keyword" else _VECTOR_CHANNEL)
        parts = [channel["contribution"] for channel in hit["channels"]]
        assert sum(parts) == pytest.approx(hit["score"], abs=1e-5)
    scores = [hit["score"] for hit in document["hits"]]
    assert scores == sorted(scores, reverse=True)
    if target == "image":
        assert len({hit["asset"]["id"] for hit in document["hits"]}) == len(document["hits"])


def _queries(library: Library) -> dict[str, tuple[list[str], dict[str, Any]]]:
    photo = library.photos / "03.png"
    return {
        "text": (["a red thing"], {"text": "a red thing"}),
        "image": (["--image", str(photo)], {"image": str(photo)}),
        "box": (
            ["--image", str(photo), "--box", "2,1,9,200"],
            {"image": str(photo), "box": [2, 1, 9, 200]},
        ),
        "asset": (["--like", "a3"], {"like": "a3"}),
        "region": (["--like", "r5"], {"like": "r5"}),
    }


@pytest.mark.parametrize("target", ["image", "region"])
@pytest.mark.parametrize("kind", ["text", "image", "box", "asset", "region"])
def test_json_has_the_documented_shape(library: Library, kind: str, target: str) -> None:
    arguments, query = _queries(library)[kind]
    for limit in (1, 3, 1000):
        outcome = library.run(
            "search", *arguments, "--target", target, "--limit", str(limit), "--json"
        )
        assert outcome.code == 0, outcome
        assert outcome.err == ""
        assert outcome.out.count(b"\n") == 1
        _check_answer(outcome.document, query, target, limit)
        possible = _COUNT if target == "image" else 4 * _COUNT
        if kind == "asset":
            possible -= 1 if target == "image" else 4
        elif kind == "region":
            possible -= 1
        assert len(outcome.document["hits"]) == min(limit, possible)


@pytest.mark.parametrize("kind", ["text", "image", "box", "asset", "region"])
def test_the_order_is_the_same_every_time(library: Library, kind: str) -> None:
    arguments, _ = _queries(library)[kind]
    hits = library.search(*arguments, "--limit", "50")
    assert library.search(*arguments, "--limit", "50") == hits
    # A smaller limit is a beginning of the longer answer.
    assert library.search(*arguments, "--limit", "7") == hits[:7]
    assert (
        regard_process(
            "search", *arguments, "--limit", "50", "--json", "--home", library.home
        ).document["hits"]
        == hits
    )


def test_a_picture_finds_itself_and_like_does_not(library: Library) -> None:
    photo = library.photos / "05.png"
    best = library.search("--image", photo)[0]["asset"]
    assert best["uri"] == str(photo)
    found = {hit["asset"]["id"] for hit in library.search("--like", best["id"], "--limit", "100")}
    assert len(found) == _COUNT - 1
    assert best["id"] not in found
    region = library.search("--image", photo, "--target", "region")[0]["region"]["id"]
    like_region = library.search("--like", region, "--target", "region", "--limit", "1000")
    assert region not in {hit["region"]["id"] for hit in like_region}
    assert len(like_region) == 4 * _COUNT - 1


def test_paths_are_the_raw_bytes_each_once(tmp_path: Path) -> None:
    library = Library(tmp_path)
    names = [b"plain.png", b"latin-\xe9.png", b"new\nline.png", "日本.png".encode(), b"100%41.png"]
    for number, name in enumerate(names):
        write_photo(os.path.join(os.fsencode(library.photos), name), number)
    assert library.index()["indexed"] == len(names)
    paths = {os.path.join(os.fsencode(library.photos), name) for name in names}

    def written(*arguments: str) -> bytes:
        outcome = library.run("search", "red", "--limit", "100", *arguments)
        assert (outcome.code, outcome.err) == (0, "")
        return outcome.out

    zeroed = written("--paths0")
    assert zeroed.endswith(b"\0")
    assert sorted(zeroed[:-1].split(b"\0")) == sorted(paths)
    assert all(os.path.exists(path) for path in zeroed[:-1].split(b"\0"))
    assert sorted(written("--paths0", "--target", "region")[:-1].split(b"\0")) == sorted(paths)
    assert written("--paths").count(b"\n") == len(names) + 1
    hits = library.search("red", "--limit", "100")
    assert {hit["asset"]["uri"] for hit in hits} == set(map(uri_of_path, paths))
    assert any(hit["asset"]["uri"].endswith("/latin-%E9.png") for hit in hits)
    assert written().count(b"\n") > len(names)
    by_image = library.search("--image", os.path.join(os.fsencode(library.photos), names[1]))
    assert by_image[0]["asset"]["uri"].endswith("latin-%E9.png")


def test_twins_in_a_collection_of_one_content(tmp_path: Path) -> None:
    library = Library(tmp_path)
    for number in range(220):
        library.photo(f"{number:03}.png", 7)
    library.photo("other.png", 8)
    library.index()
    for limit in (1, 220, 221, 5000):
        assert len(library.search("red", "--limit", str(limit))) == min(limit, 221)
    assert len(library.search("--like", "a1", "--limit", "1000")) == 220
    regions = library.search("red", "--target", "region", "--limit", "10000")
    assert len(regions) == 4 * 221
    library.index("--collection", "small", library.photos / "other.png")
    assert len(library.search("red", "--collection", "small")) == 1
    assert len(library.search("--image", library.photos / "000.png", "--collection", "small")) == 1


def test_a_small_collection_in_a_large_home(tmp_path: Path) -> None:
    library = Library(tmp_path)
    for number in range(210):
        library.photo(f"red/{number}.png", number, "red", "red")
    for number in range(12):
        library.photo(f"blue/{number}.png", number, "blue", "blue")
    library.index("--collection", "reds", library.photos / "red")
    library.index("--collection", "blues", library.photos / "blue")
    for limit in (1, 12, 50):
        hits = library.search("red", "--collection", "blues", "--limit", str(limit))
        assert len(hits) == min(limit, 12)
        assert all("/blue/" in hit["asset"]["uri"] for hit in hits)
    assert len(library.search("red", "--limit", "222")) == 222
    # The nearest 200 of each channel are red, and the answer goes on beyond them.
    hits = library.search("red", "--limit", "700")
    assert len(hits) == 222


_LINE = st.one_of(
    st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")),
    st.text(max_size=12).map(lambda line: line.replace("\n", "").encode()),
    st.sampled_from([b"", b"  ", b"\t", b'"red', b"red AND (", b"-blue", b"a:b", b"\xff", b"\r"]),
)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lines=st.lists(_LINE, max_size=8),
    end=st.sampled_from([b"\n", b"\r\n"]),
    ends=st.booleans(),
)
def test_queries_are_answered_line_by_line(
    library: Library, tmp_path: Path, lines: list[bytes], end: bytes, ends: bool
) -> None:
    data = end.join(lines) + (end if ends and lines else b"")
    (tmp_path / "queries").write_bytes(data)
    expected = data.removesuffix(b"\n").split(b"\n") if data else []
    outcome = library.run("search", "--queries", tmp_path / "queries", "--limit", "2", "--json")
    assert outcome.code == 0
    assert len(outcome.lines) == len(expected)
    if expected:
        expected[0] = expected[0].removeprefix(codecs.BOM_UTF8)
    for line, answer in zip(expected, outcome.lines, strict=True):
        try:
            text = line.rstrip(b"\r").decode()
        except UnicodeDecodeError:
            assert set(answer) == {"query", "error"}
            continue
        if text.strip():
            _check_answer(answer, {"text": text}, "image", 2)
            assert len(answer["hits"]) == 2
        else:
            assert answer == {"query": text, "error": "the query is empty"}


def test_many_queries_give_what_each_gives_alone(library: Library) -> None:
    texts = [f"red {number}" if number % 3 else "" for number in range(600)]
    process = regard_process(
        *("search", "--queries", "-", "--target", "region", "--limit", "3", "--home", library.home),
        stdin="\n".join(texts).encode(),
    )
    assert (process.code, process.err) == (0, "")
    assert len(process.lines) == 600
    for number in (1, 2, 299, 598):
        alone = library.search(texts[number], "--target", "region", "--limit", "3")
        answer = process.lines[number]
        assert answer["query"] == {"text": texts[number], "target": "region"}
        assert [hit["region"]["id"] for hit in answer["hits"]] == [
            hit["region"]["id"] for hit in alone
        ]
    assert set(process.lines[0]) == {"query", "error"}


def test_an_empty_file_of_queries_and_one_with_a_byte_order_mark(
    library: Library, tmp_path: Path
) -> None:
    (tmp_path / "empty").write_bytes(b"")
    outcome = library.run("search", "--queries", tmp_path / "empty")
    assert (outcome.code, outcome.out, outcome.err) == (0, b"", "")
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbfred\r\nblue")
    outcome = library.run("search", "--queries", tmp_path / "marked")
    assert [line["query"]["text"] for line in outcome.lines] == ["red", "blue"]


def test_a_collection_holds_for_queries_too(library: Library, tmp_path: Path) -> None:
    (tmp_path / "queries").write_bytes(b"red\n")
    arguments = ("search", "--queries", tmp_path / "queries", "--collection")
    library.run(*arguments, "none").expect_sentence(3, "no collection")
    assert library.run(*arguments, "default").code == 0


def test_people_see_a_table(library: Library) -> None:
    outcome = library.run("search", "red", "--limit", "3")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.decode().splitlines()
    assert len(lines) == 4
    assert "/photos/" in lines[1]
    assert "a" in lines[1]


# textual-image 0.12 calls what Pillow 14 will drop.
@pytest.mark.filterwarnings("ignore:Image.Image.getdata:DeprecationWarning")
def test_a_preview_shows_what_is_left_of_the_photographs(tmp_path: Path) -> None:
    copy = Library(tmp_path)
    for number in range(3):
        copy.photo(f"{number}.png", number)
    copy.index()
    os.unlink(copy.photos / "1.png")
    outcome = copy.run("search", "red", "--preview")
    assert (outcome.code, outcome.err) == (0, "")
    assert b"No such file" in outcome.out
    assert outcome.out.count(b"A mostly") == 3


def test_nothing_is_written_by_a_search(library: Library) -> None:
    before = {
        path: path.stat().st_mtime_ns
        for path in library.home.rglob("*")
        if path.suffix not in {".sqlite3-wal", ".sqlite3-shm"} and path.is_file()
    }
    library.search("red")
    after = {path: path.stat().st_mtime_ns for path in before}
    assert after == before
    assert json.loads(library.run("verify", "--json").out) == {"agrees": True, "findings": []}
    assert regard("search", "red", "--home", library.home).code == 0


def paragraphs(outcome: Outcome) -> list[list[str]]:
    """The lines about each hit."""
    assert outcome.code == 0, outcome
    found: list[list[str]] = []
    for line in outcome.out.decode().splitlines():
        if not line.startswith(" "):
            found.append([])
        found[-1].append(line.rstrip())
    return found


def test_explanations_give_the_part_of_each_channel(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.photo("harbour/IMG_0007_old-ferry.png", 1, "red", "blue")
    library.photo("harbour/b.png", 2, "green")
    library.photo("town/c.png", 3, "red", "yellow")
    library.index()
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


def test_explanations_exclude_other_outputs(library: Library, tmp_path: Path) -> None:
    queries = tmp_path / "queries.txt"
    queries.write_text("red\n")
    for other in (["--json"], ["--paths"], ["--preview"]):
        library.run("search", "red", "--explain", *other).expect_sentence(2, "exclude each other")
    outcome = library.run("search", "--queries", queries, "--explain")
    outcome.expect_sentence(2, "--queries answers in JSON")


def test_an_empty_home_explains_nothing(tmp_path: Path) -> None:
    made = Library(tmp_path)
    made.index()
    assert b"nothing" in made.run("search", "red", "--explain").out
