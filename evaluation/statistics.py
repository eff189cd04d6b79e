"""Shares and means with their 95 % intervals.

A share without its interval invites people to read noise: on 200 queries, 60 % means "54 to 67 %".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

# The normal distribution's quantile for a two-sided 95 % interval.
_Z = 1.959964
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `total` trials."""

    hits: int
    total: int

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> Self:
        """The share of outcomes that are true."""
        listed = list(outcomes)
        return cls(hits=sum(listed), total=len(listed))

    @property
    def value(self) -> float | None:
        """The share, in [0, 1]; None of no trials."""
        return self.hits / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's score interval at 95 % (Wilson 1927), in [0, 1]; None of no trials.

        Trials count as independent; objects of one image are not quite that.
        """
        if not self.total:
            return None
        share, n, z2 = self.hits / self.total, self.total, _Z * _Z
        centre = (share + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
        # Rounding may leave an end a hair on the wrong side of 0, of 1 or of the share itself.
        return max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0)

    def to_json(self) -> dict[str, Any]:
        """`value`, `low`, `high` in [0, 1] or null, `hits`, `total`."""
        low, high = self.interval or (None, None)
        return {
            "value": self.value,
            "low": low,
            "high": high,
            "hits": self.hits,
            "total": self.total,
        }

    def __str__(self) -> str:
        if self.value is None or self.interval is None:
            return "–"
        low, high = self.interval
        return f"{100 * self.value:.1f} % ({100 * low:.0f}–{100 * high:.0f})"


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of `total` values with a bootstrap interval; all None of no values."""

    value: float | None
    low: float | None
    high: float | None
    total: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """The mean and its 95 % percentile bootstrap interval (Efron 1979).

        The resampling is seeded and the values are sorted first, so neither the run nor the order
        of the images changes the answer.
        """
        sample = np.sort(np.fromiter(values, dtype=np.float64))
        if not sample.size:
            return cls(value=None, low=None, high=None, total=0)
        generator = np.random.default_rng(0)
        means = [
            float(sample[generator.integers(sample.size, size=sample.size)].mean())
            for _ in range(_RESAMPLES)
        ]
        low, high = np.quantile(means, [0.025, 0.975])
        return cls(float(sample.mean()), float(low), float(high), int(sample.size))

    def to_json(self) -> dict[str, Any]:
        """`value`, `low`, `high` (or null), `total`."""
        return {"value": self.value, "low": self.low, "high": self.high, "total": self.total}

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


def as_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a plain text table: the first column flush left, the others flush right."""
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    ]
