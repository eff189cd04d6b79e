"""What speaks for a hit, and for there being any right one: evidence, in numbers that have names.

Of a hit: `KIND.cosine` in each channel of vectors; `keyword.strength`; `lead`, its fused score less that
of the best other hit, as a share of the highest; and `precedence`, minus the logarithm of its rank: of
several hits with like evidence few are right. A hit that a channel did not find counts there as the last
one that it did.

Of the whole answer: `KIND.best`, the best cosine of each channel; and `keyword.best`.

Of both: `concentration`, how unevenly a text's vector's length lies on its components, as their Gini
index (Hurley & Rickard, 2009, arXiv 0811.4706). A space whose components stand for things knows a text
well when few of them hold most of its length; then a like cosine says more, and a thing that is there
should have come nearer. Where components stand for nothing it hardly differs between texts.

None of this depends on how many hits are asked for, or on what stands behind the second. The best of more
photographs is better by chance alone: in larger collections presence is judged more leniently. How
evidence becomes a probability is `regard.core.relevance`'s matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from regard.core.records import Float32Array, Int64Array
from regard.core.relevance import Calibration
from regard.search.answers import Judgement
from regard.search.encoding import ChannelVectors
from regard.search.fusion import Float64Array
from regard.search.ranking import Order, Ranking

# Whether any hit is relevant enough is told from the first ones, however many are asked for.
JUDGED = 20
# Captions alone can't bring the keyword index's strength so far: what people wrote says this.
_NAMED = 0.4


class Judge:
    """Judges the answer to one text: its order, and the rankings that were fused into it."""

    def __init__(
        self,
        calibration: Calibration | None,
        concentration: float,
        order: Order,
        rankings: Sequence[Ranking],
    ) -> None:
        self._calibration = calibration
        self._concentration = concentration
        self._rankings = rankings
        # The first two are of the first level, and so the same however deep is read.
        self._first = float(order.scores[0]) if len(order.scores) else 0.0
        self._second = float(order.scores[1]) if len(order.scores) > 1 else 0.0

    def of_hits(
        self,
        places: Sequence[Int64Array],
        lasts: Sequence[Float64Array],
        scores: Float64Array,
        ranks: Int64Array,
    ) -> tuple[list[dict[str, float]], list[float | None]]:
        """The evidence and the relevance of m items.

        For each ranking `places` (m,) say where it has them, -1 where it has not, and `lasts` (m,) the last
        score of their level; `scores` (m,) are fused, `ranks` (m,) count from 1.
        """
        columns: dict[str, Float64Array] = {"keyword.strength": np.zeros(len(ranks))}
        for ranking, at, last in zip(self._rankings, places, lasts, strict=True):
            if ranking.keywords is not None:
                strengths = ranking.keywords.strengths
                columns["keyword.strength"] = _values(strengths, at, np.zeros(len(ranks)))
            else:
                kind = ranking.weighted.channel.kind
                columns[f"{kind}.cosine"] = _values(ranking.scores, at, last)
        other = np.where(ranks == 1, self._second, self._first)
        columns["lead"] = (scores - other) / max(self._first, 1e-9)
        columns["precedence"] = -np.log(ranks)
        columns["concentration"] = np.full(len(ranks), self._concentration)
        rows = np.column_stack([*columns.values()]).tolist()
        evidence = [dict(zip(columns, row, strict=True)) for row in rows]
        if self._calibration is None:
            return evidence, [None] * len(evidence)
        return evidence, [self._calibration.hit.probability(item) for item in evidence]

    def of_answer(self, relevances: Sequence[float | None]) -> Judgement:
        """The judgement; `relevances` are those of the first hits, or none where nobody asks."""
        evidence = {"keyword.best": 0.0, "concentration": self._concentration}
        for ranking in self._rankings:
            if ranking.keywords is not None:
                evidence["keyword.best"] = float(ranking.keywords.strengths.max(initial=0.0))
            else:
                best = float(ranking.scores[0]) if len(ranking.scores) else 0.0
                evidence[f"{ranking.weighted.channel.kind}.best"] = best
        if self._calibration is None:
            return Judgement(evidence)
        known = [relevance for relevance in relevances if relevance is not None]
        presence = self._calibration.presence.probability(evidence)
        is_named = evidence["keyword.best"] >= _NAMED
        found = presence is None or presence >= self._calibration.cut_off or is_named
        return Judgement(evidence, presence, found, max(known, default=None))


def concentration(vector: Float32Array) -> float:
    """The Gini index of a vector's (d,) absolute components: 0 where all are equal, almost 1 of one."""
    ordered = np.sort(np.abs(vector).astype(np.float64))
    count, total = len(ordered), ordered.sum()
    if not total:
        return 0.0
    return float((2 * np.arange(1, count + 1) - count - 1) @ ordered / (count * total))


def fitting(calibration: Calibration | None, asked: Sequence[ChannelVectors]) -> Calibration | None:
    """The calibration where it is of the space that texts meet, else None."""
    if calibration is None or any(c.weighted.channel.space != calibration.space for c in asked):
        return None
    return calibration


def _values(values: Float32Array, places: Int64Array, otherwise: Float64Array) -> Float64Array:
    """The values (n,) at places (m,), and something else where an item is not there."""
    if not len(values):
        return otherwise
    return np.where(places >= 0, values[places], otherwise).astype(np.float64)
