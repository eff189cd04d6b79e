"""Searches that refine hits: the place of what the text names, on a home and on a server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from made_blocks import PLACE, SIZE, make_blocks, write_block
from made_library import Library
from made_local_server import LocalServer

import regard as api
from regard.core.errors import UnanswerableQuery, UsageError
from regard.photos.masks import decode_mask, mask_area

COUNT = 24


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Many photographs of a red block, and one of a green one."""
    return make_blocks(tmp_path_factory.mktemp("refining"), COUNT)


@pytest.fixture(scope="module")
def url(photos: Library) -> Iterator[str]:
    with LocalServer(photos.home) as server:
        yield server.url


@pytest.fixture(params=["home", "server"])
def library(photos: Library, url: str, request: pytest.FixtureRequest) -> Iterator[api.Library]:
    with api.open(photos.home if request.param == "home" else url) as opened:
        yield opened


def name_of(hit: api.Hit) -> str:
    return os.path.basename(hit.asset.uri)


def test_the_first_hits_get_the_place_that_the_text_names(library: api.Library) -> None:
    plain = library.search("a red thing", limit=COUNT + 1)
    assert all(hit.refined is None for hit in plain.hits)
    answer = library.search("a red thing", limit=COUNT + 1, refine=True)
    # The hits themselves, their order and their regions stay.
    assert [(hit.asset.id, hit.score, hit.region) for hit in answer.hits] == [
        (hit.asset.id, hit.score, hit.region) for hit in plain.hits
    ]
    for hit in answer.hits:
        assert (hit.refined is not None) == (hit.rank <= 20)
        if hit.refined is not None:
            assert list(hit.refined.bbox) == PLACE
            assert hit.refined.area == mask_area(hit.refined.mask) == PLACE[2] * PLACE[3]
            assert 0 < hit.refined.score <= 1
            assert decode_mask(hit.refined.mask)[20:50, 30:70].all()
    assert library.search("a red thing", limit=5, refine=True).hits == answer.hits[:5]


def test_a_photograph_that_does_not_show_it_keeps_its_region(library: api.Library) -> None:
    answer = library.search("green", limit=COUNT + 1, refine=True)
    assert name_of(answer.hits[0]) == "green.png"
    assert answer.hits[0].refined is not None
    assert all(hit.refined is None and hit.region is not None for hit in answer.hits[1:])


def test_the_first_hit_of_a_photograph_gets_the_place(library: api.Library) -> None:
    answer = library.search("red", target="region", limit=60, refine=True)
    seen: set[str] = set()
    for hit in answer.hits:
        assert hit.region is not None
        is_first = hit.asset.id not in seen and name_of(hit) != "green.png"
        assert (hit.refined is not None) == (is_first and hit.rank <= 20)
        seen.add(hit.asset.id)
    assert len(seen) < len(answer.hits)


def test_wanted_texts_are_looked_for(library: api.Library) -> None:
    answer = library.search("red -green path:red-01.png", refine=True)
    assert [name_of(hit) for hit in answer.hits] == ["red-01.png"]
    assert answer.hits[0].refined is not None
    both = library.search_texts(["red", "a green thing"], limit=2, refine=True)
    for found in both:
        assert isinstance(found, api.Answer)
        assert found.hits[0].refined is not None


def test_what_has_no_text_is_refused(library: api.Library, photos: Library) -> None:
    with pytest.raises(UsageError, match="only hits of a text"):
        library.search(image=photos.photos / "green.png", refine=True)
    with pytest.raises(UsageError, match="only hits of a text"):
        library.search("path:green.png", refine=True)
    mixed = library.search("green", image=photos.photos / "green.png", limit=1, refine=True)
    assert mixed.hits[0].refined is not None


