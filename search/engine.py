"""Answers queries: encode, search the channels, fuse, hydrate.

The keyword index is asked while the text is encoded, in a thread beside: the encoder leaves it the
processor, and hardly any of its time adds to the answer's.

The engine holds no state of its own between calls; every parameter travels with the call. On a home that
does not change the same call gives the same answer, and the hits of one limit and offset are a part
of those of any larger limit: pages neither repeat nor drop any.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from regard.core.catalog import (
    ChannelQuery,
    ChannelSearch,
    KeywordSearch,
    Owners,
    SearchCatalog,
)
from regard.core.errors import UnanswerableQuery
from regard.core.machine import usable_cores
from regard.core.protocols import Profile
from regard.core.records import Int64Array, Routes, Target, WeightedChannel
from regard.core.relevance import Calibrations
from regard.search.answers import (
    Answer,
    ComposedQuery,
    Hit,
    Judgement,
    ListQuery,
    Query,
    Scope,
    Term,
    TextQuery,
)
from regard.search.encoding import (
    ChannelVectors,
    Excluded,
    encode_terms,
    encode_texts,
    words_of_terms,
)
from regard.search.evidence import Evidence, Question
from regard.search.hydration import Portion
from regard.search.keywords import KeywordRanking, WeightedWords, rank_words
from regard.search.ranking import (
    DEEPEST_LEVEL,
    Order,
    Ranking,
    by_keywords,
    collapse,
    embeddings_at,
    level_for,
    order_of,
)
from regard.search.relevance import JUDGED, Judge, fitting

# What is told of each stage of a call ("encode", "index", "fuse", "hydrate"), in seconds.
Observe = Callable[[str, float], None]

_TEXT_BATCH = 32


class SearchEngine:
    """Searches one home with its live profile."""

    def __init__(
        self,
        profile: Profile,
        catalog: SearchCatalog,
        channels: ChannelSearch,
        routes: Routes | None = None,
        observe: Observe | None = None,
        keywords: KeywordSearch | None = None,
        calibrations: Calibrations | None = None,
    ) -> None:
        """`routes` stand in for the profile's own, to measure what a channel is worth.

        `observe` is called once for each stage of a search, and of a batch of texts. Without `keywords` no
        words are looked up. `calibrations` stand in for the profile's own.
        """
        self._profile = profile
        self._calibrations = profile.calibrations if calibrations is None else calibrations
        self._routes = profile.routes if routes is None else routes
        self._catalog = catalog
        self._channels = channels
        self._observe = observe
        self._keywords = keywords
        self._pool = ThreadPoolExecutor(usable_cores(), "keywords")

    def search(self, query: Query, scope: Scope) -> Answer:
        """Answer one query.

        Raises UsageError for what the arguments make impossible, NotFound for an id or a collection
        that is not there.
        """
        if isinstance(query, TextQuery):
            return self.search_texts([query], scope)[0]
        clock = _Clock()
        if isinstance(query, ListQuery):
            listed = self._list(scope)
            clock.lap("hydrate")
            return Answer(query, scope.target, self._stop(clock), listed)
        terms = query.terms if isinstance(query, ComposedQuery) else (Term(query),)
        words = self._look_up([terms], scope)
        asked, excluded = encode_terms(
            self._profile, self._catalog, self._routes, terms, scope.target
        )
        clock.lap("encode")
        own = self._own(excluded, scope)
        question = Question.of_terms(terms, asked, own, self._routes, scope.target)
        found = self._hits(asked, words, scope, excluded, clock, [question])[0]
        return Answer(
            query,
            scope.target,
            self._stop(clock),
            tuple(found.hits),
            found.judgement,
            scope.min_relevance,
        )

    def _own(self, excluded: Excluded, scope: Scope) -> frozenset[int]:
        """The contents that the query itself shows, save those that it finds at another path, too."""
        if not excluded.photographs:
            return excluded.cut_from
        found = self._catalog.hit_records(excluded.photographs, (), scope.filter).assets
        copied = {
            content
            for content, assets in found.items()
            if any(asset.id not in excluded.assets for asset in assets)
        }
        return excluded.cut_from | (excluded.photographs - copied)

    def _list(self, scope: Scope) -> tuple[Hit, ...]:
        """The newest photographs that pass the filter; no channel found them, and they have no score."""
        if scope.target is Target.REGION:
            raise UnanswerableQuery(
                "filters alone list photographs, not the things in them",
                remedy="say what to look for, too",
            )
        assets = self._catalog.newest(scope.filter, scope.offset, scope.limit)
        first = scope.offset + 1
        return tuple(Hit(rank, 0.0, asset, None, ()) for rank, asset in enumerate(assets, first))

    def search_texts(self, queries: Sequence[TextQuery], scope: Scope) -> list[Answer]:
        """Answer several texts with one batch through the encoder; order in is order out."""
        answers = []
        for start in range(0, len(queries), _TEXT_BATCH):
            batch = queries[start : start + _TEXT_BATCH]
            clock = _Clock()
            words = self._look_up([[Term(query)] for query in batch], scope)
            texts = [query.text for query in batch]
            asked = encode_texts(self._profile, self._routes, texts, scope.target)
            clock.lap("encode")
            questions = [Question.of_text(vector) for vector in asked[0].vectors]
            found = self._hits(asked, words, scope, Excluded(), clock, questions)
            took = self._stop(clock) / len(batch)
            answers += [
                Answer(
                    query,
                    scope.target,
                    took,
                    tuple(row.hits),
                    row.judgement,
                    scope.min_relevance,
                )
                for query, row in zip(batch, found, strict=True)
            ]
        return answers

    def _stop(self, clock: _Clock) -> float:
        """The milliseconds of a call, when its stages have been told."""
        if self._observe is not None:
            for stage, seconds in clock.stages.items():
                self._observe(stage, seconds)
        return 1000 * (clock.last - clock.started)

    def _look_up(self, queries: Sequence[Sequence[Term]], scope: Scope) -> _LookUp | None:
        """Begin to look up the words of queries of terms; None where none has any."""
        if self._keywords is None:
            return None
        asked = [words_of_terms(self._routes, terms, scope.target) for terms in queries]
        channel = next((found[0] for found in asked if found is not None), None)
        words = [[] if found is None else found[1] for found in asked]
        if channel is None or not any(words):
            return None
        return _LookUp(channel, self._pool.submit(_rank_words, self._keywords, words, scope))

    def _hits(
        self,
        asked: Sequence[ChannelVectors],
        words: _LookUp | None,
        scope: Scope,
        excluded: Excluded,
        clock: _Clock,
        questions: Sequence[Question],
    ) -> list[_Found]:
        """The hits of each row of the vectors; reads deeper until there are as many as wanted.

        Only rows that came short are read again: what a query gets does not depend on its neighbours.
        """
        wanted = scope.offset + scope.limit
        level = level_for(wanted)
        rows = list(range(len(asked[0].vectors)))
        answers: dict[int, _Found] = {}
        parts: list[list[Ranking]] = []
        while rows:
            rankings = self._rank(asked, rows, scope, level, clock)
            if words is not None:
                by_words = words.rankings.result()
                for row, of_row in zip(rows, rankings, strict=True):
                    of_row.append(by_keywords(words.channel, by_words[row], level))
                clock.lap("index")
            calibration = fitting(self._calibrations, questions[0].form, scope.target, asked)
            if questions[0].negative and not parts:
                parts = self._parts(asked, scope, clock)
            short = []
            for row, of_row in zip(rows, rankings, strict=True):
                order = order_of(of_row, scope.target, level)
                clock.lap("fuse")
                evidence = Evidence(questions[row], order, of_row, parts)
                judge = Judge(calibration, questions[row].form, evidence)
                judgement = judge.of_answer(_relevances(judge, order, of_row, scope))
                clock.lap("fuse")
                hits, count = self._hydrate(order, of_row, scope, excluded, judge)
                clock.lap("hydrate")
                answers[row] = _Found(hits, judgement)
                if count < wanted and not all(ranking.exhausted for ranking in of_row):
                    short.append(row)
            rows = short if level < DEEPEST_LEVEL else []
            level += 1
        return [answers[row] for row in range(len(questions))]

    def _parts(
        self, asked: Sequence[ChannelVectors], scope: Scope, clock: _Clock
    ) -> list[list[Ranking]]:
        """What each of a query's terms ranks by itself."""
        alone = [replace(met, vectors=met.parts) for met in asked if met.parts is not None]
        return self._rank(alone, range(len(alone[0].vectors)), scope, 0, clock)

    def _rank(
        self,
        asked: Sequence[ChannelVectors],
        rows: Sequence[int],
        scope: Scope,
        level: int,
        clock: _Clock,
    ) -> list[list[Ranking]]:
        """For each query row, the ranking of every channel."""
        found = self._channels.search(
            [
                ChannelQuery(
                    channel.weighted.channel,
                    channel.vectors[rows],
                    embeddings_at(channel.weighted, scope.target, level),
                )
                for channel in asked
            ],
            scope.filter,
        )
        clock.lap("index")
        owners = self._owners([ids for _, ids in found])
        return [
            [
                collapse(
                    channel.weighted,
                    scores[place],
                    ids[place],
                    Owners(of_ids.contents[place], of_ids.regions[place]),
                    scope.target,
                )
                for channel, (scores, ids), of_ids in zip(asked, found, owners, strict=True)
            ]
            for place in range(len(rows))
        ]

    def _owners(self, found: Sequence[Int64Array]) -> list[Owners]:
        """The owners of several arrays of embeddings, asked for at once."""
        every = self._catalog.owners(np.concatenate([ids.ravel() for ids in found]))
        owners = []
        end = 0
        for ids in found:
            start, end = end, end + ids.size
            contents, regions = every.contents[start:end], every.regions[start:end]
            owners.append(Owners(contents.reshape(ids.shape), regions.reshape(ids.shape)))
        return owners

    def _hydrate(
        self,
        order: Order,
        rankings: Sequence[Ranking],
        scope: Scope,
        excluded: Excluded,
        judge: Judge,
    ) -> tuple[list[Hit], int]:
        """The hits of the page, and how many there are up to its end."""
        kept = np.arange(len(order.items))
        if excluded.items:
            kept = np.flatnonzero(~np.isin(order.items, list(excluded.items)))
        hits: list[Hit] = []
        wanted = scope.offset + scope.limit
        count = start = 0
        portion = min(wanted, len(kept)) + 1
        while count < wanted and start < len(kept):
            # Nearly always once: an item gives at least one hit, save what is left out or deleted.
            chosen = kept[start : start + portion]
            items = Portion(order, chosen, rankings, scope.target, judge)
            records = self._catalog.hit_records(
                set(items.contents.tolist()), set(items.regions.tolist()) - {0}, scope.filter
            )
            for place, asset in items.shown(records, excluded):
                count += 1
                if scope.offset < count <= wanted:
                    hits.append(items.hit(place, count, asset, records))
            start += portion
            portion *= 4
        return hits, min(count, wanted)


