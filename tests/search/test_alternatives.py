"""Answers to queries with OR, and hits by date."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.core.errors import UnanswerableQuery
from regard.core.records import Target
from regard.search.alternatives import join_answers, sort_by_date
from regard.search.answers import (
    AlternativeQueries,
    Answer,
    Hit,
    Judgement,
    Order,
    Scope,
    TextQuery,
)
from regard.search.language.parsing import parse_query
from regard.search.language.planning import compose_query, read_terms
from tests.search.memory_home import MemoryHome, engine_over, make_asset

QUERY = AlternativeQueries((TextQuery("a"), TextQuery("b")))
DAY = datetime(2024, 5, 1)


def answer(assets: list[tuple[int, float | None]], is_match: bool = True) -> Answer:
    hits = tuple(
        Hit(rank, 1 / rank, make_asset(number), None, (), relevance)
        for rank, (number, relevance) in enumerate(assets, 1)
    )
    return Answer(TextQuery("a"), Target.IMAGE, 1.0, hits, Judgement({}, is_match=is_match))


def ids(of: Answer) -> list[int]:
    return [hit.asset.id for hit in of.hits]


def first(of: Answer, count: int) -> Answer:
    return Answer(of.query, of.target, of.took_ms, of.hits[:count], of.judgement)


_hits = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from([0.1, 0.3, 0.5, 0.9])),
    max_size=10,
    unique_by=lambda hit: hit[0],
)


def test_the_more_relevant_hit_comes_next() -> None:
    joined = join_answers(
        QUERY, [answer([(1, 0.9), (2, 0.2)]), answer([(3, 0.7), (1, 0.6), (4, 0.3)])], Scope()
    )
    assert ids(joined) == [1, 3, 4, 2]
    assert [hit.rank for hit in joined.hits] == [1, 2, 3, 4]


def test_without_relevance_the_answers_take_turns() -> None:
    joined = join_answers(
        QUERY, [answer([(1, None), (2, None)]), answer([(3, None), (1, None)])], Scope()
    )
    assert ids(joined) == [1, 3, 2]


@given(one=_hits, other=_hits, cut=st.integers(1, 12))
def test_a_page_is_a_part_of_the_whole(
    one: list[tuple[int, float | None]], other: list[tuple[int, float | None]], cut: int
) -> None:
    answers = [answer(one), answer(other)]
    whole = ids(join_answers(QUERY, answers, Scope(limit=100)))
    assert sorted(whole) == sorted({number for number, _ in one + other})
    begin = join_answers(QUERY, [first(item, cut) for item in answers], Scope(limit=cut))
    assert ids(begin) == whole[:cut]
    rest = ids(join_answers(QUERY, answers, Scope(limit=100, offset=cut)))
    assert rest == whole[cut:]
    # The first hit of an answer keeps its place before its second one, unless both have it.
    for item in (one, other):
        only = [n for n, _ in item if n not in {n for n, _ in (other if item is one else one)}]
        assert [number for number in whole if number in only] == only


def test_a_match_of_one_is_a_match_of_all() -> None:
    wrong, right = answer([(1, 0.1)], is_match=False), answer([(2, 0.9)])
    assert join_answers(QUERY, [wrong, right], Scope()).matched
    assert not join_answers(QUERY, [wrong, wrong], Scope()).matched


def test_likely_hits_by_date() -> None:
    hits = tuple(
        Hit(rank, 1.0, make_asset(rank, dated_at=DAY + timedelta(days)), None, (), relevance)
        for rank, (days, relevance) in enumerate(
            [(1, 0.9), (3, 0.8), (2, 0.5), (9, 0.4), (3, 0.7)], 1
        )
    )
    found = Answer(TextQuery("a"), Target.IMAGE, 1.0, hits)
    newest = Scope(order=Order.NEWEST)
    assert ids(sort_by_date(found, newest)) == [2, 5, 3, 1]
    assert ids(sort_by_date(found, Scope(order=Order.OLDEST, offset=1, limit=2))) == [3, 2]
    assert ids(sort_by_date(found, Scope(order=Order.NEWEST, min_relevance=0.8))) == [2, 1]
    assert [hit.rank for hit in sort_by_date(found, newest).hits] == [1, 2, 3, 4]


def test_a_search_with_or() -> None:
    home = MemoryHome()
    for _ in range(30):
        home.add_content()
    engine = engine_over(home)

    def find(text: str, **scope: int) -> list[int]:
        query = compose_query(
            read_terms(parse_query(text), lambda _: pytest.fail("no picture is named"))
        )
        return ids(engine.search(query, Scope(**scope)))

    both = find("red OR blue", limit=10)
    turns = [number for pair in zip(find("red"), find("blue"), strict=True) for number in pair]
    assert both == list(dict.fromkeys(turns))[:10]
    assert find("red OR blue", limit=5, offset=5) == both[5:]
    assert set(both) <= set(find("red")) | set(find("blue"))


def test_how_many_searches_a_query_stands_for() -> None:
    def compose(text: str) -> AlternativeQueries:
        query = compose_query(
            read_terms(parse_query(text), lambda _: pytest.fail("no picture is named"))
        )
        assert isinstance(query, AlternativeQueries)
        return query

    assert len(compose('a OR b "c" OR "d"').queries) == 4
    with pytest.raises(UnanswerableQuery, match="stands for 9 searches"):
        compose('a OR b OR c "d" OR "e" OR "f"')
