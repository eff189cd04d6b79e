"""Joins and orders whole answers: the better of several queries, and hits by date."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from regard.core.records import Target
from regard.search.answers import (
    AlternativeQueries,
    Answer,
    Hit,
    Judgement,
    Order,
    Scope,
)
from regard.search.hydration import Folding

# How many of the first hits are put in the order of their dates.
SORTED_HITS = 500
# The least relevance of those, if the call does not say; without relevance, how many are taken.
_LIKELY = 0.5
_UNJUDGED_HITS = 100


def join_answers(query: AlternativeQueries, answers: Sequence[Answer], scope: Scope) -> Answer:
    """The better of several answers, each of its first `offset + limit` hits.

    Every answer keeps its order. Of their next hits the most relevant comes first, or without
    relevance that of the higher rank, so that a page is a part of any longer one. A hit of several
    answers has its first place alone, and so has a stack or a video.
    """
    is_judged = all(hit.relevance is not None for answer in answers for hit in answer.hits)
    ranked = (
        _by_relevance(number, answer.hits) if is_judged else _by_rank(number, answer.hits)
        for number, answer in enumerate(answers)
    )
    hits: dict[object, Hit] = {}
    folding = Folding(scope)
    for *_, hit in heapq.merge(*ranked, key=lambda item: item[:2]):
        if folding.shows(hit.asset, hit.region):
            hits.setdefault(_identity(hit, scope.target), hit)
    unknown = dict.fromkeys(word for answer in answers for word in answer.unknown_words)
    return Answer(
        query,
        scope.target,
        sum(answer.took_ms for answer in answers),
        _page(hits.values(), scope),
        _join_judgements([answer.judgement for answer in answers]),
        scope.min_relevance,
        tuple(unknown),
        next((answer.relevance_source for answer in answers if answer.relevance_source), None),
    )


def sort_by_date(answer: Answer, scope: Scope) -> Answer:
    """A page of the likely ones among the first hits, by the dates of their photographs."""
    least = _LIKELY if scope.min_relevance is None else scope.min_relevance
    likely = [
        hit
        for hit in answer.hits
        if (hit.rank <= _UNJUDGED_HITS if hit.relevance is None else hit.relevance >= least)
    ]
    # Hits of one moment stay in the order of their relevance.
    likely.sort(key=lambda hit: hit.asset.dated_at, reverse=scope.order is Order.NEWEST)
    return replace(answer, hits=_page(likely, scope))


def _page(hits: Iterable[Hit], scope: Scope) -> tuple[Hit, ...]:
    page = list(hits)[scope.offset : scope.offset + scope.limit]
    return tuple(replace(hit, rank=rank) for rank, hit in enumerate(page, scope.offset + 1))


_Ranked = tuple[float, int, Hit]


def _by_relevance(number: int, hits: Iterable[Hit]) -> Iterator[_Ranked]:
    """The hits of an answer by the least relevance so far, which does not rise."""
    least = 1.0
    for hit in hits:
        assert hit.relevance is not None
        least = min(least, hit.relevance)
        yield -least, number, hit


def _by_rank(number: int, hits: Iterable[Hit]) -> Iterator[_Ranked]:
    return ((hit.rank, number, hit) for hit in hits)


def _identity(hit: Hit, target: Target) -> object:
    return hit.region.id if target is Target.REGION and hit.region is not None else hit.asset.id


def _join_judgements(judgements: Sequence[Judgement | None]) -> Judgement | None:
    """A match of one of the queries is a match of all."""
    known = [judgement for judgement in judgements if judgement is not None]
    if len(known) < len(judgements):
        return None
    presences = [item.presence for item in known if item.presence is not None]
    best = [item.best_relevance for item in known if item.best_relevance is not None]
    return Judgement(
        evidence={},
        presence=max(presences, default=None),
        is_match=any(item.is_match for item in known),
        best_relevance=max(best, default=None),
    )
