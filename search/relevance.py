"""Estimates how likely a hit is right, and whether an answer holds anything right at all.

Both are probabilities that a profile's calibration derives from evidence: numbers with names.

Evidence of a hit: `KIND.cosine` in each channel of vectors; `keyword.strength`; `lead`, its fused
score minus that of the best other hit, as a share of the highest score, or 0 if there are fewer than
ten hits; and `precedence`, minus the logarithm of its rank, because few of several hits with similar
evidence are right. Where a channel did not rank a hit, the last score of that channel counts.

Evidence of the answer: `KIND.best`, the best cosine of each channel, and `keyword.best`.

Evidence of both: `concentration`, the Gini index of the query vector's absolute components (Hurley
& Rickard, 2009, arXiv 0811.4706), before any projection. Where components stand for things, a space
knows a text well if few of them hold most of its length: then the same cosine says more, and a
thing that exists should come nearer. Where components stand for nothing it hardly differs between
queries.

Queries by one picture have `KIND.prominence`, the cosine minus the mean of the channel's sixth to
tenth: what is really alike stands out, even where all photographs are alike. Instead of `lead`
they have `KIND.lead`, the cosine minus the best other one: their fused scores depend on whether
the picture itself is in the collection.

With several texts a photograph has to be right for each, and their sum cannot tell two half-met
texts from one that is met fully. So each text is also searched alone, in place of the cosine:
`KIND.least` is the least prominence by any positive text, `KIND.spared` minus the greatest by any
negative one. All positive texts describe the same region, so regions keep the cosine with the sum,
and its prominence. `unwanted` is the share of the weights that is negative.

Several terms with pictures may use two channels of one kind: there names begin with the space, and
the values of a channel that the query does not use are 0.

None of it depends on how many hits are asked for. The photographs that a query shows are excluded,
because they do not count as something similar. In larger collections presence is judged more
leniently: the best of more photographs is better by chance alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.protocols import Profile
from regard.core.records import (
    Channel,
    Float32Array,
    Float64Array,
    Int64Array,
    Kind,
    Routes,
    Target,
)
from regard.core.relevance import SURE, Calibration, Calibrations, Form
from regard.search.answers import ImageQuery, Judgement, LikeQuery, Term, TextQuery
from regard.search.encoding import ChannelVectors
from regard.search.fusion import Fusion, Ranking

# `min_relevance` and `SURE` compare with the best of this many first hits, however many are asked
# for.
JUDGED = 20
# Captions alone cannot give the keyword index this strength: it takes names or tags by people.
_NAMED = 0.4
_BY_ONE_PICTURE = frozenset({Form.IMAGE, Form.REGION})
_BY_FUSED_SCORE = frozenset({Form.TEXT, Form.MIXED})
# Mostly fewer than five hits are right, and nearly every collection has ten photographs.
_BEHIND = slice(5, 10)


@dataclass(frozen=True, slots=True)
class QueryEvidence:
    """What is known of a query before it is searched.

    `values` is evidence of the query alone. `own` are the contents that the query shows, unless it
    can find them at another path. `channels`: all that several terms with pictures may use, else
    none. `negative` has an item for each of several texts that are searched alone, too, else none.
    """

    form: Form
    values: Mapping[str, float]
    own: frozenset[int] = frozenset()
    channels: tuple[Channel, ...] = ()
    negative: tuple[bool, ...] = ()

    @classmethod
    def of_texts(cls, profile: Profile, vectors: ChannelVectors) -> list[QueryEvidence]:
        """The evidence of each of n texts by its vector in one channel."""
        return [
            cls(Form.TEXT, {"concentration": value}) for value in _concentrations(profile, vectors)
        ]

    @classmethod
    def of_terms(
        cls,
        profile: Profile,
        terms: Sequence[Term],
        vectors: Sequence[ChannelVectors],
        own: frozenset[int],
        routes: Routes,
        target: Target,
    ) -> QueryEvidence:
        """The evidence of terms by their vectors (1, d) in each channel."""
        form = form_of(terms)
        if form is Form.MIXED:
            channels = {
                routed.channel: None
                for (_, of_target), route in routes.items()
                for routed in route
                if of_target is target and routed.channel.kind is not Kind.KEYWORD
            }
            values = {f"{channel.space}.concentration": 0.0 for channel in channels}
            for of_channel in vectors:
                name = f"{of_channel.weighted.channel.space}.concentration"
                (values[name],) = _concentrations(profile, of_channel)
            return cls(form, values, own, tuple(channels))
        (value,) = _concentrations(profile, vectors[0])
        values = {"concentration": value}
        if form is not Form.TEXTS:
            return cls(form, values, own)
        unwanted = math.fsum(term.weight for term in terms if term.negative)
        values["unwanted"] = unwanted / math.fsum(term.weight for term in terms)
        if target is Target.REGION:
            return cls(form, values)
        return cls(form, values, negative=tuple(term.negative for term in terms))

    def name(self, channel: Channel) -> str:
        """The prefix of a channel's evidence."""
        return f"{channel.space}.{channel.kind}" if self.channels else str(channel.kind)


