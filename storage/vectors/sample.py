"""A fixed random sample of a channel's vectors, to tell what a query's cosines are like in general.

The sample is the rows whose ids have the smallest hashes (bottom-k, Cohen & Kaplan 2007): it depends on
nothing but which rows there are, so every process draws the same one, and a row that comes or goes changes
at most one place of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regard.core.records import Float32Array, Int64Array
from regard.storage.vectors.index import SegmentedIndex

SIZE = 256


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """At most `SIZE` rows, by ascending hash: ids (m,) and vectors (m, d) as the index keeps them."""

    ids: Int64Array
    vectors: Float32Array

    @classmethod
    def of(cls, index: SegmentedIndex) -> Sample:
        """The sample of an index that no one changes meanwhile."""
        ids = _smallest(index.ids())
        return cls(ids, index.vectors(ids).astype(np.float32))

    def after(
        self, added: Int64Array, vectors: npt.NDArray[np.floating], removed: Int64Array
    ) -> Sample | None:
        """The sample once a step is applied; None where rows must be read from the index again."""
        if np.isin(self.ids, removed).any():
            return None
        lasting = ~np.isin(added, removed) & ~np.isin(added, self.ids)
        ids = np.concatenate([self.ids, added[lasting]])
        chosen = np.argsort(_hashes(ids), kind="stable")[:SIZE]
        # As the index rounds them.
        rounded = np.asarray(vectors)[lasting].astype(np.float16).astype(np.float32)
        rows = np.concatenate([self.vectors, rounded.reshape(-1, self.vectors.shape[1])])
        return Sample(ids[chosen], rows[chosen])


def _smallest(ids: Int64Array) -> Int64Array:
    hashes = _hashes(ids)
    if len(ids) > SIZE:
        kept = np.argpartition(hashes, SIZE)[:SIZE]
        ids, hashes = ids[kept], hashes[kept]
    return np.asarray(ids[np.argsort(hashes, kind="stable")])


def _hashes(ids: Int64Array) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014): one to one, so there are no ties."""
    mixed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