@dataclass(frozen=True, slots=True)
class _LookUp:
    """Words that are being looked up for several queries, and the channel that they count by."""

    channel: WeightedChannel
    rankings: Future[list[KeywordRanking]]


def _rank_words(
    keywords: KeywordSearch, asked: Sequence[Sequence[WeightedWords]], scope: Scope
) -> list[KeywordRanking]:
    """What has the words of each query."""
    found = keywords.find([[item.words for item in words] for words in asked], scope.filter)
    return [
        rank_words(words, occurrences, scope.target)
        for words, occurrences in zip(asked, found, strict=True)
    ]


def _relevances(
    judge: Judge, order: Order, rankings: Sequence[Ranking], scope: Scope
) -> Sequence[float | None]:
    """Of the first hits, where a match is told by them; that costs as much as to show them."""
    if scope.min_relevance is None:
        return ()
    # Of the first level alone, which is the same however deep is read.
    first = np.flatnonzero(order.levels == 0)[:JUDGED]
    return Portion(order, first, rankings, scope.target, judge).relevances


@dataclass(frozen=True, slots=True)
class _Found:
    """The hits of one query, and what is to be said of its answer."""

    hits: list[Hit]
    judgement: Judgement


class _Clock:
    """Where the time of one call goes."""

    def __init__(self) -> None:
        self.started = self.last = time.perf_counter()
        self.stages: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """The time since the last lap was this stage's."""
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self.last
        self.last = now
