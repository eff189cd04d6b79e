"""What speaks for a hit, and for there being any right one: evidence, in numbers that have names.

Of a hit: `KIND.cosine` in each channel of vectors; `keyword.strength`; `lead`, its fused score less that
of the best other hit, as a share of the highest; and `precedence`, minus the logarithm of its rank: of
several hits with like evidence few are right. A hit that a channel did not find counts there as the last
one that it did.

Of the whole answer: `KIND.best`, the best cosine of each channel; and `keyword.best`.

Of both: `concentration`, how unevenly the query's vector's length lies on its components, as their Gini
index (Hurley & Rickard, 2009, arXiv 0811.4706). A space whose components stand for things knows a text
well when few of them hold most of its length; then a like cosine says more, and a thing that is there
should have come nearer. Where components stand for nothing it hardly differs between queries.

Queries by one picture have `KIND.prominence`: the cosine less the mean of the channel's sixth to tenth,
above which what is really alike stands out, however alike all photographs of a collection are. And
`KIND.lead` instead of `lead`, the cosine less the best other one: fused scores depend on whether the
picture itself is among the photographs.

Of several texts a photograph has to be right for each, and their sum can't tell two of them half met from
one met whole. So each is asked by itself, too, in place of the cosine: `KIND.least` is the least prominence
by any wanted text, `KIND.spared` minus the greatest by any unwanted one. A region is one thing, about which
all wanted texts are: there the cosine with their sum tells more, and its prominence. `unwanted` is the
share of the weights that is negative.

Where pictures are among several terms, two channels may be of one kind: there names begin with the space,
and what a query does not meet is 0.

None of it depends on how many hits are asked for. What a query itself shows (its own photograph) counts
nowhere: it is no other thing that is alike. The best of more photographs is better by chance alone: in
larger collections presence is judged more leniently. How evidence becomes a probability is
`regard.core.relevance`'s matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.records import Channel, Float32Array, Int64Array, Kind, Routes, Target
from regard.core.relevance import Form
from regard.search.answers import ImageQuery, LikeQuery, Term, TextQuery
from regard.search.encoding import ChannelVectors
from regard.search.fusion import Float64Array
from regard.search.ranking import Order, Ranking

_BY_ONE_PICTURE = frozenset({Form.IMAGE, Form.REGION})
_BY_FUSED_SCORE = frozenset({Form.TEXT, Form.MIXED})
# Right hits are mostly fewer than five; the tenth is there in nearly every collection.
_BEHIND = slice(5, 10)


@dataclass(frozen=True, slots=True)
class Question:
    """What a query is, before anything is found.

    `known` is evidence by itself. `own` are the contents that the query shows, unless it finds them again.
    `channels` are, of several terms with pictures, all that such a query might meet; else none. `negative`
    says of each of several texts whether it is unwanted, where each is to be asked by itself.
    """

    form: Form
    known: Mapping[str, float]
    own: frozenset[int] = frozenset()
    channels: tuple[Channel, ...] = ()
    negative: tuple[bool, ...] = ()

    @classmethod
    def of_text(cls, vector: Float32Array) -> Question:
        """The question of one text by its vector (d,)."""
        return cls(Form.TEXT, {"concentration": concentration(vector)})

    @classmethod
    def of_terms(
        cls,
        terms: Sequence[Term],
        asked: Sequence[ChannelVectors],
        own: frozenset[int],
        routes: Routes,
        target: Target,
    ) -> Question:
        """The question of terms by their vectors (1, d) in each channel."""
        form = form_of(terms)
        if form is Form.MIXED:
            channels = {
                routed.channel: None
                for (_, of_target), route in routes.items()
                for routed in route
                if of_target is target and routed.channel.kind is not Kind.KEYWORD
            }
            known = {f"{channel.space}.concentration": 0.0 for channel in channels}
            for met in asked:
                name = f"{met.weighted.channel.space}.concentration"
                known[name] = concentration(met.vectors[0])
            return cls(form, known, own, tuple(channels))
        known = {"concentration": concentration(asked[0].vectors[0])}
        if form is not Form.TEXTS:
            return cls(form, known, own)
        unwanted = math.fsum(term.weight for term in terms if term.negative)
        known["unwanted"] = unwanted / math.fsum(term.weight for term in terms)
        if target is Target.REGION:
            return cls(form, known)
        return cls(form, known, negative=tuple(term.negative for term in terms))

    def name(self, channel: Channel) -> str:
        """What the names of a channel's evidence begin with."""
        return f"{channel.space}.{channel.kind}" if self.channels else str(channel.kind)


def form_of(terms: Sequence[Term]) -> Form:
    """What a query of these terms is made of."""
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


def concentration(vector: Float32Array) -> float:
    """The Gini index of a vector's (d,) absolute components: 0 where all are equal, almost 1 of one."""
    ordered = np.sort(np.abs(vector).astype(np.float64))
    count, total = len(ordered), ordered.sum()
    if not total:
        return 0.0
    return float((2 * np.arange(1, count + 1) - count - 1) @ ordered / (count * total))


