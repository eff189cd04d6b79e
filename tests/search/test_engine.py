"""The engine over a catalog in memory: how deep it reads, and what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore
from typing import Any

import numpy as np
import pytest
from memory_home import IMAGE, REGION, MemoryHome, engine_over, unit

from regard.core.catalog import StoredVectors
from regard.core.errors import UsageError
from regard.core.geometry import Box
from regard.core.records import Float32Array, Image, Target
from regard.search.answers import (
    Answer,
    ImageQuery,
    LikeQuery,
    Query,
    Reference,
    Scope,
    TextQuery,
    parse_identifier,
)
from regard.search.encoding import TextEncoding


def _search(home: MemoryHome, query: Query | str, target: Target, limit: int) -> Answer:
    query = TextQuery(query) if isinstance(query, str) else query
    answer = engine_over(home).search(query, Scope(target, limit))
    assert len(answer.hits) <= limit
    assert [hit.rank for hit in answer.hits] == list(range(1, len(answer.hits) + 1))
    scores = [hit.score for hit in answer.hits]
    assert scores == sorted(scores, reverse=True)
    if target is Target.IMAGE:
        assert len({hit.asset.id for hit in answer.hits}) == len(answer.hits)
    else:
        assert all(hit.region is not None for hit in answer.hits)
    return answer


@pytest.mark.parametrize("limit", [1, 2, 7, 60, 61, 10**6, 10**30])
@pytest.mark.parametrize("target", list(Target))
def test_as_many_hits_as_there_are_up_to_the_limit(limit: int, target: Target) -> None:
    home = MemoryHome()
    for _ in range(60):
        home.add_content(regions=1)
    assert len(_search(home, "red", target, limit).hits) == min(limit, 60)


def test_one_content_with_thousands_of_regions_hides_no_other() -> None:
    """All that is near the query belongs to one content; the others lie far below it."""
    home = MemoryHome()
    near = home.encode_texts(["red"])[0]
    home.rows[IMAGE].clear()
    crowded = home.add_content(regions=3000, near=near)
    for _ in range(20):
        home.add_content(regions=1)
    home.rows[IMAGE].clear()
    answer = _search(home, "red", Target.IMAGE, 15)
    assert len(answer.hits) == 15
    assert answer.hits[0].asset.content_id == crowded
    assert answer.hits[0].region is not None


def test_twins_each_are_a_hit_and_count_for_the_limit() -> None:
    home = MemoryHome()
    home.add_content(assets=5)
    home.add_content(assets=1)
    assert len(_search(home, "red", Target.IMAGE, 3).hits) == 3
    assert len(_search(home, "red", Target.IMAGE, 10).hits) == 6


def test_like_an_asset_leaves_out_only_itself() -> None:
    home = MemoryHome()
    home.add_content(assets=2)
    for _ in range(9):
        home.add_content()
    answer = _search(home, LikeQuery(Reference(1, False)), Target.IMAGE, 100)
    assert sorted(hit.asset.id for hit in answer.hits) == list(range(2, 12))
    # Its twin looks exactly like it.
    assert answer.hits[0].asset.id == 2
    assert len(_search(home, LikeQuery(Reference(1, False)), Target.IMAGE, 10).hits) == 10


def test_like_an_asset_gives_as_many_regions_as_wanted() -> None:
    """Its own regions, the nearest of all, are left out, and others take their places."""
    home = MemoryHome()
    near = unit(home.rng)
    home.add_content(regions=50, near=near)
    for _ in range(40):
        home.add_content(regions=1)
    stored = home.asset_vectors

    def vectors(asset: int) -> StoredVectors:
        found = stored(asset)
        return StoredVectors(found.content, None, {IMAGE: near, REGION: near})

    home.asset_vectors = vectors  # type: ignore[method-assign]
    for limit in (1, 3, 39, 40, 41):
        answer = _search(home, LikeQuery(Reference(1, False)), Target.REGION, limit)
        assert len(answer.hits) == min(limit, 40)
        assert all(hit.asset.id != 1 for hit in answer.hits)


def test_like_a_region_leaves_out_only_itself() -> None:
    home = MemoryHome()
    for _ in range(5):
        home.add_content(regions=2)
    answer = _search(home, LikeQuery(Reference(3, True)), Target.REGION, 100)
    regions = sorted(hit.region.id for hit in answer.hits if hit.region is not None)
    assert regions == [1, 2, 4, 5, 6, 7, 8, 9, 10]


def test_what_was_deleted_since_makes_room_for_others() -> None:
    home = MemoryHome()
    for _ in range(30):
        home.add_content(regions=1)
    best = _search(home, "red", Target.IMAGE, 3)
    for hit in best.hits:
        # The index still knows it, the catalog does not.
        del home.asset[hit.asset.id]
    assert len(_search(home, "red", Target.IMAGE, 3).hits) == 3
    best = _search(home, "red", Target.REGION, 3)
    for hit in best.hits:
        assert hit.region is not None
        del home.region[hit.region.id]
    assert len(_search(home, "red", Target.REGION, 3).hits) == 3


def test_an_answer_does_not_depend_on_its_neighbours_in_a_batch() -> None:
    home = MemoryHome()
    home.add_content(regions=1500, near=home.encode_texts(["crowded"])[0])
    for _ in range(300):
        home.add_content(regions=2)
    texts = ["crowded", "red", "blue", "green"]
    scope = Scope(Target.IMAGE, 100)

    def shown(answers: Sequence[Answer]) -> list[list[tuple[int, int | None, object]]]:
        # A batch's inner products differ from single ones in the last bit.
        return [
            [
                (hit.asset.id, hit.region and hit.region.id, pytest.approx(hit.score, abs=1e-5))
                for hit in answer.hits
            ]
            for answer in answers
        ]

    alone = [engine_over(home).search(TextQuery(text), scope) for text in texts]
    together = engine_over(home).search_texts([TextQuery(text) for text in texts], scope)
    assert shown(together) == shown(alone)
    assert engine_over(home).search_texts([], scope) == []


def test_texts_of_searches_that_wait_are_encoded_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = MemoryHome()
    for _ in range(30):
        home.add_content(regions=2)
    texts = ["red", "blue", "green", "a red car", "a blue car"]
    scope = Scope(Target.IMAGE, 10)
    expected = [engine_over(home).search(TextQuery(text), scope).hits for text in texts]
    batches: list[int] = []
    is_encoding, are_waiting, announced = Event(), Event(), Semaphore(0)
    encode, expect = home.encode_texts, TextEncoding.expect

    def encode_slowly(some: Sequence[str]) -> Float32Array:
        batches.append(len(some))
        is_encoding.set()
        assert are_waiting.wait(60)
        return encode(some)

    def expect_aloud(self: TextEncoding, *announcement: Any) -> None:
        expect(self, *announcement)
        announced.release()

    monkeypatch.setattr(home, "encode_texts", encode_slowly)
    monkeypatch.setattr(TextEncoding, "expect", expect_aloud)
    monkeypatch.setattr("regard.search.engine.usable_cores", lambda: 1)
    engine = engine_over(home)
    with ThreadPoolExecutor(len(texts)) as pool:
        found = [pool.submit(engine.search, TextQuery(texts[0]), scope)]
        assert is_encoding.wait(60)
        found += [pool.submit(engine.search, TextQuery(text), scope) for text in texts[1:]]
        for _ in texts:
            assert announced.acquire(timeout=60)
        are_waiting.set()
        assert [answer.result().hits for answer in found] == expected
    assert batches == [1, len(texts) - 1]


def test_a_text_is_encoded_again_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    home = MemoryHome()
    home.add_content(regions=2)
    engine, encode = engine_over(home), home.encode_texts

    def fail(_some: Sequence[str]) -> Float32Array:
        raise MemoryError

    monkeypatch.setattr(home, "encode_texts", fail)
    with pytest.raises(MemoryError):
        engine.search(TextQuery("red"), Scope())
    monkeypatch.setattr(home, "encode_texts", encode)
    assert engine.search(TextQuery("red"), Scope()).hits


def test_the_region_shown_is_the_best_matching_one() -> None:
    home = MemoryHome()
    for _ in range(5):
        home.add_content(regions=3)
    query = home.encode_texts(["red"])[0]
    for hit in _search(home, "red", Target.IMAGE, 5).hits:
        scores = {
            region: float(home.rows[REGION][number] @ query)
            for number, (content, region) in home.owner.items()
            if content == hit.asset.content_id and region
        }
        assert hit.region is not None
        assert hit.region.id == max(scores, key=lambda region: scores[region])
        assert [match.kind for match in hit.channels] == ["image", "region"]
        assert hit.channels[1].score == pytest.approx(max(scores.values()))


def test_a_query_that_the_profile_has_no_channel_for() -> None:
    home = MemoryHome()
    with pytest.raises(UsageError, match="search images by region"):
        _search(home, LikeQuery(Reference(1, True)), Target.IMAGE, 1)


def test_a_box_is_cut_at_the_picture_s_edge_and_refused_outside() -> None:
    home = MemoryHome()
    home.add_content(regions=1)
    picture = Image(np.zeros((10, 20, 3), np.uint8))
    seen: list[list[int]] = []
    encode = home.encode_regions

    def watched(
        images: Sequence[Image], boxes: Sequence[Sequence[Box]], masks: object
    ) -> list[Float32Array]:
        seen.extend(box.to_list() for box in boxes[0])
        return encode(images, boxes, masks)

    home.encode_regions = watched  # type: ignore[method-assign]
    for box in (Box(-5, -5, 10, 10), Box(15, 5, 100, 100)):
        _search(home, ImageQuery(picture, "p", box), Target.REGION, 1)
    assert seen == [[0, 0, 5, 5], [15, 5, 5, 5]]
    with pytest.raises(UsageError, match="outside the picture of 20×10"):
        _search(home, ImageQuery(picture, "p", Box(20, 0, 5, 5)), Target.REGION, 1)


def test_identifiers() -> None:
    assert parse_identifier("a1") == Reference(1, False)
    assert parse_identifier(" r999999999999999999 ") == Reference(999999999999999999, True)
    for text in ("", "a", "1", "a01", "a+1", "A1", "a1 2", "a1\n2", "b1", "a1.0", "a١", "-a1"):
        with pytest.raises(UsageError):
            parse_identifier(text)
