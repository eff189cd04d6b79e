"""How much the searches of a pipeline's indexes miss, measured and kept with the indexes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from regard.core.records import Float32Array, Int64Array, Kind
from regard.storage.files.durable import make_directory, sync_directory, write_file
from regard.storage.vectors.engine import VectorIndex

# Stored vectors of each kind that stand for queries.
QUERIES = 200
_NAME = "recall.json"
_FORMAT = 1
_Z = 1.96  # of a 95 % interval


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share in [0, 1] with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, shares: npt.NDArray[np.float64]) -> Self:
        """The mean of the shares (n,) of n independent queries, n at least 1.

        Wilson's score interval (Wilson 1927) of as many trials as would vary like the mean; of
        one trial a query where the shares are equal.
        """
        mean = float(shares.mean())
        variance = float(shares.var()) / len(shares)
        trials = mean * (1 - mean) / variance if variance else len(shares)
        scale = 1 + _Z**2 / trials
        middle = (mean + _Z**2 / (2 * trials)) / scale
        reach = _Z / scale * math.sqrt(mean * (1 - mean) / trials + (_Z / (2 * trials)) ** 2)
        return cls(mean, max(0.0, middle - reach), min(1.0, middle + reach))


@dataclass(frozen=True, slots=True)
class ChannelRecall:
    """The shares of a channel's 10 and 100 best rows that a search finds, for one kind of query.

    `queries` is the number of stored vectors of `query_kind` that stood for queries; captions stand
    for texts. An exact index has no lists, and misses nothing by construction.
    """

    space: str
    kind: str
    query_kind: str
    queries: int
    is_exact: bool
    at_10: Estimate
    at_100: Estimate

    def __str__(self) -> str:
        name = f"{self.space}/{self.kind}, {self.query_kind} queries"
        if self.is_exact:
            return f"{name}: exact"
        shown = (
            f"recall@{k} {share.value:.4f} ({share.low:.4f}–{share.high:.4f})"
            for k, share in ((10, self.at_10), (100, self.at_100))
        )
        return f"{name}: {', '.join(shown)}, {self.queries} queries"


@dataclass(frozen=True, slots=True)
class RecallReport:
    """A measurement of all channels: when (ISO 8601, UTC), and at which log position."""

    taken_at: str
    applied_through: int
    channels: tuple[ChannelRecall, ...]

    @classmethod
    def now(cls, applied_through: int, channels: tuple[ChannelRecall, ...]) -> Self:
        """A measurement that was just made."""
        return cls(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", applied_through, channels)

    @property
    def taken(self) -> datetime:
        """When it was made."""
        return datetime.fromisoformat(self.taken_at)

    def to_json(self) -> dict[str, Any]:
        """The documented JSON."""
        return {**asdict(self), "channels": [asdict(channel) for channel in self.channels]}

    def write(self, folder: Path) -> None:
        """Keep this as the last measurement of the indexes in a folder; raises OSError."""
        make_directory(folder)
        text = json.dumps({"format": _FORMAT, **self.to_json()}, indent=1)
        write_file(folder / _NAME, [text.encode()])
        sync_directory(folder)

    @classmethod
    def read(cls, folder: Path) -> RecallReport | None:
        """The last measurement of the indexes in a folder; None if there is none to be read."""
        try:
            document = json.loads((folder / _NAME).read_bytes())
            if document.pop("format") != _FORMAT:
                return None
            channels = tuple(map(_channel, document.pop("channels")))
            report = cls(**document, channels=channels)
            report.taken  # noqa: B018 - raises ValueError
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return report


def _channel(fields: Mapping[str, Any]) -> ChannelRecall:
    estimates = {name: Estimate(**fields[name]) for name in ("at_10", "at_100")}
    return ChannelRecall(**{**fields, **estimates})


def measure_recall(
    index: VectorIndex, query_kind: Kind, ids: Int64Array, vectors: Float32Array
) -> ChannelRecall:
    """Compare searches of an index with exact ones, with stored vectors (n, d) as queries.

    `ids` (n,) are theirs: a query's own row does not count.
    """
    at_10 = at_100 = Estimate(1.0, 1.0, 1.0)
    if not index.is_exact and len(ids):
        found, best = (
            [_without(own, *row) for own, *row in zip(ids, answer.ids, answer.scores, strict=True)]
            for answer in (index.search(vectors, 101), index.search(vectors, 101, exact=True))
        )
        at_10, at_100 = (
            Estimate.of(np.array([_share(f, b[:k]) for f, b in zip(found, best, strict=True)]))
            for k in (10, 100)
        )
    identity = index.identity
    return ChannelRecall(
        identity.space,
        identity.kind.value,
        query_kind.value,
        len(ids),
        index.is_exact,
        at_10,
        at_100,
    )


def _without(own: int, ids: Int64Array, scores: Float32Array) -> Float32Array:
    """The scores of up to 100 rows that are not the query's own, best first."""
    others: Float32Array = scores[(ids >= 0) & (ids != own)]
    return others[:100]


def _share(found: Float32Array, best: Float32Array) -> float:
    """The share of the best scores that were found; rows that tie may stand for each other."""
    if not len(best):
        return 1.0
    return float(np.count_nonzero(found[: len(best)] >= best[-1])) / len(best)
