"""Fits models of relevance to labelled queries, and measures them on queries they have not seen.

Each query is asked twice: of all photographs, where something right is present, and of all but the
right ones, where nothing right is. Presence is therefore fitted only to what right photographs
add, and never to how queries are worded. Queries for which nothing is right are measured but never
fitted to.

Cross-validated figures come from models that saw no query about a text with the same last word, so
that green peppers reveal nothing about yellow ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from regard.core.relevance import SURE, Calibration, LogisticModel
from regard.evaluation.relevance_queries import LabelledQuery
from regard.evaluation.reliability import area_under_curve
from regard.evaluation.retrieval import Answer
from regard.evaluation.statistics import Float64Array

# The share of present queries that should pass the cut-off at least, and the share it is set for:
# best cosines are lower in a smaller collection than the labelled one, so fewer pass there.
KEPT = 0.9
_KEPT_WHEN_FITTED = 0.91
_RIDGE = 1.0
# Two searches of the same vectors may differ in the last digits.
_ROUNDING = 1e-4
# Evidence whose weight may have either sign; other weights are never below 0.
_EITHER_SIGN = frozenset({"concentration", "unwanted"})
Evidence = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class JudgedHit:
    """A hit with its fused score, its evidence, and its relevance where there is a calibration."""

    answer: Answer
    score: float
    evidence: Evidence
    relevance: float | None


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """The first hits of a query, the evidence of presence, and whether anything matched."""

    hits: tuple[JudgedHit, ...]
    evidence: Evidence
    matched: bool


@dataclass(frozen=True, slots=True)
class AnsweredQuery:
    """One query with its two answers, and which hits of the first are right.

    Both answers have hits. Hits on the query's own photograph are left out.
    """

    query: LabelledQuery
    present: JudgedAnswer
    taken_out: JudgedAnswer
    right: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class FittedModels:
    """The models of a hit's and of an answer's evidence, and the cut-off of presence.

    `hit_names` and `presence_names` name the evidence of each.
    """

    hit_names: tuple[str, ...]
    presence_names: tuple[str, ...]
    hit: LogisticModel
    presence: LogisticModel
    cut_off: float

    def relevances(self, hits: Sequence[JudgedHit]) -> Float64Array:
        """The relevance of each hit, shape (n,)."""
        table = _table([hit.evidence for hit in hits], self.hit_names)
        return probabilities(self.hit, self.hit_names, table)

    def passing(self, answers: Sequence[JudgedAnswer]) -> list[bool]:
        """Whether each answer reaches the cut-off, or one of its first hits `SURE`."""
        table = _table([answer.evidence for answer in answers], self.presence_names)
        passed = probabilities(self.presence, self.presence_names, table) >= self.cut_off
        return [
            bool(one) or self.is_sure(answer) for one, answer in zip(passed, answers, strict=True)
        ]

    def is_sure(self, answer: JudgedAnswer) -> bool:
        """Whether one of the first hits matches the query almost surely."""
        return bool(self.relevances(answer.hits).max(initial=0.0) >= SURE)

    def calibration(self, spaces: frozenset[str]) -> Calibration:
        """The same models for a profile with these spaces."""
        return Calibration(spaces, self.hit, self.presence, self.cut_off)


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidated:
    """What models that saw no similar query say of each query, and of all absent queries.

    `absent_rejected` is the mean count over the models.
    """

    relevances: Float64Array
    kept: tuple[bool, ...]
    taken_out_rejected: tuple[bool, ...]
    absent_rejected: float


def fit(answered: Sequence[AnsweredQuery]) -> FittedModels:
    """The models that fit these queries best."""
    hit_names = tuple(sorted(answered[0].present.hits[0].evidence))
    presence_names = tuple(sorted(answered[0].present.evidence))
    hits = [
        (hit.evidence, right, 1 / rank)
        for one in answered
        for rank, (hit, right) in enumerate(zip(one.present.hits, one.right, strict=True), 1)
    ]
    hit = fit_logistic(
        hit_names,
        _table([evidence for evidence, _, _ in hits], hit_names),
        np.asarray([right for _, right, _ in hits], dtype=np.float64),
        np.asarray([weight for _, _, weight in hits]),
        _either_sign(hit_names),
    )
    present = _table([one.present.evidence for one in answered], presence_names)
    taken_out = _table([one.taken_out.evidence for one in answered], presence_names)
    presence = fit_logistic(
        presence_names,
        np.concatenate([present, taken_out]),
        np.repeat([1.0, 0.0], len(answered)),
        np.ones(2 * len(answered)),
        _either_sign(presence_names),
    )
    models = FittedModels(hit_names, presence_names, hit, presence, cut_off=0.0)
    is_sure = [models.is_sure(one.present) for one in answered]
    passed = np.where(is_sure, 1.0, probabilities(presence, presence_names, present))
    return replace(models, cut_off=float(np.quantile(passed, 1 - _KEPT_WHEN_FITTED)))


def cross_validate(
    answered: Sequence[AnsweredQuery], absent: Sequence[JudgedAnswer]
) -> CrossValidated:
    """Judge each query by models fitted without the queries that share a fold with it."""
    by_folds: dict[frozenset[int], list[int]] = defaultdict(list)
    for place, one in enumerate(answered):
        by_folds[one.query.folds].append(place)
    relevances = np.zeros(len(answered))
    kept, rejected = [False] * len(answered), [False] * len(answered)
    absent_rejected = []
    for folds, places in by_folds.items():
        others = [one for one in answered if not one.query.folds & folds]
        if not others:
            continue
        model = fit(others)
        held_out = [answered[place] for place in places]
        relevances[places] = model.relevances([one.present.hits[0] for one in held_out])
        passed = model.passing([one.present for one in held_out])
        passed_without = model.passing([one.taken_out for one in held_out])
        for place, is_kept, is_kept_without in zip(places, passed, passed_without, strict=True):
            kept[place], rejected[place] = is_kept, not is_kept_without
        # Absent queries belong to no fold: each model judges all of them.
        absent_rejected.append(len(absent) - sum(model.passing(absent)))
    mean = float(np.mean(absent_rejected)) if absent_rejected else 0.0
    return CrossValidated(relevances, tuple(kept), tuple(rejected), mean)


def ceiling(answered: Sequence[AnsweredQuery]) -> float:
    """The largest share of taken-out queries that a rule could reject if it keeps `KEPT` of the
    present.

    No rule can tell the two answers apart when none of the evidence of presence changed.
    """
    # Rarity of words changes with every photograph, other evidence only where something right was
    # best.
    names = [name for name in answered[0].present.evidence if not name.startswith("keyword.")]
    present = _table([one.present.evidence for one in answered], names)
    taken_out = _table([one.taken_out.evidence for one in answered], names)
    changes = np.abs(present - taken_out).max(axis=1, initial=0.0)
    unchanged = float((changes < _ROUNDING).mean())
    return 1 - unchanged + min(1 - KEPT, unchanged)


def baselines(answered: Sequence[AnsweredQuery]) -> dict[str, float | None]:
    """AUROC over first hits of single numbers, by name."""
    first = np.asarray([one.right[0] for one in answered], dtype=np.float64)
    names = sorted(answered[0].present.hits[0].evidence)
    tops = _table([one.present.hits[0].evidence for one in answered], names)
    score = np.asarray([one.present.hits[0].score for one in answered])
    following = [one.present.hits[1:2] for one in answered]
    gap = score - [hits[0].score if hits else 0.0 for hits in following]
    # A number that is the same for all first hits separates nothing.
    by_name = {
        name: area_under_curve(column, first)
        for name, column in zip(names, tops.T, strict=True)
        if np.ptp(column)
    }
    return {
        **by_name,
        "fused score": area_under_curve(score, first),
        "gap to the next hit": area_under_curve(gap, first),
    }


def fit_logistic(
    names: Sequence[str],
    evidence: Float64Array,
    outcomes: Float64Array,
    weights: Float64Array,
    either_sign: Collection[str] = (),
) -> LogisticModel:
    """The logistic model with the greatest likelihood of `outcomes` (n,), 0 or 1, times their
    weights.

    `evidence` (n, k) has one column per name; columns that never vary get no weight. Only weights
    of names in `either_sign` may be negative: otherwise a chance of few labels would make a better
    match count as less relevant. The ridge applies to standardised columns, so that one ridge
    suits all.
    """
    from scipy.optimize import minimize

    mean = np.average(evidence, axis=0, weights=weights)
    deviation = np.sqrt(np.average(np.square(evidence - mean), axis=0, weights=weights))
    scale = np.where(deviation > 1e-9, deviation, np.inf)
    z = (evidence - mean) / scale

    def loss(solution: Float64Array) -> tuple[float, Float64Array]:
        slopes = solution[:-1]
        logits = z @ slopes + solution[-1]
        excess = weights * (_sigmoid(logits) - outcomes)
        value = weights @ (np.logaddexp(0, logits) - outcomes * logits)
        value += _RIDGE / 2 * slopes @ slopes
        return float(value), np.append(z.T @ excess + _RIDGE * slopes, excess.sum())

    bounds = [(None if name in either_sign else 0.0, None) for name in names]
    start = np.zeros(len(names) + 1)
    solution = minimize(loss, start, jac=True, bounds=[*bounds, (None, None)], method="L-BFGS-B").x
    slopes = solution[:-1] / scale
    return LogisticModel(
        {name: float(slope) for name, slope in zip(names, slopes, strict=True) if slope},
        float(solution[-1] - slopes @ mean),
    )


def probabilities(
    model: LogisticModel, names: Sequence[str], evidence: Float64Array
) -> Float64Array:
    """A model's probability, shape (n,), for rows of evidence (n, k) with named columns."""
    slopes = np.asarray([model.weights.get(name, 0.0) for name in names])
    return _sigmoid(evidence @ slopes + model.constant)


def _sigmoid(logits: Float64Array) -> Float64Array:
    return np.asarray(1 / (1 + np.exp(-logits.clip(-700, 700))))


def _either_sign(names: Sequence[str]) -> set[str]:
    """The names, with or without a space before them, whose weights may be negative."""
    return {name for name in names if name.rpartition(".")[2] in _EITHER_SIGN}


def _table(rows: Sequence[Evidence], names: Sequence[str]) -> Float64Array:
    return np.asarray([[row[name] for name in names] for row in rows]).reshape(-1, len(names))
