"""Two searches over the same labelled photographs, side by side.

Both answer the same queries, so differences are taken per query: what is hard for both cancels
out, and an interval of the differences says more than two overlapping intervals. A caption that
several images share is one query with the weight of its labels; queries, not labels, are
resampled.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from regard.evaluation.retrieval import RankedQuery, Ranking, RetrievalReport
from regard.evaluation.statistics import as_table, bootstrap_interval

_SHOWN_QUERIES = 5
# Queries not found count as far behind those found at this rank.
_RANK_OF_NOT_FOUND = 10_000


@dataclass(frozen=True, slots=True)
class Difference:
    """A measure of two searches over the same queries, and second − first with its 95 % interval.

    The interval comes from a bootstrap over queries; all fields are None for no queries.
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
        """From the value of each query in both searches, and the number of labels that ask it."""
        if not weights:
            return cls(None, None, None, None, None)
        values = np.asarray([first, second], np.float64)
        weight = np.asarray(weights, np.float64)
        weighted = (values[1] - values[0]) * weight
        low, high = bootstrap_interval(
            lambda times: (times @ weighted) / (times @ weight), len(weight)
        )
        means = np.average(values, axis=1, weights=weight)
        return cls(float(means[0]), float(means[1]), float(means[1] - means[0]), low, high)

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    @property
    def remark(self) -> str:
        """How to read the interval where it includes zero."""
        if self.is_clear:
            return ""
        return "the same" if self.low == self.high else "not clear"


@dataclass(frozen=True, slots=True)
class QueryRanks:
    """A query and the rank of its first right answer in both searches; None: not found."""

    text: str
    target: str
    first_rank: int | None
    second_rank: int | None

    @property
    def lead(self) -> float:
        """How far the first search is ahead, in doublings: 1 to 10 is more than 101 to 110."""
        first, second = (
            _RANK_OF_NOT_FOUND if rank is None else min(rank, _RANK_OF_NOT_FOUND)
            for rank in (self.first_rank, self.second_rank)
        )
        return math.log2(second) - math.log2(first)


@dataclass(frozen=True, slots=True)
class BetterRanks:
    """For how many queries each search ranks a right answer higher, or both rank it the same."""

    first: int
    second: int
    same: int

    @classmethod
    def of(cls, rankings: tuple[Ranking, Ranking]) -> BetterRanks:
        """From two rankings of the same queries."""
        pairs = list(zip(rankings[0].queries, rankings[1].queries, strict=True))
        first = sum(one.depth < other.depth for one, other in pairs)
        second = sum(one.depth > other.depth for one, other in pairs)
        return cls(first, second, len(pairs) - first - second)


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """Two searches, by name; `differences` by target and measure, `better_ranks` by target.

    `queries` are those that differ most: better in the first search, then better in the second.
    `seconds` is how long each took to load its models and to index, where this was measured.
    """

    names: tuple[str, str]
    reports: tuple[RetrievalReport, RetrievalReport]
    differences: dict[str, dict[str, Difference]]
    better_ranks: dict[str, BetterRanks]
    queries: tuple[tuple[QueryRanks, ...], tuple[QueryRanks, ...]]
    seconds: tuple[float, float] | None = None

    @property
    def verdict(self) -> str:
        """One sentence on the clear differences."""
        clear: dict[str, list[str]] = {name: [] for name in self.names}
        for target, measures in self.differences.items():
            for name, one in measures.items():
                if one.is_clear and one.difference:
                    better = self.names[one.difference > 0]
                    clear[better].append(_measure_label(target, name))
        sentences = [
            f"{name} is clearly better at {', '.join(measures)}"
            for name, measures in clear.items()
            if measures
        ]
        return "; ".join(sentences) or "neither is clearly better at anything measured here"

    def to_json(self) -> dict[str, Any]:
        """`first` and `second` as `RetrievalReport.to_json` with a `name`; the differences."""
        costs: list[dict[str, float]] = [{}, {}]
        if self.seconds is not None:
            costs = [{"indexing_seconds": round(seconds, 3)} for seconds in self.seconds]
        return {
            "verdict": self.verdict,
            "first": {"name": self.names[0], **costs[0], **self.reports[0].to_json()},
            "second": {"name": self.names[1], **costs[1], **self.reports[1].to_json()},
            "differences": {
                target: {name: asdict(one) for name, one in measures.items()}
                for target, measures in self.differences.items()
            },
            "better_ranks": {target: asdict(one) for target, one in self.better_ranks.items()},
            "queries": [asdict(query) for queries in self.queries for query in queries],
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
                        _measure_label(target, name),
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
            [f"  {_TARGET_LABELS[target]}", str(one.first), str(one.second), str(one.same)]
            for target, one in self.better_ranks.items()
        ]
        ranks = [["rank of the first right answer", *self.names]]
        for name, queries in zip(self.names, self.queries, strict=True):
            if queries:
                ranks.append([f"furthest ahead with {name}"])
            ranks += [
                [
                    f"  {query.text} ({query.target})",
                    _rank(query.first_rank),
                    _rank(query.second_rank),
                ]
                for query in queries
            ]
        tables = ["\n".join(as_table(one)) for one in (rows, better, ranks)]
        return "\n\n".join([f"In short: {self.verdict}.", *tables])


_TARGET_LABELS = {"text_to_image": "text → image", "text_to_region": "text → region"}


def _measure_label(target: str, name: str) -> str:
    return f"{_TARGET_LABELS[target]} {name.replace('_at_', '@').replace('_', ' ')}"


def compare_retrieval(
    names: tuple[str, str],
    first: RetrievalReport,
    second: RetrievalReport,
    seconds: tuple[float, float] | None = None,
) -> ComparisonReport:
    """Compare two searches that were measured over the same labels.

    Raises ValueError when they answered different queries.
    """
    images = (first.fused.images, second.fused.images)
    regions = (first.fused.regions, second.fused.regions)
    differences = {
        "text_to_image": {
            **{f"recall_at_{k}": _compare(images, _is_within(k)) for k in images[0].cutoffs},
            "mean_reciprocal_rank": _compare(images, _reciprocal),
        },
        "text_to_region": {
            f"hit_at_{k}": _compare(regions, _is_within(k)) for k in regions[0].cutoffs
        },
    }
    changed = [*_changed_ranks("image", images), *_changed_ranks("region", regions)]
    # Ties are broken by a hash: the first of the alphabet would resemble each other.
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
        (tuple(ahead[:_SHOWN_QUERIES]), tuple(behind[:_SHOWN_QUERIES])),
        seconds,
    )


def _is_within(k: int) -> Callable[[RankedQuery], float]:
    return lambda query: float(query.depth <= k)


def _reciprocal(query: RankedQuery) -> float:
    return 1 / query.depth


def _compare(
    rankings: tuple[Ranking, Ranking], value: Callable[[RankedQuery], float]
) -> Difference:
    one, other = rankings
    if [query.text for query in one.queries] != [query.text for query in other.queries]:
        raise ValueError("the two searches answered different queries")
    return Difference.of(
        [value(query) for query in one.queries],
        [value(query) for query in other.queries],
        [query.weight for query in one.queries],
    )


def _changed_ranks(target: str, rankings: tuple[Ranking, Ranking]) -> list[QueryRanks]:
    return [
        QueryRanks(one.text, target, one.rank, other.rank)
        for one, other in zip(rankings[0].queries, rankings[1].queries, strict=True)
        if one.rank != other.rank
    ]


def _rank(rank: int | None) -> str:
    return "not found" if rank is None else str(rank)
