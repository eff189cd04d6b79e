"""Answers queries: encode, search the channels, fuse, calibrate, hydrate.

The keyword index is read in another thread while the encoder has the processor, so that words add
hardly any time.

Every parameter travels with the call: the engine keeps nothing between calls but the vectors of
texts, the last ones and those of searches that wait. On a home that does not change, the same call
gives the same answer, and the hits of one limit and offset are a part of those of any larger limit:
pages neither repeat nor drop hits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import BoundedSemaphore

from regard.core.catalog import ChannelQuery, ChannelSearch, KeywordSearch, SearchCatalog
from regard.core.errors import UnanswerableQuery
from regard.core.machine import usable_cores
from regard.core.protocols import Profile
from regard.core.records import Routes, Target, WeightedChannel
from regard.core.relevance import CurrentCalibrations, Form, RelevanceSource
from regard.search.alternatives import SORTED_HITS, join_answers, sort_by_date
from regard.search.answers import (
    AlternativeQueries,
    Answer,
    ComposedQuery,
    Hit,
    Judgement,
    ListQuery,
    Order,
    Query,
    Scope,
    Term,
    TextQuery,
)
from regard.search.encoding import (
    ChannelVectors,
    Excluded,
    ReadText,
    TextEncoding,
    encode_terms,
    encode_texts,
    read_texts,
    text_spaces,
    words_of_terms,
)
from regard.search.fusion import (
    DEEPEST_LEVEL,
    Ranking,
    embeddings_at,
    fuse,
    level_for,
    rank_by_keywords,
    rank_by_vectors,
)
from regard.search.hydration import hydrate
from regard.search.keywords import KeywordRanking, WeightedWords, rank_words
from regard.search.refining import LoadImage, Refiner
from regard.search.relevance import Judge, QueryEvidence, matching_calibration
from regard.search.timing import Clock, Observe

_TEXT_BATCH = 32
# How many times as many embeddings are read where videos have too many of them.
_DEEPER = 4


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
        calibrations: CurrentCalibrations | None = None,
        load_image: LoadImage | None = None,
    ) -> None:
        """`routes` and `calibrations` replace the profile's own.

        `observe` is called once for each stage of a search, and of a batch of texts. Without
        `keywords` words are not looked up, and without `load_image` nothing is refined.
        """
        self._profile = profile
        self._encoding = TextEncoding(profile)
        self._calibrations = calibrations or CurrentCalibrations(
            RelevanceSource.PROFILE, lambda: profile.calibrations or {}
        )
        self._routes = profile.routes if routes is None else routes
        self._catalog = catalog
        self._channels = channels
        self._observe = observe
        self._keywords = keywords
        self._refiner = Refiner(profile, load_image, observe)
        self._pool = ThreadPoolExecutor(usable_cores(), "keywords")
        # More searches at once than cores only wait for one another.
        self._turns = BoundedSemaphore(usable_cores())

    def search(self, query: Query, scope: Scope) -> Answer:
        """Answer one query.

        Raises UsageError if the arguments rule an answer out, NotFound for an unknown id or
        collection, ModelError if hits are to be refined and the grounder can't be loaded.
        """
        if scope.refined_ranks:
            return self._refiner.search(self.search, query, scope)
        if scope.order is not Order.RELEVANCE and not isinstance(query, ListQuery):
            first = replace(scope, order=Order.RELEVANCE, offset=0, limit=SORTED_HITS)
            return sort_by_date(self.search(query, first), scope)
        if isinstance(query, AlternativeQueries):
            first = replace(scope, offset=0, limit=scope.offset + scope.limit)
            answers = [self.search(one, first) for one in query.queries]
            return join_answers(query, answers, scope)
        if isinstance(query, TextQuery):
            return self.search_texts([query], scope)[0]
        if isinstance(query, ListQuery):
            with self._turns:
                return self._list(query, scope, Clock())
        terms = query.terms if isinstance(query, ComposedQuery) else (Term(query),)
        has_text = any(isinstance(term.query, TextQuery) for term in terms)
        spaces = text_spaces(self._routes, scope.target) if has_text else []
        read, unknown = self._read(terms, spaces)
        texts = [term.query.text for term in read if isinstance(term.query, TextQuery)]
        with self._turn(spaces, texts):
            return self._search(query, terms, read, unknown, scope)

    @contextmanager
    def _turn(self, spaces: Sequence[str], texts: Sequence[str]) -> Iterator[None]:
        """Wait for a turn; the texts of others that wait are encoded meanwhile."""
        self._encoding.expect(spaces, texts)
        with self._turns:
            yield

    def _search(
        self,
        query: Query,
        terms: Sequence[Term],
        read: Sequence[Term],
        unknown: tuple[str, ...],
        scope: Scope,
    ) -> Answer:
        clock = Clock()
        words = self._look_up([terms], scope)
        if all(term.negative for term in read):
            return self._answer(_by_words_alone(query, scope, words, unknown), clock)[0]
        vectors, excluded = encode_terms(
            self._profile, self._encoding, self._catalog, self._routes, read, scope.target
        )
        clock.lap("encode")
        own = self._own_contents(excluded, scope)
        evidence = QueryEvidence.of_terms(
            self._profile, read, vectors, own, self._routes, scope.target
        )
        plan = _SearchPlan([query], scope, vectors, [evidence], words, [unknown], excluded)
        return self._answer(plan, clock)[0]

    def search_texts(self, queries: Sequence[TextQuery], scope: Scope) -> list[Answer]:
        """Answer several texts with one batch through the encoder, in their order."""
        if scope.refined_ranks:
            return [self._refiner.search(self.search, query, scope) for query in queries]
        if scope.order is not Order.RELEVANCE:
            first = replace(scope, order=Order.RELEVANCE, offset=0, limit=SORTED_HITS)
            return [sort_by_date(answer, scope) for answer in self.search_texts(queries, first)]
        texts = [query.text for query in queries]
        spaces = text_spaces(self._routes, scope.target) if texts else []
        read = read_texts(self._profile, spaces, texts)
        # Many texts fill batches of their own.
        alone = [item.text for item in read if item.text is not None and len(queries) == 1]
        with self._turn(spaces, alone):
            return self._search_texts(queries, read, scope)

    def _search_texts(
        self, queries: Sequence[TextQuery], texts: Sequence[ReadText], scope: Scope
    ) -> list[Answer]:
        answers: dict[int, Answer] = {}
        readable: list[tuple[int, str, tuple[str, ...]]] = []
        for place, (query, read) in enumerate(zip(queries, texts, strict=True)):
            if read.text is None:
                words = self._look_up([[Term(query)]], scope)
                plan = _by_words_alone(query, scope, words, read.unknown)
                answers[place] = self._answer(plan, Clock())[0]
            else:
                readable.append((place, read.text, read.unknown))
        for start in range(0, len(readable), _TEXT_BATCH):
            places, texts, unknown = zip(*readable[start : start + _TEXT_BATCH], strict=True)
            batch = [queries[place] for place in places]
            clock = Clock()
            words = self._look_up([[Term(query)] for query in batch], scope)
            vectors = encode_texts(self._encoding, self._routes, texts, scope.target)
            clock.lap("encode")
            evidence = QueryEvidence.of_texts(self._profile, vectors[0])
            plan = _SearchPlan(batch, scope, vectors, evidence, words, unknown)
            answers.update(zip(places, self._answer(plan, clock), strict=True))
        return [answers[place] for place in range(len(queries))]

    def _read(
        self, terms: Sequence[Term], spaces: Sequence[str]
    ) -> tuple[list[Term], tuple[str, ...]]:
        """The terms as the encoders can read them, and the words that they do not know."""
        texts = [term.query.text for term in terms if isinstance(term.query, TextQuery)]
        reads = iter(read_texts(self._profile, spaces, texts))
        kept: list[Term] = []
        unknown: list[str] = []
        for term in terms:
            if not isinstance(term.query, TextQuery):
                kept.append(term)
                continue
            read = next(reads)
            unknown += read.unknown
            if read.text is not None:
                kept.append(replace(term, query=replace(term.query, text=read.text)))
        return kept, tuple(dict.fromkeys(unknown))

    def _list(self, query: ListQuery, scope: Scope, clock: Clock) -> Answer:
        """The photographs that pass the filter by date, without scores or channels."""
        if scope.target is Target.REGION:
            raise UnanswerableQuery(
                "filters alone list photographs, not regions",
                remedy="add what to look for",
            )
        assets = self._catalog.newest(
            scope.filter,
            scope.offset,
            scope.limit,
            oldest_first=scope.order is Order.OLDEST,
            folded=scope.folds(is_list=True),
        )
        clock.lap("hydrate")
        first = scope.offset + 1
        hits = tuple(Hit(rank, 0.0, asset, None, ()) for rank, asset in enumerate(assets, first))
        return Answer(query, scope.target, clock.stop(self._observe), hits)

    def _own_contents(self, excluded: Excluded, scope: Scope) -> frozenset[int]:
        """The contents that the query shows, except those that it can find at another path."""
        if not excluded.asset_contents:
            return excluded.region_contents
        records = self._catalog.hit_records(excluded.asset_contents, (), scope.filter)
        copied = {
            content
            for content, assets in records.assets.items()
            if any(asset.id not in excluded.assets for asset in assets)
        }
        return excluded.region_contents | (excluded.asset_contents - copied)

    def _look_up(self, queries: Sequence[Sequence[Term]], scope: Scope) -> _WordLookup | None:
        """Begin to look up the words of queries; None if they have none."""
        if self._keywords is None:
            return None
        routed = [words_of_terms(self._routes, terms, scope.target) for terms in queries]
        channel = next((item[0] for item in routed if item is not None), None)
        words = [[] if item is None else item[1] for item in routed]
        if channel is None or not any(words):
            return None
        return _WordLookup(channel, self._pool.submit(_rank_words, self._keywords, words, scope))

    def _answer(self, plan: _SearchPlan, clock: Clock) -> list[Answer]:
        try:
            return self._answer_in_levels(plan, clock)
        finally:
            # After an error too: the catalog must not be closed while another thread reads it.
            if plan.words is not None:
                wait([plan.words.rankings])

    def _answer_in_levels(self, plan: _SearchPlan, clock: Clock) -> list[Answer]:
        """Answer the queries of a plan, reading deeper until each has its hits.

        Only queries that are short of hits are read again, so that an answer does not depend on
        the other queries of its batch.
        """
        scope, vectors = plan.scope, plan.vectors
        end = scope.offset + scope.limit
        level = level_for(end)
        rows = list(range(len(plan.queries)))
        found: dict[int, tuple[list[Hit], Judgement]] = {}
        form = plan.evidence[0].form
        calibration = None
        if vectors:
            current = self._calibrations.current()
            calibration = matching_calibration(current, form, scope.target, vectors)
        text_rankings: list[list[Ranking]] = []
        if plan.evidence[0].negative:
            text_rankings = self._rank_texts(vectors, scope, clock)
        while rows:
            rankings = self._rank(vectors, rows, scope, level, clock)
            if plan.words is not None:
                by_words = plan.words.rankings.result()
                for row, of_row in zip(rows, rankings, strict=True):
                    of_row.append(rank_by_keywords(plan.words.channel, by_words[row], level))
                clock.lap("index")
            short = []
            for row, of_row in zip(rows, rankings, strict=True):
                fusion = fuse(of_row, scope.target, level)
                judge = Judge(calibration, plan.evidence[row], fusion, text_rankings)
                judgement = judge.judge_answer()
                clock.lap("fuse")
                hits, count = hydrate(self._catalog, fusion, judge, scope, plan.excluded)
                clock.lap("hydrate")
                found[row] = hits, judgement
                if count < end and not all(ranking.exhausted for ranking in of_row):
                    short.append(row)
            rows = short if level < DEEPEST_LEVEL else []
            level += 1
        took = clock.stop(self._observe) / len(plan.queries)
        answers = []
        for row, query in enumerate(plan.queries):
            hits, judgement = found[row]
            answers.append(
                Answer(
                    query,
                    scope.target,
                    took,
                    tuple(hits),
                    judgement,
                    scope.min_relevance,
                    plan.unknown[row],
                    None if calibration is None else self._calibrations.source,
                )
            )
        return answers

    def _rank_texts(
        self, vectors: Sequence[ChannelVectors], scope: Scope, clock: Clock
    ) -> list[list[Ranking]]:
        """The rankings of each text of a query alone, by channel."""
        alone = [
            replace(channel, vectors=channel.term_vectors)
            for channel in vectors
            if channel.term_vectors is not None
        ]
        return self._rank(alone, range(len(alone[0].vectors)), scope, 0, clock)

    def _rank(
        self,
        vectors: Sequence[ChannelVectors],
        rows: Sequence[int],
        scope: Scope,
        level: int,
        clock: Clock,
    ) -> list[list[Ranking]]:
        """The ranking of every channel, for each row of the vectors."""
        if not vectors:
            return [[] for _ in rows]
        depths = [embeddings_at(channel.weighted, scope.target, level) for channel in vectors]
        while True:
            results = self._channels.search(
                [
                    ChannelQuery(
                        channel.weighted.channel, channel.vectors[rows], depth, scope.exact
                    )
                    for channel, depth in zip(vectors, depths, strict=True)
                ],
                scope.filter,
            )
            rankings = [
                [
                    rank_by_vectors(channel.weighted, neighbours, place, scope.target)
                    for channel, neighbours in zip(vectors, results, strict=True)
                ]
                for place in range(len(rows))
            ]
            clock.lap("index")
            short = [
                any(ranking.is_short(level) for ranking in of_channel)
                for of_channel in zip(*rankings, strict=True)
            ]
            if not any(short):
                return rankings
            # Read together again, so that all channels are of one moment.
            depths = [
                depth * _DEEPER if is_short else depth
                for depth, is_short in zip(depths, short, strict=True)
            ]


@dataclass(frozen=True, slots=True)
class _WordLookup:
    """A running lookup of the words of several queries, and the channel that weights them."""

    channel: WeightedChannel
    rankings: Future[list[KeywordRanking]]


@dataclass(frozen=True, slots=True)
class _SearchPlan:
    """Queries with what was encoded of them: n vectors in each channel, n items of evidence.

    `unknown` (n) are the words that the models do not know.
    """

    queries: Sequence[Query]
    scope: Scope
    vectors: Sequence[ChannelVectors]
    evidence: Sequence[QueryEvidence]
    words: _WordLookup | None
    unknown: Sequence[tuple[str, ...]]
    excluded: Excluded = field(default_factory=Excluded)


def _by_words_alone(
    query: Query, scope: Scope, words: _WordLookup | None, unknown: tuple[str, ...]
) -> _SearchPlan:
    """The plan for a query that the models cannot read."""
    return _SearchPlan([query], scope, [], [QueryEvidence(Form.TEXT, {})], words, [unknown])


def _rank_words(
    keywords: KeywordSearch, queries: Sequence[Sequence[WeightedWords]], scope: Scope
) -> list[KeywordRanking]:
    occurrences = keywords.find([[item.words for item in words] for words in queries], scope.filter)
    return [
        rank_words(words, of_query, scope.target)
        for words, of_query in zip(queries, occurrences, strict=True)
    ]
