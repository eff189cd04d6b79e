"""Searches that may miss photographs, and those that are exact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from made_library import Library
from made_local_server import LocalServer

import regard
from regard.search import fusion
from regard.storage.vectors import index as vector_index
from regard.storage.vectors import lists, nearest
from regard.storage.vectors.lists import ListsModel
from regard.storage.vectors.state import SegmentLimits

_SEARCHES = ["red", "blue", "yellow", "red -green"]


@pytest.fixture(scope="module")
def patched() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        # Fewer rows than are read of an index in any case would never be missed.
        patch.setattr(fusion, "DEPTH", 5)
        patch.setattr(nearest, "_GATHER_ROWS", 4)
        yield patch


@pytest.fixture(scope="module")
def exact_hits(
    tmp_path_factory: pytest.TempPathFactory, patched: pytest.MonkeyPatch
) -> tuple[Library, dict[str, Any]]:
    """A library whose index has lists, and the hits before it had them."""
    library = Library(tmp_path_factory.mktemp("library"))
    for number in range(40):
        library.photo(f"{number:02}.png", number)
    library.index()
    before = {text: hits(library, text) for text in _SEARCHES}
    patched.setattr(lists, "LEAST_ROWS", 20)
    patched.setattr(lists, "LEAST_LISTED", 20)
    patched.setattr(vector_index, "SegmentLimits", lambda: SegmentLimits(delta_rows=8))
    # A search reads the list that is nearest to the query, and no other.
    patched.setattr(ListsModel, "rows_to_read", lambda *_: 1)
    assert library.run("rebuild").code == 0
    return library, before


@pytest.fixture(scope="module")
def url(exact_hits: tuple[Library, dict[str, Any]]) -> Iterator[str]:
    with LocalServer(exact_hits[0].home) as server:
        yield server.url


def hits(library: Library, text: str, *options: str) -> list[Any]:
    return as_pairs(library.search(text, "--target", "region", "--limit", "2", *options))


def as_pairs(found: list[dict[str, Any]]) -> list[Any]:
    return [(hit["region"]["id"], hit["score"]) for hit in found]


def test_exact_search_misses_nothing(exact_hits: tuple[Library, dict[str, Any]]) -> None:
    library, before = exact_hits
    assert {text: hits(library, text, "--exact") for text in _SEARCHES} == before
    assert {text: hits(library, text) for text in _SEARCHES} != before


def test_exact_search_over_http_misses_nothing(
    exact_hits: tuple[Library, dict[str, Any]], url: str
) -> None:
    _, before = exact_hits
    with httpx.Client(base_url=url, trust_env=False) as client, regard.open(url) as remote:
        for text in _SEARCHES:
            wanted = {"target": "region", "limit": 2, "exact": True}
            answers = [
                client.get("/v1/search", params={"q": text, **wanted}),
                client.post("/v1/search", json={"query": text, **wanted}),
            ]
            found = [answer.json()["hits"] for answer in answers]
            found.append(remote.search(text, **wanted).to_json()["hits"])
            assert [as_pairs(some) for some in found] == [before[text]] * 3