def test_a_hit_is_drawn_with_its_refined_region(library: api.Library) -> None:
    (hit,) = library.search("green", limit=1, refine=True).hits
    drawn = np.asarray(hit.picture(SIZE[0])).astype(int)
    x, y, _, height = PLACE
    edge = drawn[y + height // 2, x - 2 : x + 3]
    assert (np.abs(edge - (255, 194, 10)).sum(axis=1) < 60).any()


def test_without_the_original_a_hit_stays_as_it_is(tmp_path: Path) -> None:
    made = Library(tmp_path)
    for number, change in enumerate(("gone", "changed", "broken", "kept")):
        write_block(made.photos / f"{change}.png", "red", number)
    made.index()
    (made.photos / "gone.png").unlink()
    write_block(made.photos / "changed.png", "blue", 0)
    broken = made.photos / "broken.png"
    status = broken.stat()
    broken.write_bytes(b"\0" * status.st_size)
    os.utime(broken, ns=(status.st_atime_ns, status.st_mtime_ns))
    with LocalServer(made.home) as server:
        for place in (made.home, server.url):
            with api.open(place) as library:
                answer = library.search("red", limit=9, refine=True)
                assert {name_of(hit): hit.refined is not None for hit in answer.hits} == {
                    "gone.png": False,
                    "changed.png": False,
                    "broken.png": False,
                    "kept.png": True,
                }
                assert all(hit.region is not None for hit in answer.hits)


@pytest.fixture
def without_grounder(photos: Library, tmp_path: Path) -> Library:
    """A home whose profile has no grounder."""
    profile = tmp_path / "bare.toml"
    profile.write_text(
        'description = "bare"\n[encoder]\nkind = "fake"\n[segmenter]\nkind = "fake"\n'
    )
    made = Library(tmp_path / "bare")
    write_block(made.photos / "red.png", "red", 0)
    assert made.run("index", made.photos, "--profile", profile).code == 0
    return made


def test_a_profile_without_a_grounder_says_so(without_grounder: Library) -> None:
    outcome = without_grounder.run("search", "red", "--refine")
    outcome.expect_sentence(2, "bare", "no grounder", "regard profiles")
    assert without_grounder.run("search", "red").code == 0
    with LocalServer(without_grounder.home, profile=None) as server:
        info = httpx.get(f"{server.url}/v1/info").json()
        assert info["refines"] is False
        refused = httpx.get(f"{server.url}/v1/search", params={"q": "red", "refine": True})
        assert refused.status_code == 422
        assert refused.json()["type"].endswith("unanswerable-query")
        with api.open(server.url) as library, pytest.raises(UsageError, match="no grounder"):
            library.search("red", refine=True)
    with api.open(without_grounder.home) as library, pytest.raises(UnanswerableQuery):
        library.search("red", refine=True)


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as opened:
        yield opened


def test_http_pages_refine_the_first_twenty(client: httpx.Client) -> None:
    assert client.get("/v1/info").json()["refines"] is True
    whole = client.get("/v1/search", params={"q": "red", "refine": True, "limit": 25}).json()
    pages: list[dict[str, Any]] = []
    cursor = None
    while len(pages) < 25:
        query = {"query": "red", "refine": True, "limit": 4, "cursor": cursor}
        answer = client.post("/v1/search", json=query).json()
        pages += answer["hits"]
        cursor = answer["next"]
        if cursor is None:
            break
    assert pages == whole["hits"]
    first, last = whole["hits"][0], whole["hits"][-1]
    assert first["refined"]["bbox"] == PLACE
    assert first["refined"]["mask"]["size"] == [SIZE[1], SIZE[0]]
    assert first["refined"]["outline"].startswith("M")
    assert last["rank"] == 25
    assert "refined" not in last
    things = {"q": "red", "refine": True, "target": "region"}
    whole = client.get("/v1/search", params={**things, "limit": 8}).json()
    start = client.get("/v1/search", params={**things, "limit": 3}).json()
    rest = client.get("/v1/search", params={**things, "limit": 5, "cursor": start["next"]}).json()
    assert start["hits"] + rest["hits"] == whole["hits"]
    stages = client.get("/metrics").text
    assert 'stage="refine"' in stages


def test_the_command_line_shows_refined_boxes(photos: Library) -> None:
    hits = photos.search("green", "--refine", "--limit", "1")
    assert hits[0]["refined"]["bbox"] == PLACE
    assert photos.search("green", "--limit", "1")[0].keys() == hits[0].keys() - {"refined"}
    box = ",".join(map(str, PLACE)).encode()
    assert box in photos.run("search", "green", "--refine").out
    assert box not in photos.run("search", "green").out
    assert box in photos.run("search", "green", "--refine", "--explain").out
    lines = photos.home.parent / "queries.txt"
    lines.write_text("green\n\nred\n")
    answered = photos.run("search", "--queries", lines, "--refine", "--limit", "1").lines
    assert ["error" in line for line in answered] == [False, True, False]
    assert answered[2]["hits"][0]["refined"]["bbox"] == PLACE
    photos.run("search", "--image", photos.photos / "green.png", "--refine").expect_sentence(
        2, "only hits of a text"
    )
