"""Pages: by whatever limits and offsets, they are parts of one order that stays the same."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_home import MemoryHome, engine_over

from regard.core.errors import UsageError
from regard.core.records import Target
from regard.search import fusion
from regard.search.answers import Hit, LikeQuery, Query, Reference, Scope, TextQuery
from regard.search.engine import SearchEngine


def made_home(seed: int, contents: int) -> MemoryHome:
    """Some contents have many regions near each other, some have twins."""
    rng = random.Random(seed)
    home = MemoryHome(seed)
    for _ in range(contents):
        crowded = rng.random() < 0.2
        home.add_content(
            regions=rng.randrange(30) if crowded else rng.randrange(3),
            assets=rng.choice([1, 1, 1, 2, 5]),
            near=home.encode_texts([rng.choice(["red", "blue"])])[0] if crowded else None,
        )
    return home


def pages(
    engine: SearchEngine, query: Query, target: Target, limits: list[int], most: int
) -> list[Hit]:
    """All hits up to `most`, by pages of these limits in turn."""
    hits: list[Hit] = []
    turn = 0
    while len(hits) < most:
        limit = limits[turn % len(limits)]
        scope = Scope(target, limit, offset=len(hits))
        page = engine.search(query, scope).hits
        hits += page
        if len(page) < limit:
            break
        turn += 1
    return hits


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    contents=st.integers(0, 60),
    # Evidence is of a channel's first ten, without what the query shows itself: no level is less
    # deep.
    depth=st.integers(12, 24),
    target=st.sampled_from(list(Target)),
    limits=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    query=st.sampled_from(["red", "green", "like an asset"]),
)
def test_pages_are_parts_of_one_answer(
    seed: int, contents: int, depth: int, target: Target, limits: list[int], query: str
) -> None:
    home = made_home(seed, contents)
    engine = engine_over(home)
    if query == "like an asset" and contents and target is Target.IMAGE:
        asked: Query = LikeQuery(Reference(1, False))
    else:
        asked = TextQuery(query)
    with pytest.MonkeyPatch.context() as patch:
        # So shallow that pages begin at other levels than the whole answer.
        patch.setattr(fusion, "DEPTH", depth)
        whole = list(engine.search(asked, Scope(target, 10**6)).hits)
        assert pages(engine, asked, target, limits, 10**6) == whole
    assert [hit.rank for hit in whole] == list(range(1, len(whole) + 1))
    scores = [hit.score for hit in whole]
    assert scores == sorted(scores, reverse=True)
    if target is Target.IMAGE:
        there = len(home.asset) - isinstance(asked, LikeQuery)
    else:
        there = sum(
            sum(asset.content_id == region.content_id for asset in home.asset.values())
            for region in home.region.values()
        )
    assert len(whole) == there


@pytest.mark.parametrize("target", list(Target))
def test_a_library_deeper_than_one_level(target: Target) -> None:
    home = made_home(1, 700)
    engine = engine_over(home)
    whole = list(engine.search(TextQuery("red"), Scope(target, 10**6)).hits)
    assert len(whole) > 1000
    assert len({(hit.asset.id, hit.region and hit.region.id) for hit in whole}) == len(whole)
    paged = pages(engine, TextQuery("red"), target, [100, 450], 10**6)
    assert paged == whole
    # Nothing is read deeper for the first page than its hits need.
    home.depths.clear()
    engine.search(TextQuery("red"), Scope(target, 20))
    assert {depth for _, depth in home.depths} <= {fusion.DEPTH, 4 * fusion.DEPTH}


def test_past_the_end_there_is_nothing() -> None:
    home = made_home(2, 10)
    answer = engine_over(home).search(TextQuery("red"), Scope(offset=10**30))
    assert answer.hits == ()
    assert not answer.matched
    with pytest.raises(UsageError, match="offset"):
        Scope(offset=-1)


def test_stages_are_told_once_a_call() -> None:
    home = made_home(3, 20)
    told: list[tuple[str, float]] = []
    engine = SearchEngine(
        home,  # type: ignore[arg-type]
        home,
        home,
        observe=lambda stage, seconds: told.append((stage, seconds)),
    )
    engine.search(LikeQuery(Reference(1, False)), Scope())
    engine.search_texts([TextQuery("red"), TextQuery("blue")], Scope())
    stages = ["encode", "index", "fuse", "hydrate"]
    assert [stage for stage, _ in told] == stages * 2
    assert all(seconds > 0 for _, seconds in told)
    took = engine.search(TextQuery("red"), Scope()).took_ms
    assert 1000 * sum(seconds for _, seconds in told[8:]) == pytest.approx(took)
