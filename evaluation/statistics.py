"""Shares and means with their 95 % intervals.

A share without its interval invites people to read noise: on 200 queries, 60 % means "53 to 67 %".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from regard.core.records import Int64Array

Float64Array = npt.NDArray[np.float64]

_RESAMPLES = 2000
# Resamples that are in memory together.
_RESAMPLES_AT_ONCE = 100


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
        """The share, in [0, 1]; None for no trials."""
        return self.hits / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's score interval at 95 % (Wilson 1927), in [0, 1]; None for no trials.

        Trials count as independent, which objects of one image are not quite.
        """
        from scipy.stats import binomtest

        if not self.total:
            return None
        interval = binomtest(self.hits, self.total).proportion_ci(method="wilson")
        return float(interval.low), float(interval.high)

    def to_json(self) -> dict[str, Any]:
        """`value`, `low`, `high` in [0, 1] or null, `hits`, `total`."""
        low, high = self.interval or (None, None)
        return {"value": self.value, "low": low, "high": high, **asdict(self)}

    def __str__(self) -> str:
        if self.value is None or self.interval is None:
            return "–"
        low, high = self.interval
        return f"{100 * self.value:.1f} % ({100 * low:.0f}–{100 * high:.0f})"


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of `total` values with a bootstrap interval; all None for no values."""

    value: float | None
    low: float | None
    high: float | None
    total: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """The mean and its bootstrap interval; the order of the values does not matter."""
        sample = np.sort(np.fromiter(values, dtype=np.float64))
        if not sample.size:
            return cls(value=None, low=None, high=None, total=0)
        low, high = bootstrap_interval(lambda times: times @ sample / sample.size, sample.size)
        return cls(float(sample.mean()), low, high, int(sample.size))

    def to_json(self) -> dict[str, Any]:
        """`value`, `low`, `high` (or null), `total`."""
        return asdict(self)

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


def bootstrap_interval(
    measure: Callable[[Int64Array], Float64Array], total: int
) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a measure over `total` cases (Efron 1979), seeded.

    `measure` takes how often each case is drawn, (resamples, total), and returns (resamples,).
    """
    from scipy.stats import bootstrap

    def measure_drawn(drawn: Int64Array, axis: int) -> Float64Array:
        rows = drawn.reshape(-1, total)
        return measure(np.stack([np.bincount(row, minlength=total) for row in rows]))

    if total == 1:
        value = float(measure(np.ones((1, 1), np.int64))[0])
        return value, value
    interval = bootstrap(
        (np.arange(total),),
        measure_drawn,
        n_resamples=_RESAMPLES,
        batch=_RESAMPLES_AT_ONCE,
        vectorized=True,
        method="percentile",
        rng=0,
    ).confidence_interval
    return float(interval.low), float(interval.high)


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
