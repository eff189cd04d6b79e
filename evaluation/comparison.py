"""Two searches over the same labelled photographs, side by side: what each reaches, and how they differ.

The same queries are asked of both, so differences are taken a query: what is hard for both cancels out, and
an interval of the differences says more than two intervals that overlap. Shared captions are one query with
the weight of its labels, and queries, not labels, are resampled.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard.evaluation.retrieval import RankedQuery, Ranking, RetrievalReport
from regard.evaluation.statistics import as_table

_RESAMPLES, _AT_ONCE = 2000, 100
_SHOWN = 5


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

    @property
    def remark(self) -> str:
        """What the interval says, where that is not plain."""
        if self.is_clear:
            return ""
        return "the same" if self.low == self.high else "not clear"

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

    @property
    def lead(self) -> float:
        """How far the first search is ahead, in doublings: from 1 to 10 is more than from 101 to 110."""
        # What was not found counts as far behind what was.
        ranks = [math.inf if rank is None else rank for rank in (self.first, self.second)]
        shown = [min(rank, 10_000.0) for rank in ranks]
        return math.log2(shown[1]) - math.log2(shown[0])

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "text": self.text,
            "target": self.target,
            "first_rank": self.first,
            "second_rank": self.second,
        }


@dataclass(frozen=True, slots=True)
class BetterRanks:
    """How many queries either search ranks a right answer first for, higher than the other, or as high."""

    first: int
    second: int
    same: int

    @classmethod
    def of(cls, rankings: tuple[Ranking, Ranking]) -> BetterRanks:
        """From the rankings of the same queries."""
        pairs = zip(rankings[0].queries, rankings[1].queries, strict=True)
        signs = [one.depth - other.depth for one, other in pairs]
        better, worse = sum(sign < 0 for sign in signs), sum(sign > 0 for sign in signs)
        return cls(better, worse, len(signs) - better - worse)

    def to_json(self) -> dict[str, int]:
        """The same as JSON values."""
        return {"first": self.first, "second": self.second, "same": self.same}


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """Two searches, by name; `differences` by target and measure, `better_ranks` by target.

    `queries` are those that differ most, better in the first search and better in the second.
    `seconds` are those that either took to load its models and analyse the photographs, where it did.
    """

    names: tuple[str, str]
    reports: tuple[RetrievalReport, RetrievalReport]
    differences: dict[str, dict[str, Difference]]
    better_ranks: dict[str, BetterRanks]
    queries: tuple[tuple[DifferentQuery, ...], tuple[DifferentQuery, ...]]
    seconds: tuple[float, float] | None = None

    @property
    def verdict(self) -> str:
        """One sentence on what differs clearly."""
        clear: dict[str, list[str]] = {name: [] for name in self.names}
        for target, measures in self.differences.items():
            for name, one in measures.items():
                if one.is_clear and one.difference:
                    of = self.names[one.difference > 0]
                    clear[of].append(_measure(target, name))
        said = [f"{name} is clearly better at {', '.join(of)}" for name, of in clear.items() if of]
        if not said:
            return "neither is clearly better at anything measured here"
        return "; ".join(said)

    def to_json(self) -> dict[str, Any]:
        """`first` and `second` as `RetrievalReport.to_json` with their `name`, then what differs."""
        costs: list[dict[str, float]] = [{}, {}]
        if self.seconds is not None:
            costs = [{"indexing_seconds": round(seconds, 1)} for seconds in self.seconds]
        return {
            "verdict": self.verdict,
            "first": {"name": self.names[0], **costs[0], **self.reports[0].to_json()},
            "second": {"name": self.names[1], **costs[1], **self.reports[1].to_json()},
            "differences": {
                target: {name: one.to_json() for name, one in measures.items()}
                for target, measures in self.differences.items()
            },
            "better_ranks": {target: one.to_json() for target, one in self.better_ranks.items()},
            "queries": [query.to_json() for queries in self.queries for query in queries],
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
                        _measure(target, name),
                        f"{one.first:.3f}",
                        f"{one.second:.3f}",
                        f"{one.difference:+.3f}",
                        f"{one.low:+.3f} to {one.high:+.3f}",
                        one.remark,
                    ]
                )
        if self.seconds is not None:
            rows.append(["seconds of indexing", *(f"{seconds:.0f}" for seconds in self.seconds)])
        better = [["queries with a better rank", *self.names, "as good"]]
        better += [
            [f"  {_SPOKEN[target]}", str(one.first), str(one.second), str(one.same)]
            for target, one in self.better_ranks.items()
        ]
        ranks = [["rank of the first right answer", *self.names]]
        for name, queries in zip(self.names, self.queries, strict=True):
            if queries:
                ranks.append([f"furthest ahead with {name}"])
            ranks += [
                [f"  {query.text} ({query.target})", _rank(query.first), _rank(query.second)]
                for query in queries
            ]
        tables = ["\n".join(as_table(one)) for one in (rows, better, ranks)]
        return "\n\n".join([f"In short: {self.verdict}.", *tables])


_SPOKEN = {"text_to_image": "text → image", "text_to_region": "text → region"}


def _measure(target: str, name: str) -> str:
    return f"{_SPOKEN[target]} {name.replace('_at_', '@').replace('_', ' ')}"


def compare_retrieval(
    names: tuple[str, str],
    first: RetrievalReport,
    second: RetrievalReport,
    seconds: tuple[float, float] | None = None,
) -> ComparisonReport:
    """Compare two searches that were measured over the same labels; see ComparisonReport for `seconds`.

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
    # Of many that differ as much, any, always the same: by the alphabet they would be alike.
    changed.sort(
        key=lambda query: (-abs(query.lead), zlib.crc32(query.text.encode()), query.target)
    )
    ahead = [query for query in changed if query.lead > 0]
    behind = [query for query in changed if query.lead < 0]
    return ComparisonReport(
        names,
        (first, second),
        differences,
        {
            "text_to_image": BetterRanks.of(images),
            **({"text_to_region": BetterRanks.of(regions)} if regions[0].queries else {}),
        },
        (tuple(ahead[:_SHOWN]), tuple(behind[:_SHOWN])),
        seconds,
    )


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


def _rank(rank: int | None) -> str:
    return "not found" if rank is None else str(rank)
