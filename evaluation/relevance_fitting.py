"""Fits what evidence is worth to labelled queries, and measures it on queries that the fit has not seen.

A query is asked twice: of all photographs, where something right is present, and of all but those that are
right, where nothing is: so presence is fitted to nothing but what right photographs add, and never to how
queries are worded. Queries for which nothing is right are measured and never fitted to.

Cross-validated figures are of models that saw no query which has to do with a text of the same last word,
so that green peppers say nothing of yellow ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.relevance import Calibration, LogisticModel
from regard.evaluation.logistic import Float64Array, fit_logistic, probabilities
from regard.evaluation.relevance_queries import LabelledQuery
from regard.evaluation.reliability import area_under_curve
from regard.evaluation.retrieval import Answer

# The share of present queries that should at least pass the cut-off, and the one that it is set for: in a
# smaller collection than the labelled one best cosines are lower, and fewer pass.
KEPT = 0.9
_KEPT_WHEN_FITTED = 0.91
_ROUNDING = 1e-4
# What speaks for a thing never gets a weight below 0; these say how to take the rest.
_EITHER_SIGN = frozenset({"concentration", "unwanted"})
Evidence = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class JudgedHit:
    """A hit, its fused score, what it was judged by, and its relevance where there is a calibration."""

    answer: Answer
    score: float
    evidence: Evidence
    relevance: float | None


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """The first hits of a query, what their presence was judged by, and whether anything matched."""

    hits: tuple[JudgedHit, ...]
    evidence: Evidence
    matched: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """One query with its two answers, and which hits of the first are right.

    Both answers have hits. Those on the query's own photograph are left out.
    """

    query: LabelledQuery
    present: JudgedAnswer
    taken_out: JudgedAnswer
    right: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The models of a hit's and of an answer's evidence, and the cut-off of presence."""

    names: tuple[str, ...]
    signs: tuple[str, ...]
    hit: LogisticModel
    presence: LogisticModel
    cut_off: float

    def relevances(self, hits: Sequence[JudgedHit]) -> Float64Array:
        """Of hits, shape (n,)."""
        table = _table([hit.evidence for hit in hits], self.names)
        return probabilities(self.hit, self.names, table)

    def passes(self, answers: Sequence[JudgedAnswer]) -> list[bool]:
        """Whether each answer reaches the cut-off."""
        table = _table([answer.evidence for answer in answers], self.signs)
        found: list[bool] = (
            probabilities(self.presence, self.signs, table) >= self.cut_off
        ).tolist()
        return found

    def calibration(self, spaces: frozenset[str]) -> Calibration:
        """The same for a profile of these spaces."""
        return Calibration(spaces, self.hit, self.presence, self.cut_off)


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidated:
    """What models say of each query that saw none like it, and of all queries without anything right.

    `absent_rejected` is the mean count over the models.
    """

    relevances: Float64Array
    kept: tuple[bool, ...]
    taken_out_rejected: tuple[bool, ...]
    absent_rejected: float


def fit(asked: Sequence[Asked]) -> Fitted:
    """The models that suit these queries best."""
    names = tuple(sorted(asked[0].present.hits[0].evidence))
    signs = tuple(sorted(asked[0].present.evidence))
    hits = [
        (hit.evidence, right, 1 / rank)
        for one in asked
        for rank, (hit, right) in enumerate(zip(one.present.hits, one.right, strict=True), 1)
    ]
    hit = fit_logistic(
        names,
        _table([evidence for evidence, _, _ in hits], names),
        np.asarray([right for _, right, _ in hits], dtype=np.float64),
        np.asarray([weight for _, _, weight in hits]),
        _of_either_sign(names),
    )
    there = _table([one.present.evidence for one in asked], signs)
    not_there = _table([one.taken_out.evidence for one in asked], signs)
    presence = fit_logistic(
        signs,
        np.concatenate([there, not_there]),
        np.repeat([1.0, 0.0], len(asked)),
        np.ones(2 * len(asked)),
        _of_either_sign(signs),
    )
    passed = probabilities(presence, signs, there)
    return Fitted(names, signs, hit, presence, float(np.quantile(passed, 1 - _KEPT_WHEN_FITTED)))


def cross_validate(asked: Sequence[Asked], absent: Sequence[JudgedAnswer]) -> CrossValidated:
    """Judge each query by models that were fitted without whatever shares a fold with it."""
    by_folds: dict[frozenset[int], list[int]] = defaultdict(list)
    for place, one in enumerate(asked):
        by_folds[one.query.folds].append(place)
    relevances = np.zeros(len(asked))
    kept, rejected = [False] * len(asked), [False] * len(asked)
    absent_rejected = []
    for folds, places in by_folds.items():
        others = [one for one in asked if not one.query.folds & folds]
        if not others:
            continue
        model = fit(others)
        held_out = [asked[place] for place in places]
        relevances[places] = model.relevances([one.present.hits[0] for one in held_out])
        passed = model.passes([one.present for one in held_out])
        passed_without = model.passes([one.taken_out for one in held_out])
        for place, is_kept, is_kept_without in zip(places, passed, passed_without, strict=True):
            kept[place], rejected[place] = is_kept, not is_kept_without
        # These belong to no fold: each of the models is asked about all of them.
        absent_rejected.append(len(absent) - sum(model.passes(absent)))
    mean = float(np.mean(absent_rejected)) if absent_rejected else 0.0
    return CrossValidated(relevances, tuple(kept), tuple(rejected), mean)


def ceiling(asked: Sequence[Asked]) -> float:
    """The share of taken-out queries that any rule could reject that keeps `KEPT` of the present ones.

    Where nothing that presence is judged by changed, no rule can tell the two answers apart.
    """
    # Rarity of words changes with every photograph, the rest only where something right was best.
    signs = [name for name in asked[0].present.evidence if not name.startswith("keyword.")]
    there = _table([one.present.evidence for one in asked], signs)
    not_there = _table([one.taken_out.evidence for one in asked], signs)
    # Two searches of the same vectors may differ in the last digits.
    changes = np.abs(there - not_there).max(axis=1, initial=0.0)
    unchanged = float((changes < _ROUNDING).mean())
    return 1 - unchanged + min(1 - KEPT, unchanged)


def baselines(asked: Sequence[Asked]) -> dict[str, float | None]:
    """AUROC over first hits of single numbers, by their names."""
    first = np.asarray([one.right[0] for one in asked], dtype=np.float64)
    names = sorted(asked[0].present.hits[0].evidence)
    tops = _table([one.present.hits[0].evidence for one in asked], names)
    score = np.asarray([one.present.hits[0].score for one in asked])
    following = [one.present.hits[1:2] for one in asked]
    gap = score - [hits[0].score if hits else 0.0 for hits in following]
    # What is the same for all first hits tells nothing.
    found = {
        name: area_under_curve(column, first)
        for name, column in zip(names, tops.T, strict=True)
        if np.ptp(column)
    }
    return {
        **found,
        "fused score": area_under_curve(score, first),
        "gap to the next hit": area_under_curve(gap, first),
    }


def _of_either_sign(names: Sequence[str]) -> set[str]:
    """Those of the names, perhaps after that of a space, that may be held against a thing."""
    return {name for name in names if name.rpartition(".")[2] in _EITHER_SIGN}


def _table(rows: Sequence[Evidence], names: Sequence[str]) -> Float64Array:
    return np.asarray([[row[name] for name in names] for row in rows]).reshape(-1, len(names))