class Evidence:
    """The evidence of one answer: of its question, its order, and the rankings that were fused into it.

    `parts` are, for each of several texts, the rankings of the same channels of vectors by it alone.
    """

    def __init__(
        self,
        question: Question,
        order: Order,
        rankings: Sequence[Ranking],
        parts: Sequence[Sequence[Ranking]] = (),
    ) -> None:
        self._question = question
        self._order = order
        self._rankings = rankings
        self._parts = parts
        # The first two are of the first level, and so the same however deep is read.
        firsts = order.scores[:2]
        self._own = np.asarray(sorted(question.own), np.int64)
        self._ranks: Int64Array | None = None
        if question.own:
            own = [found.items[np.isin(found.contents, self._own)] for found in rankings]
            is_own = np.isin(order.items, np.concatenate(own))
            self._ranks = np.cumsum((~is_own).astype(np.int64)) + is_own
            firsts = order.scores[~is_own][:2]
        self._first = float(firsts[0]) if len(firsts) else 0.0
        self._second = float(firsts[1]) if len(firsts) > 1 else 0.0

    def of_hits(
        self,
        places: Sequence[Int64Array],
        lasts: Sequence[Float64Array],
        scores: Float64Array,
        ranks: Int64Array,
    ) -> list[dict[str, float]]:
        """The evidence of m items.

        For each ranking `places` (m,) say where it has them, -1 where it has not, and `lasts` (m,) the last
        score of their level; `scores` (m,) are fused, `ranks` (m,) count from 1.
        """
        form = self._question.form
        columns: dict[str, Float64Array] = {"keyword.strength": np.zeros(len(ranks))}
        if self._question.negative:
            columns |= self._by_each_text(self._order.items[ranks - 1])
        if self._ranks is not None:
            ranks = self._ranks[ranks - 1]
        for channel in self._question.channels:
            name = self._question.name(channel)
            columns[f"{name}.cosine"] = columns[f"{name}.prominence"] = np.zeros(len(ranks))
        for ranking, at, last in zip(self._rankings, places, lasts, strict=True):
            if ranking.keywords is not None:
                strengths = ranking.keywords.strengths
                columns["keyword.strength"] = _values(strengths, at, np.zeros(len(ranks)))
            elif not self._question.negative:
                name = self._question.name(ranking.weighted.channel)
                cosines = columns[f"{name}.cosine"] = _values(ranking.scores, at, last)
                if form is not Form.TEXT:
                    head = _head(ranking, self._own)
                    columns[f"{name}.prominence"] = cosines - head.behind
                if form in _BY_ONE_PICTURE:
                    other = np.where(ranks == 1, head.second, head.best)
                    columns[f"{name}.lead"] = cosines - other
        if form in _BY_FUSED_SCORE:
            other = np.where(ranks == 1, self._second, self._first)
            columns["lead"] = (scores - other) / max(self._first, 1e-9)
        columns["precedence"] = -np.log(ranks)
        for name, value in self._question.known.items():
            columns[name] = np.full(len(ranks), value)
        rows = np.column_stack([*columns.values()]).tolist()
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def of_answer(self) -> dict[str, float]:
        """The evidence of the whole answer."""
        evidence = {"keyword.best": 0.0, **self._question.known}
        has_prominence = self._question.form is not Form.TEXT and not self._question.negative
        for channel in self._question.channels:
            name = self._question.name(channel)
            evidence[f"{name}.best"] = evidence[f"{name}.prominence"] = 0.0
        for ranking in self._rankings:
            if ranking.keywords is not None:
                evidence["keyword.best"] = float(ranking.keywords.strengths.max(initial=0.0))
                continue
            name = self._question.name(ranking.weighted.channel)
            head = _head(ranking, self._own)
            evidence[f"{name}.best"] = head.best
            if has_prominence:
                evidence[f"{name}.prominence"] = head.best - head.behind
        return evidence

    def _by_each_text(self, items: Int64Array) -> dict[str, Float64Array]:
        """What each text alone says of items (m,); one that it did not rank counts as its last."""
        columns: dict[str, Float64Array] = {}
        for of_channel in zip(*self._parts, strict=True):
            wanted: list[Float64Array] = []
            unwanted: list[Float64Array] = []
            for ranking, negative in zip(of_channel, self._question.negative, strict=True):
                last = ranking.scores[-1] if len(ranking.scores) else 0.0
                cosines = _values(ranking.scores, ranking.find(items), np.full(len(items), last))
                prominences = cosines - _head(ranking, self._own).behind
                (unwanted if negative else wanted).append(prominences)
            name = self._question.name(of_channel[0].weighted.channel)
            columns[f"{name}.least"] = np.min(wanted, axis=0)
            columns[f"{name}.spared"] = -np.max(unwanted or [np.zeros(len(items))], axis=0)
        return columns


@dataclass(frozen=True, slots=True)
class _Head:
    """A channel's best and second cosine, and the mean of some behind; 0 of nothing."""

    best: float = 0.0
    second: float = 0.0
    behind: float = 0.0


def _head(ranking: Ranking, own: Int64Array) -> _Head:
    """Of what is not on the query's own photographs."""
    scores = ranking.scores
    if len(own):
        scores = scores[~np.isin(ranking.contents, own)]
    if not len(scores):
        return _Head()
    behind = scores[_BEHIND] if len(scores) > _BEHIND.start else scores[-1:]
    return _Head(float(scores[0]), float(scores[min(1, len(scores) - 1)]), float(behind.mean()))


def _values(values: Float32Array, places: Int64Array, otherwise: Float64Array) -> Float64Array:
    """The values (n,) at places (m,), and something else where an item is not there."""
    if not len(values):
        return otherwise
    return np.where(places >= 0, values[places], otherwise).astype(np.float64)