def form_of(terms: Sequence[Term]) -> Form:
    """The form of a query with these terms."""
    if len(terms) > 1:
        is_text = all(isinstance(term.query, TextQuery) for term in terms)
        return Form.TEXTS if is_text else Form.MIXED
    match terms[0].query:
        case TextQuery():
            return Form.TEXT
        case ImageQuery(box=box):
            return Form.IMAGE if box is None else Form.REGION
        case LikeQuery(reference):
            return Form.REGION if reference.is_region else Form.IMAGE


def _concentrations(profile: Profile, vectors: ChannelVectors) -> list[float]:
    """The concentration of each of a channel's vectors (n, d)."""
    rows = profile.components(vectors.weighted.channel.space, vectors.vectors)
    return [concentration(row) for row in rows]


def concentration(vector: Float32Array) -> float:
    """The Gini index of a vector's (d,) absolute components, from 0 (all equal) to almost 1."""
    ordered = np.sort(np.abs(vector).astype(np.float64))
    count, total = len(ordered), ordered.sum()
    if not total:
        return 0.0
    return float((2 * np.arange(1, count + 1) - count - 1) @ ordered / (count * total))


def matching_calibration(
    calibrations: Calibrations, form: Form, target: Target, vectors: Sequence[ChannelVectors]
) -> Calibration | None:
    """The calibration for a form of query; None if it lacks one of this query's spaces."""
    calibration = calibrations.get((form, target))
    if calibration is None or any(
        of_channel.weighted.channel.space not in calibration.spaces for of_channel in vectors
    ):
        return None
    return calibration


