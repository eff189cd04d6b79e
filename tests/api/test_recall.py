"""Searches that may miss photographs, those that are exact, and how much is missed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from made_library import Library
from made_local_server import LocalServer

import regard
from regard.api.client import Client
from regard.api.library.home import open_home
from regard.api.library.settings import Settings
from regard.core.catalog import ChannelQuery
from regard.core.filters import EVERYTHING
from regard.core.records import Kind
from regard.search import fusion
from regard.storage.vectors.segments import index as vector_index
from regard.storage.vectors.segments import nearest
from regard.storage.vectors.segments.lists import ListsModel
from regard.storage.vectors.segments.state import SegmentLimits

_SEARCHES = ["red", "blue", "yellow", "red -green"]


@pytest.fixture(scope="module")
def patched() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        # Fewer rows than are read of an index in any case would never be missed.
        patch.setattr(fusion, "DEPTH", 5)
        patch.setattr(nearest, "_GATHER_ROWS", 4)
        patch.setattr(nearest, "_SPARE", 0)
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
    limits = SegmentLimits(delta_rows=8, listed_segment_rows=20, listed_index_rows=20)
    patched.setattr(vector_index, "SegmentLimits", lambda: limits)
    # All searches read the same two thirds of the regions.
    patched.setattr(ListsModel, "rows_to_read", lambda *_: 107)
    patched.setattr(
        ListsModel,
        "order",
        lambda model, queries: np.arange(model.lists)[None].repeat(len(queries), 0),
    )
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


def test_recall_is_printed_stored_and_shown(
    exact_hits: tuple[Library, dict[str, Any]], url: str
) -> None:
    library, _ = exact_hits
    with Client(url) as client:
        assert client.info().recall is None
        assert "regard_recall{" not in client.metrics()
        report = library.run("verify", "--recall", "--json").document["recall"]
        assert client.info().recall.model_dump() == report
        figures = client.metrics()
    kinds = ["image", "region", "caption"]
    by_kinds = {(one["kind"], one["query_kind"]): one for one in report["channels"]}
    assert set(by_kinds) == set(itertools.product(kinds, kinds))
    for one in by_kinds.values():
        assert not one["is_exact"]
        for k in (10, 100):
            share = one[f"at_{k}"]
            assert 0 <= share["low"] <= share["value"] <= share["high"] <= 1
            labels = (
                f'k="{k}",kind="{one["kind"]}",query_kind="{one["query_kind"]}",'
                f'space="{one["space"]}"'
            )
            (shown,) = re.findall(rf"^regard_recall{{{labels}}} (.*)$", figures, re.MULTILINE)
            assert float(shown) == share["value"]
    assert by_kinds["region", "region"]["queries"] > by_kinds["image", "image"]["queries"] == 40
    assert by_kinds["region", "caption"]["at_100"]["value"] < 1
    printed = library.run("verify", "--recall").out.decode()
    share = by_kinds["region", "caption"]["at_10"]
    assert f"/region, caption queries: recall@10 {share['value']:.4f} (" in printed


def test_recall_is_the_share_of_the_nearest_rows_that_searches_find(
    exact_hits: tuple[Library, dict[str, Any]],
) -> None:
    library, _ = exact_hits
    rows = library.sql(
        "SELECT embedding.id, vector_count, vectors FROM embedding "
        "JOIN channel ON channel.id = channel_id WHERE kind = 'region'"
    )
    ids = np.concatenate([np.arange(first, first + count) for first, count, _ in rows])
    stored = b"".join(vectors for *_, vectors in rows)
    vectors = np.frombuffer(stored, "<f2").reshape(len(ids), -1).astype(np.float32)
    with open_home(Settings(library.home)) as home:
        (channel,) = (one for one in home.pipeline.channels if one.kind is Kind.REGION)
        (found,) = home.indexes.search([ChannelQuery(channel, vectors, 11)], EVERYTHING)
        report = home.indexes.measure_recall()
    shares = []
    for own, vector, found_ids in zip(ids.tolist(), vectors, found.ids.tolist(), strict=True):
        scores = dict(zip(ids.tolist(), (vectors @ vector).tolist(), strict=True))
        tenth = sorted(score for id, score in scores.items() if id != own)[-10]
        others = [id for id in found_ids if id not in (own, -1)][:10]
        shares.append(sum(scores[id] >= tenth - 1e-6 for id in others) / 10)
    (figure,) = (one for one in report.channels if one.kind == one.query_kind == Kind.REGION)
    assert figure.queries == len(ids) == 160
    assert figure.at_10.value == pytest.approx(np.mean(shares))
    assert 0 < figure.at_10.value < 1


def test_recall_of_an_index_without_lists_is_exact(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.photo("a.png", 1)
    library.index()
    outcome = library.run("verify", "--recall")
    assert outcome.code == 0
    assert "/image, caption queries: exact\n" in outcome.out.decode()


def test_an_unreadable_measurement_counts_as_none(
    exact_hits: tuple[Library, dict[str, Any]], url: str
) -> None:
    library, _ = exact_hits
    (path,) = (library.home / "indexes").glob("*/recall.json")
    path.write_text('{"format": 1, "channels": [{}]}')
    with Client(url) as client:
        assert client.info().recall is None
        assert "regard_recall{" not in client.metrics()
