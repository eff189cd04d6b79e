"""Two searches over the same labelled photographs, side by side: what each reaches, and how they differ.

The same queries are asked of both, so differences are taken a query: what is hard for both cancels out, and
an interval of the differences says more than two intervals that overlap. Shared captions are one query with
the weight of its labels, and queries, not labels, are resampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard.evaluation.retrieval import RankedQuery, Ranking, RetrievalReport
from regard.evaluation.statistics import as_table

_RESAMPLES, _AT_ONCE = 2000, 100
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Difference:
    """A measure of two searches over the same queries, and second − first with its 95 % interval.

    The interval is that of the percentile bootstrap over queries (Efron 1979), seeded; all None of none.
    """

    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(
        cls, first: Sequence[float], second: Sequence[float], weights: Sequence[int]
    ) -> Difference:
        """From each query's value in both searches, and how many labels ask it."""
        if not weights:
            return cls(None, None, None, None, None)
        one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
        weight = np.asarray(weights, np.float64)
        generator = np.random.default_rng(0)
        share = np.full(len(weight), 1 / len(weight))
        means = []
        for _ in range(_RESAMPLES // _AT_ONCE):
            # How often each query is drawn, (_AT_ONCE, queries).
            drawn = generator.multinomial(len(weight), share, size=_AT_ONCE) * weight
            means.append(drawn @ (other - one) / drawn.sum(axis=1))
        low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
        return cls(
            float(np.average(one, weights=weight)),
            float(np.average(other, weights=weight)),
            float(np.average(other - one, weights=weight)),
            float(low),
            float(high),
        )

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out no difference at all."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    def to_json(self) -> dict[str, float | None]:
        """`first`, `second`, `difference`, `low`, `high`; null of no queries."""
        return {
            "first": self.first,
            "second": self.second,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
        }


@dataclass(frozen=True, slots=True)
class DifferentQuery:
    """A query and the rank of its first right answer in both searches; None: not found."""

    text: str
    target: str
    first: int | None
    second: int | None

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "text": self.text,
            "target": self.target,
            "first_rank": self.first,
            "second_rank": self.second,
        }


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """Two searches, by name; `differences` by target and measure, `queries` those that differ most."""

    names: tuple[str, str]
    reports: tuple[RetrievalReport, RetrievalReport]
    differences: dict[str, dict[str, Difference]]
    queries: tuple[DifferentQuery, ...]

    def to_json(self) -> dict[str, Any]:
        """`first` and `second` as `RetrievalReport.to_json` with their `name`, then what differs."""
        return {
            "first": {"name": self.names[0], **self.reports[0].to_json()},
            "second": {"name": self.names[1], **self.reports[1].to_json()},
            "differences": {
                target: {name: one.to_json() for name, one in measures.items()}
                for target, measures in self.differences.items()
            },
            "queries": [query.to_json() for query in self.queries],
        }

    def to_text(self) -> str:
        """Tables for people."""
        rows = [["", *self.names, "difference", "95 % interval", ""]]
        for target, measures in self.differences.items():
            for name, one in measures.items():
                if one.difference is None or one.low is None or one.high is None:
                    continue
                rows.append(
                    [
                        f"{_SPOKEN[target]} {name.replace('_at_', '@')}",
                        f"{one.first:.3f}",
                        f"{one.second:.3f}",
                        f"{one.difference:+.3f}",
                        f"{one.low:+.3f} to {one.high:+.3f}",
                        "" if one.is_clear else "not clear",
                    ]
                )
        ranks = [["queries that differ most", *self.names]]
        ranks += [
            [f"  {query.text} ({query.target})", _rank(query.first), _rank(query.second)]
            for query in self.queries
        ]
        return "\n".join([*as_table(rows), "", *as_table(ranks)])


_SPOKEN = {"text_to_image": "text → image", "text_to_region": "text → region"}


def compare_retrieval(
    names: tuple[str, str], first: RetrievalReport, second: RetrievalReport
) -> ComparisonReport:
    """Compare two searches that were measured over the same labels.

    Raises ValueError when they were asked different things.
    """
    images = (first.fused.images, second.fused.images)
    regions = (first.fused.regions, second.fused.regions)
    differences = {
        "text_to_image": {
            **{f"recall_at_{k}": _compare(images, _within(k)) for k in images[0].cutoffs},
            "mean_reciprocal_rank": _compare(images, _reciprocal),
        },
        "text_to_region": {
            f"hit_at_{k}": _compare(regions, _within(k)) for k in regions[0].cutoffs
        },
    }
    changed = [*_changed("image", images), *_changed("region", regions)]
    changed.sort(key=lambda query: (-_distance(query), query.target, query.text))
    return ComparisonReport(names, (first, second), differences, tuple(changed[:_SHOWN]))


def _within(k: int) -> Callable[[RankedQuery], float]:
    return lambda query: float(query.depth <= k)


def _reciprocal(query: RankedQuery) -> float:
    return 1 / query.depth


def _compare(
    rankings: tuple[Ranking, Ranking], value: Callable[[RankedQuery], float]
) -> Difference:
    one, other = rankings
    if [query.text for query in one.queries] != [query.text for query in other.queries]:
        raise ValueError("the two searches were asked different things")
    return Difference.of(
        [value(query) for query in one.queries],
        [value(query) for query in other.queries],
        [query.weight for query in one.queries],
    )


def _changed(target: str, rankings: tuple[Ranking, Ranking]) -> list[DifferentQuery]:
    return [
        DifferentQuery(one.text, target, one.rank, other.rank)
        for one, other in zip(rankings[0].queries, rankings[1].queries, strict=True)
        if one.rank != other.rank
    ]


def _distance(query: DifferentQuery) -> float:
    """How far apart the ranks are, in doublings: from 1 to 10 is more than from 101 to 110."""
    # What was not found counts as far behind what was.
    ranks = [math.inf if rank is None else rank for rank in (query.first, query.second)]
    shown = [min(rank, 10_000.0) for rank in ranks]
    return abs(math.log2(shown[0]) - math.log2(shown[1]))


def _rank(rank: int | None) -> str:
    return "not found" if rank is None else str(rank)
