"""Judges answers: how probable it is that a hit is right, and whether anything right is there at all.

What speaks for either is `regard.search.evidence`'s matter, what it is worth the profile's calibration of
queries of the same form.
"""

from __future__ import annotations

from collections.abc import Sequence

from regard.core.records import Int64Array, Target
from regard.core.relevance import Calibration, Calibrations, Form
from regard.search.answers import Judgement
from regard.search.encoding import ChannelVectors
from regard.search.evidence import Evidence
from regard.search.fusion import Float64Array

# Whether any hit is relevant enough is told from the first ones, however many are asked for.
JUDGED = 20
# Captions alone can't bring the keyword index's strength so far: what people wrote says this.
_NAMED = 0.4


class Judge:
    """Judges the answer to one question by its evidence."""

    def __init__(self, calibration: Calibration | None, form: Form, evidence: Evidence) -> None:
        self._calibration = calibration
        self._form = form
        self._evidence = evidence

    def of_hits(
        self,
        places: Sequence[Int64Array],
        lasts: Sequence[Float64Array],
        scores: Float64Array,
        ranks: Int64Array,
    ) -> tuple[list[dict[str, float]], list[float | None]]:
        """The evidence and the relevance of m items, of which `Evidence.of_hits` says the rest."""
        evidence = self._evidence.of_hits(places, lasts, scores, ranks)
        if self._calibration is None:
            return evidence, [None] * len(evidence)
        return evidence, [self._calibration.hit.probability(item) for item in evidence]

    def of_answer(self, relevances: Sequence[float | None]) -> Judgement:
        """The judgement; `relevances` are those of the first hits, or none where nobody asks."""
        evidence = self._evidence.of_answer()
        if self._calibration is None:
            return Judgement(evidence)
        known = [relevance for relevance in relevances if relevance is not None]
        presence = self._calibration.presence.probability(evidence)
        # Names may say a text, but what is wanted beside it is a picture.
        is_named = self._form is not Form.MIXED and evidence["keyword.best"] >= _NAMED
        found = presence is None or presence >= self._calibration.cut_off or is_named
        return Judgement(evidence, presence, found, max(known, default=None))


def fitting(
    calibrations: Calibrations, form: Form, target: Target, asked: Sequence[ChannelVectors]
) -> Calibration | None:
    """The calibration of a form of query where it is of the spaces that such a query meets, else None."""
    calibration = calibrations.get((form, target))
    if calibration is None or any(
        met.weighted.channel.space not in calibration.spaces for met in asked
    ):
        return None
    return calibration