class Judge:
    """Judges one query's answer by the evidence for it."""

    def __init__(
        self,
        calibration: Calibration | None,
        query: QueryEvidence,
        fusion: Fusion,
        text_rankings: Sequence[Sequence[Ranking]] = (),
    ) -> None:
        """`text_rankings`: for each of several texts, its ranking in each vector channel."""
        self._calibration = calibration
        self._query = query
        self._fusion = fusion
        self._text_rankings = text_rankings
        # The first are of the first level, so that they do not depend on how deep it goes.
        self._scores = fusion.scores - fusion.bonuses
        is_first = fusion.levels == 0
        self._own = np.asarray(sorted(query.own), np.int64)
        self._ranks = np.arange(1, len(fusion.items) + 1)
        if query.own:
            own = [of.items[np.isin(of.contents, self._own)] for of in fusion.rankings]
            is_own = np.isin(fusion.items, np.concatenate(own))
            self._ranks = np.cumsum((~is_own).astype(np.int64)) + is_own
            is_first &= ~is_own
        self._firsts = np.flatnonzero(is_first)
        firsts = np.sort(self._scores[is_first])[::-1][:2]
        self._first = float(firsts[0]) if len(firsts) else 0.0
        self._second = float(firsts[1]) if len(firsts) > 1 else 0.0
        self._heads = [_head(ranking, self._own) for ranking in fusion.rankings]
        self._names = [query.name(ranking.weighted.channel) for ranking in fusion.rankings]

    def judge_hits(self, chosen: Int64Array) -> tuple[list[dict[str, float]], list[float | None]]:
        """The evidence and the relevance of the items at places (m,) of the fusion."""
        evidence = self._hit_evidence(chosen)
        if self._calibration is None:
            return evidence, [None] * len(evidence)
        return evidence, [self._calibration.hit.probability(item) for item in evidence]

    def judge_answer(self) -> Judgement:
        """Judge the answer as a whole."""
        evidence = self._answer_evidence()
        if self._calibration is None:
            return Judgement(evidence)
        _, relevances = self.judge_hits(self._firsts[:JUDGED])
        best = max((one for one in relevances if one is not None), default=None)
        presence = self._calibration.presence.probability(evidence)
        # Names can answer a text, but not a picture beside it.
        is_named = self._query.form is not Form.MIXED and (
            evidence["keyword.best"] >= _NAMED
            or any(
                of.keywords is not None and of.keywords.is_complete for of in self._fusion.rankings
            )
        )
        is_present = presence is None or presence >= self._calibration.cut_off
        is_match = is_present or is_named or (best is not None and best >= SURE)
        return Judgement(evidence, presence, is_match, best)

    def _hit_evidence(self, chosen: Int64Array) -> list[dict[str, float]]:
        fusion, form = self._fusion, self._query.form
        ranks, none = self._ranks[chosen], np.zeros(len(chosen))
        columns: dict[str, Float64Array] = {"keyword.strength": none}
        if self._query.negative:
            columns |= self._evidence_by_text(fusion.items[chosen])
        for channel in self._query.channels:
            name = self._query.name(channel)
            columns[f"{name}.cosine"] = columns[f"{name}.prominence"] = none
        heads = zip(fusion.rankings, self._heads, self._names, strict=True)
        for row, (ranking, head, name) in enumerate(heads):
            places = fusion.places[row, chosen]
            if ranking.keywords is not None:
                strengths = np.append(ranking.keywords.strengths, np.float32(0))
                columns["keyword.strength"] = strengths[places].astype(np.float64)
            elif not self._query.negative:
                # Without any score at a level, -1 selects the 0 at the end.
                lasts = np.append(ranking.scores.astype(np.float64), 0)[fusion.ends[:, row] - 1]
                lasts = lasts[fusion.levels[chosen]]
                cosines = columns[f"{name}.cosine"] = _scores_at(ranking, places, lasts)
                if form is not Form.TEXT:
                    columns[f"{name}.prominence"] = cosines - head.behind
                if form in _BY_ONE_PICTURE:
                    other = np.where(ranks == 1, head.second, head.best)
                    columns[f"{name}.lead"] = cosines - other
        if form in _BY_FUSED_SCORE:
            scores = self._scores[chosen]
            other = np.where(scores >= self._first, self._second, self._first)
            # Among few hits, one is far ahead by chance.
            has_others = len(self._firsts) >= _BEHIND.stop
            columns["lead"] = (scores - other) / max(self._first, 1e-9) if has_others else none
        columns["precedence"] = -np.log(ranks)
        for name, value in self._query.values.items():
            columns[name] = np.full(len(chosen), value)
        rows = np.column_stack([*columns.values()]).tolist()
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def _answer_evidence(self) -> dict[str, float]:
        evidence = {"keyword.best": 0.0, **self._query.values}
        has_prominence = self._query.form is not Form.TEXT and not self._query.negative
        for channel in self._query.channels:
            name = self._query.name(channel)
            evidence[f"{name}.best"] = evidence[f"{name}.prominence"] = 0.0
        heads = zip(self._fusion.rankings, self._heads, self._names, strict=True)
        for ranking, head, name in heads:
            if ranking.keywords is not None:
                evidence["keyword.best"] = float(ranking.keywords.strengths.max(initial=0.0))
                continue
            evidence[f"{name}.best"] = head.best
            if has_prominence:
                evidence[f"{name}.prominence"] = head.best - head.behind
        return evidence

    def _evidence_by_text(self, items: Int64Array) -> dict[str, Float64Array]:
        """The evidence of items (m,) by each text alone; unranked items count as the last one."""
        columns: dict[str, Float64Array] = {}
        for of_channel in zip(*self._text_rankings, strict=True):
            wanted: list[Float64Array] = []
            unwanted: list[Float64Array] = []
            for ranking, negative in zip(of_channel, self._query.negative, strict=True):
                last = ranking.scores[-1] if len(ranking.scores) else 0.0
                cosines = _scores_at(ranking, ranking.find(items), np.full(len(items), last))
                prominences = cosines - _head(ranking, self._own).behind
                (unwanted if negative else wanted).append(prominences)
            name = self._query.name(of_channel[0].weighted.channel)
            columns[f"{name}.least"] = np.min(wanted, axis=0)
            columns[f"{name}.spared"] = -np.max(unwanted or [np.zeros(len(items))], axis=0)
        return columns


@dataclass(frozen=True, slots=True)
class _Head:
    """A channel's best and second-best cosine, and the mean of the sixth to tenth."""

    best: float = 0.0
    second: float = 0.0
    behind: float = 0.0


def _head(ranking: Ranking, own: Int64Array) -> _Head:
    """The head of a ranking without the query's own photographs."""
    scores = ranking.scores
    if len(own):
        scores = scores[~np.isin(ranking.contents, own)]
    if not len(scores):
        return _Head()
    behind = scores[_BEHIND] if len(scores) > _BEHIND.start else scores[-1:]
    return _Head(float(scores[0]), float(scores[min(1, len(scores) - 1)]), float(behind.mean()))


def _scores_at(ranking: Ranking, places: Int64Array, otherwise: Float64Array) -> Float64Array:
    """The scores at places (m,), and `otherwise` (m,) where a place is -1."""
    scores = np.append(ranking.scores, np.float32(0))[places]
    return np.where(places >= 0, scores, otherwise).astype(np.float64)
