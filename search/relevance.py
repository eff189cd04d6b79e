"""What speaks for a hit, and for there being any right one: evidence, in numbers that have names.

Of a hit, by each channel of vectors: `KIND.cosine` and `KIND.standing`, by how many standard deviations
that cosine stands above the text's cosines with a random sample of the whole channel; `keyword.strength`;
and `precedence`, minus the logarithm of its rank: of several hits with like evidence few are right.
A hit that a channel did not find counts there as a photograph taken at random.

Of the whole answer: `KIND.best`, the best cosine of each channel; `keyword.best`; and `spread`, the
logarithm of the text's vector's 1-norm. A space whose components stand for things knows a text well when
few of them hold most of its length, and then a thing that is there should have come nearer than one
that the space hardly knows; where components stand for nothing, `spread` hardly differs between texts.

None of this depends on how many hits are asked for, on what stands behind a hit, or on how large a
collection is. How evidence becomes a probability is `regard.core.relevance`'s matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.catalog import ChannelSearch
from regard.core.records import Float32Array, Int64Array
from regard.core.relevance import Calibration
from regard.search.answers import Judgement
from regard.search.encoding import ChannelVectors
from regard.search.fusion import Float64Array
from regard.search.ranking import Ranking

# A sample of few rows hardly tells how cosines vary: so many rows of this deviation are added to it.
_PRIOR_ROWS = 4
_PRIOR_DEVIATION = 0.05
# Whether any hit is relevant enough is told from the first ones, however many are asked for.
JUDGED = 20
# Captions alone can't bring the keyword index's strength so far: what people wrote says this.
_NAMED = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """The mean and the standard deviation (n,) of n texts' cosines with a sample of a channel."""

    means: Float64Array
    deviations: Float64Array


def backgrounds(index: ChannelSearch, asked: Sequence[ChannelVectors]) -> list[Background]:
    """The background of each channel that n texts are asked of."""
    found = []
    for channel in asked:
        sample = index.sample(channel.weighted.channel)
        # Text by text: of a batch, the last digits would depend on how many there are.
        cosines = np.zeros((len(channel.vectors), len(sample)))  # (n, m)
        for row, vector in enumerate(channel.vectors):
            cosines[row] = sample @ vector
        rows = len(sample)
        means = cosines.mean(axis=1) if rows else np.zeros(len(cosines))
        squares = np.square(cosines - means[:, None]).sum(axis=1)
        prior = _PRIOR_ROWS * _PRIOR_DEVIATION**2
        found.append(Background(means, np.sqrt((squares + prior) / (rows + _PRIOR_ROWS))))
    return found


class Judge:
    """Judges the answer to one text.

    `rankings` are those of its channels, `row` is its place in `asked`.
    """

    def __init__(
        self,
        calibration: Calibration | None,
        asked: Sequence[ChannelVectors],
        against: Sequence[Background],
        row: int,
        rankings: Sequence[Ranking],
    ) -> None:
        self._calibration = calibration
        self._rankings = rankings
        self._means = [float(background.means[row]) for background in against]
        self._deviations = [float(background.deviations[row]) for background in against]
        self._vectors: list[Float32Array] = [channel.vectors[row] for channel in asked]

    def of_hits(
        self, places: Sequence[Int64Array], ranks: Int64Array
    ) -> tuple[list[dict[str, float]], list[float | None]]:
        """The evidence and the relevance of m items.

        `places` (m,) say for each ranking where it has them, -1 where it has not; `ranks` (m,) from 1.
        """
        columns: dict[str, list[float]] = {"keyword.strength": [0.0] * len(ranks)}
        vectors = iter(zip(self._means, self._deviations, strict=True))
        for ranking, of_ranking in zip(self._rankings, places, strict=True):
            there = of_ranking >= 0
            if ranking.keywords is not None:
                strengths = _at(ranking.keywords.strengths, of_ranking, there, 0.0)
                columns["keyword.strength"] = strengths.tolist()
                continue
            mean, deviation = next(vectors)
            kind = ranking.weighted.channel.kind
            cosines = _at(ranking.scores, of_ranking, there, mean)
            columns[f"{kind}.cosine"] = cosines.tolist()
            columns[f"{kind}.standing"] = ((cosines - mean) / deviation).tolist()
        columns["precedence"] = (-np.log(ranks)).tolist()
        evidence = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
        if self._calibration is None:
            return evidence, [None] * len(evidence)
        return evidence, [self._calibration.hit.probability(item) for item in evidence]

    def of_answer(self, relevances: Sequence[float | None]) -> Judgement:
        """The judgement, when the first hits' relevances are known."""
        evidence = {"keyword.best": 0.0}
        means = iter(self._means)
        for ranking in self._rankings:
            if ranking.keywords is not None:
                evidence["keyword.best"] = float(ranking.keywords.strengths.max(initial=0.0))
                continue
            mean = next(means)
            best = float(ranking.scores[0]) if len(ranking.scores) else mean
            evidence[f"{ranking.weighted.channel.kind}.best"] = best
        evidence["spread"] = math.log(max(float(np.abs(self._vectors[0]).sum()), 1e-9))
        known = [relevance for relevance in relevances if relevance is not None]
        best_hit = max(known, default=None)
        if self._calibration is None:
            return Judgement(evidence)
        presence = self._calibration.presence.probability(evidence)
        is_named = evidence["keyword.best"] >= _NAMED
        found = presence is None or presence >= self._calibration.cut_off or is_named
        return Judgement(evidence, presence, found, best_hit)


def fitting(calibration: Calibration | None, asked: Sequence[ChannelVectors]) -> Calibration | None:
    """The calibration where it is of the space that texts meet, else None."""
    if calibration is None or any(c.weighted.channel.space != calibration.space for c in asked):
        return None
    return calibration


def _at(
    values: Float32Array,
    places: Int64Array,
    there: np.ndarray[tuple[int], np.dtype[np.bool_]],
    otherwise: float,
) -> Float64Array:
    """The values at places, and something else where an item is not there."""
    found = np.full(len(places), otherwise)
    found[there] = values[places[there]]
    return found
