"""Stacks in answers: each is one hit, its best, wherever a page begins."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_home import IMAGE, REGION, MemoryHome, engine_over
from test_paging import made_home, pages

from regard.core.filters import AssetFilter
from regard.core.records import QueryKind, Target, WeightedChannel
from regard.search.answers import (
    AlternativeQueries,
    LikeQuery,
    Order,
    Reference,
    Scope,
    TextQuery,
)
from regard.search.engine import SearchEngine

RED = TextQuery("red")


def _stack(home: MemoryHome, *members: int) -> None:
    for number in members:
        asset = home.asset[number]
        home.asset[number] = replace(asset, stack_id=members[0], stack_count=len(members))


def _stacked_home(seed: int = 3, contents: int = 30) -> MemoryHome:
    home = MemoryHome(seed)
    for _ in range(contents):
        home.add_content(regions=2)
    _stack(home, *range(1, 11))
    _stack(home, 11, 12)
    return home


@pytest.mark.parametrize("target", list(Target))
def test_of_a_stack_only_the_best_photograph_is_shown(target: Target) -> None:
    home = _stacked_home()
    engine = engine_over(home)
    whole = engine.search(RED, Scope(target, 1000, fold_stacks=False)).hits
    folded = engine.search(RED, Scope(target, 1000)).hits
    best: dict[int, int] = {}
    expected = [
        hit
        for hit in whole
        if hit.asset.stack_id is None
        or best.setdefault(hit.asset.stack_id, hit.asset.id) == hit.asset.id
    ]
    assert len(expected) < len(whole)
    assert [hit.score for hit in folded] == [hit.score for hit in expected]
    assert [hit.asset.id for hit in folded] == [hit.asset.id for hit in expected]
    assert [hit.rank for hit in folded] == [*range(1, len(folded) + 1)]
    assert {hit.asset.stack_count for hit in folded} == {None, 10, 2}


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1000),
    st.lists(st.integers(1, 25), min_size=1, max_size=3),
    st.sampled_from(list(Target)),
)
def test_pages_of_folded_hits_are_parts_of_one_answer(
    seed: int, limits: list[int], target: Target
) -> None:
    home = made_home(seed, 40)
    for first in range(1, len(home.asset) - 4, 9):
        _stack(home, *range(first, first + 4))
    engine = engine_over(home)
    whole = engine.search(RED, Scope(target, 2000)).hits
    found = pages(engine, RED, target, limits, len(whole))[: len(whole)]
    assert [(hit.rank, hit.asset.id, hit.score) for hit in found] == [
        (hit.rank, hit.asset.id, hit.score) for hit in whole
    ]


def test_a_limit_counts_stacks() -> None:
    engine = engine_over(_stacked_home())
    hits = engine.search(RED, Scope(limit=20)).hits
    assert len(hits) == 20
    assert len({hit.asset.stack_id or hit.asset.id for hit in hits}) == 20


def test_what_is_like_a_photograph_is_not_its_own_stack() -> None:
    engine = engine_over(_stacked_home())
    like = LikeQuery(Reference(12, is_region=False))
    ids = [hit.asset.id for hit in engine.search(like, Scope(limit=100)).hits]
    assert not {11, 12} & set(ids)
    assert len({1, 2, 3, 4, 5, 6, 7, 8, 9, 10} & set(ids)) == 1
    unfolded = engine.search(like, Scope(limit=100, fold_stacks=False)).hits
    assert 11 in {hit.asset.id for hit in unfolded}


def test_what_is_like_a_region_is_not_the_stack_of_its_photograph() -> None:
    home = _stacked_home()
    like = LikeQuery(Reference(23, is_region=True))
    assert home.asset[home.region[23].content_id].id == 12
    routes = {**home.routes, (QueryKind.REGION, Target.IMAGE): (WeightedChannel(REGION),)}
    engine = SearchEngine(home, home, home, routes)  # type: ignore[arg-type]
    ids = [hit.asset.id for hit in engine.search(like, Scope(limit=100)).hits]
    assert ids
    assert not {11, 12} & set(ids)
    regions = engine.search(like, Scope(Target.REGION, limit=100)).hits
    assert {11, 12} & {hit.asset.id for hit in regions}


def test_alternatives_and_dates_show_a_stack_once() -> None:
    engine = engine_over(_stacked_home())
    either = AlternativeQueries((RED, TextQuery("green")))
    for scope in (Scope(limit=100), Scope(limit=100, order=Order.NEWEST)):
        stacks = [hit.asset.stack_id for hit in engine.search(either, scope).hits]
        assert stacks.count(1) == stacks.count(11) == 1
        assert len(stacks) == 20


def test_a_filter_by_stack_is_never_folded() -> None:
    engine = engine_over(_stacked_home())
    named = AssetFilter(stacks=(1,))
    for chosen in (named, AssetFilter(also=(named,)), AssetFilter(any_of=(named,))):
        for folds in (None, True):
            scope = Scope(limit=100, filter=chosen, fold_stacks=folds)
            assert len(engine.search(RED, scope).hits) == 30
    without = Scope(limit=100, filter=AssetFilter(without=(named,)))
    assert len(engine.search(RED, without).hits) == 20


def test_moments_of_a_video_take_no_place_of_the_photographs_beside_it() -> None:
    """A video has up to a thousand moments, and a channel is read two hundred deep at first."""

    home = MemoryHome(5)
    for _ in range(300):
        home.add_content(regions=1)
    near = home.encode_texts(["red"])[0]
    home.add_content(moments=1000, near=near)
    wholes = {
        owner[0]: home.rows[IMAGE][number] @ near
        for number, owner in home.owner.items()
        if number in home.rows[IMAGE] and not owner[1]
    }
    nearest = set(sorted(wholes, key=lambda content: -wholes[content])[:150])
    hits = engine_over(home).search(RED, Scope(limit=20)).hits
    beside = {hit.asset.id for hit in hits} & nearest - {301}
    assert len(beside) > 10
    by_image = {hit.asset.id for hit in hits if "image" in {one.kind for one in hit.channels}}
    assert beside <= by_image
