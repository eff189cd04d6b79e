"""The delta: the newest rows, few enough to be searched by one matrix product.

A `Delta` is immutable to its readers. Appending writes into spare room of the same buffers past
the rows that any earlier `Delta` knows of, and returns a new one that knows of more; deleting
copies the mask. Only the newest `Delta` may be appended to, which the index's writer lock sees to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from regard.core.idset import IdSet
from regard.core.records import BoolArray, Float32Array, Int64Array
from regard.storage.vectors.segment import Float16Array

_FIRST_ROOM = 64


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """`count` rows in buffers with room for more.

    The vectors hold float16 values, kept as float32 (room, d) to be multiplied without conversion.
    Rows lie in the order of their arrival; an id may be there twice, alive at most once.
    """

    id_buffer: Int64Array
    vector_buffer: Float32Array
    count: int
    alive: BoolArray | None

    @classmethod
    def empty(cls, dimension: int) -> Delta:
        """No rows."""
        return cls(np.empty(0, np.int64), np.empty((0, dimension), np.float32), 0, None)

    @property
    def ids(self) -> Int64Array:
        """Ids of all rows, the deleted ones too, (count,)."""
        return self.id_buffer[: self.count]

    @property
    def live_count(self) -> int:
        """Rows that a search can find."""
        return self.count if self.alive is None else int(np.count_nonzero(self.alive))

    @property
    def nbytes(self) -> int:
        """Memory of the buffers."""
        return self.id_buffer.nbytes + self.vector_buffer.nbytes

    def appended(self, ids: Int64Array, vectors: Float16Array) -> Delta:
        """With rows more: `ids` (m,) none of which is alive here, `vectors` (m, d)."""
        if not len(ids):
            return self
        count = self.count + len(ids)
        id_buffer, vector_buffer = self.id_buffer, self.vector_buffer
        if count > len(id_buffer):
            room = max(count, 2 * len(id_buffer), _FIRST_ROOM)
            id_buffer = np.empty(room, np.int64)
            vector_buffer = np.empty((room, self.vector_buffer.shape[1]), np.float32)
            id_buffer[: self.count] = self.ids
            vector_buffer[: self.count] = self.vector_buffer[: self.count]
        id_buffer[self.count : count] = ids
        vector_buffer[self.count : count] = vectors
        alive = self.alive
        if alive is not None:
            alive = np.concatenate([alive, np.ones(len(ids), np.bool_)])
        return Delta(id_buffer, vector_buffer, count, alive)

    def without(self, ids: Int64Array) -> Delta:
        """With `ids` deleted; unknown ones are ignored."""
        kept = ~np.isin(self.ids, ids)
        if self.alive is not None:
            kept &= self.alive
        if np.count_nonzero(kept) == self.live_count:
            return self
        return replace(self, alive=kept)

    def live_rows(self) -> tuple[Int64Array, Float16Array]:
        """Copies of the rows that are alive, ascending by id: (m,) and (m, d)."""
        live = np.arange(self.count) if self.alive is None else np.flatnonzero(self.alive)
        live = live[np.argsort(self.ids[live], kind="stable")]
        return self.ids[live], self.vector_buffer[live].astype(np.float16)

    def locate(self, ids: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Positions of those `ids` that are alive here, and which of `ids` they are."""
        live = np.arange(self.count) if self.alive is None else np.flatnonzero(self.alive)
        if not live.size:
            return np.empty(0, np.int64), np.zeros(ids.shape, np.bool_)
        live = live[np.argsort(self.ids[live], kind="stable")]
        places = np.minimum(np.searchsorted(self.ids[live], ids), len(live) - 1)
        present: BoolArray = self.ids[live[places]] == ids
        return live[places[present]], present

    def members(self, allowed: IdSet) -> BoolArray:
        """Which rows `allowed` contains, (count,)."""
        return allowed.contains(self.ids)

    def gather(self, positions: Int64Array) -> Float32Array:
        """The vectors at `positions` (m,), float32 (m, d)."""
        return self.vector_buffer[positions]

    def block(self, start: int, end: int) -> Float32Array:
        """The vectors from `start` up to `end`, float32 (end - start, d), not copied."""
        return self.vector_buffer[start:end]

    def scan(
        self, queries: Float32Array, fetch: int, selected: BoolArray | None, count: int
    ) -> None:
        """Nothing: every row is scored."""
