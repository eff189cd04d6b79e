"""What an index holds at one moment: sealed segments and a delta of the newest rows.

A change makes a new `State` that shares everything unchanged. A search takes one reference to the
current state and uses only that until it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from regard.core.errors import NotFound
from regard.core.idset import IdSet
from regard.core.records import BoolArray, Float32Array, Int64Array
from regard.storage.vectors.segment import Float16Array, Sealed

_FIRST_ROOM = 64


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """The newest rows, few enough to be searched by one matrix product.

    Readers see an immutable value. Appending writes past `count` into spare room of the same
    buffers and returns a new `Delta`; only the newest one may be appended to, which the index's
    writer lock ensures. Deleting copies the mask. Rows are in order of arrival; an id may occur
    twice but is alive at most once. Vectors are float16 values held as float32 (room, d), so that
    they can be multiplied without conversion.
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
        """Append `ids` (m,), none of them alive here, and `vectors` (m, d)."""
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
        """Delete `ids`; unknown ones are ignored."""
        kept = ~np.isin(self.ids, ids)
        if self.alive is not None:
            kept &= self.alive
        if np.count_nonzero(kept) == self.live_count:
            return self
        return replace(self, alive=kept)

    def live_rows(self) -> tuple[Int64Array, Float16Array]:
        """Copies of the live rows, ascending by id: (m,) and (m, d)."""
        live = self._live_by_id()
        return self.ids[live], self.vector_buffer[live].astype(np.float16)

    def locate(self, ids: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Positions of the `ids` alive here, and a mask of which ones they are (len(ids),)."""
        live = self._live_by_id()
        if not live.size:
            return np.empty(0, np.int64), np.zeros(ids.shape, np.bool_)
        places = np.minimum(np.searchsorted(self.ids[live], ids), len(live) - 1)
        present: BoolArray = self.ids[live[places]] == ids
        return live[places[present]], present

    def _live_by_id(self) -> Int64Array:
        live = np.arange(self.count) if self.alive is None else np.flatnonzero(self.alive)
        return live[np.argsort(self.ids[live], kind="stable")]

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
        """None: every row is scored."""


Seal = Callable[[Int64Array, Float16Array], Sealed]


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """When rows are sealed and segments merged.

    A delta of more than `delta_rows` is sealed into segments of at most `segment_rows`. A segment
    is rewritten when more than `dead_share` of it is deleted; when more than `small_segments` are
    less than half full, the smallest are merged.
    """

    segment_rows: int = 131_072
    delta_rows: int = 8_192
    dead_share: float = 0.25
    small_segments: int = 8

    def __post_init__(self) -> None:
        if self.segment_rows < 1 or self.delta_rows < 1 or self.small_segments < 1:
            raise ValueError(f"segment limits are positive, got {self}")
        if not 0 <= self.dead_share < 1:
            raise ValueError(f"the share of dead rows lies in [0, 1), got {self.dead_share}")


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Segments, the delta, and the log position they contain; an id is alive at most once."""

    segments: tuple[Sealed, ...]
    delta: Delta
    applied_through: int

    @property
    def parts(self) -> tuple[Sealed | Delta, ...]:
        """Everything that a search scans."""
        return (*self.segments, self.delta)

    def contains(self, ids: Int64Array) -> BoolArray:
        """Which of `ids` are alive."""
        present = np.zeros(ids.shape, np.bool_)
        for part in self.parts:
            present |= part.locate(ids)[1]
        return present

    def live_ids(self) -> Int64Array:
        """All ids alive, ascending."""
        sealed = [segment.ids[segment.live_positions()] for segment in self.segments]
        return np.sort(np.concatenate([*sealed, self.delta.live_rows()[0]]))

    def vectors(self, ids: Int64Array) -> Float16Array:
        """The vectors of `ids` (n,), float16 (n, d), in their order; raises NotFound."""
        vectors = np.empty((len(ids), self.delta.vector_buffer.shape[1]), np.float16)
        found = np.zeros(ids.shape, np.bool_)
        for part in self.parts:
            positions, present = part.locate(ids)
            vectors[present] = part.gather(positions)
            found |= present
        if not found.all():
            raise NotFound(f"the vector index has no row {ids[~found][0]}")
        return vectors

    def without(self, ids: Int64Array) -> State:
        """Delete `ids`; unknown ones are ignored."""
        if not ids.size:
            return self
        segments = tuple(
            kept for segment in self.segments if (kept := segment.without(ids)).live_count
        )
        return replace(self, segments=segments, delta=self.delta.without(ids))

    def added(
        self, ids: Int64Array, vectors: Float16Array, limits: SegmentLimits, seal: Seal
    ) -> State:
        """Add rows with ascending `ids` (n,); ids alive already keep their vectors."""
        new = ~self.contains(ids)
        ids, vectors = ids[new], vectors[new]
        delta = self.delta
        if delta.live_count + len(ids) <= limits.delta_rows:
            if delta.count + len(ids) > limits.delta_rows:
                delta = Delta.empty(vectors.shape[1]).appended(*delta.live_rows())
            return replace(self, delta=delta.appended(ids, vectors))
        delta_ids, delta_vectors = delta.live_rows()
        ids, vectors = np.concatenate([delta_ids, ids]), np.concatenate([delta_vectors, vectors])
        order = np.argsort(ids)
        pieces = [
            order[start : start + limits.segment_rows]
            for start in range(0, len(order), limits.segment_rows)
        ]
        segments = tuple(seal(ids[piece], vectors[piece]) for piece in pieces)
        return replace(self, segments=self.segments + segments, delta=Delta.empty(vectors.shape[1]))

    def compactions(self, limits: SegmentLimits, seal: Seal) -> Iterator[State]:
        """Yield states of the same rows with fewer or fuller segments, one new segment each."""
        state = self
        while group := _to_merge(state.segments, limits):
            rows = [(segment, segment.live_positions()) for segment in group]
            ids = np.concatenate([segment.ids[positions] for segment, positions in rows])
            vectors = np.concatenate(
                [segment.gather(positions).astype(np.float16) for segment, positions in rows]
            )
            order = np.argsort(ids)
            others = tuple(segment for segment in state.segments if segment not in group)
            state = replace(state, segments=(*others, seal(ids[order], vectors[order])))
            yield state


def _to_merge(segments: Sequence[Sealed], limits: SegmentLimits) -> list[Sealed]:
    """Segments to merge into one; empty when none are due."""
    by_size = sorted(segments, key=lambda segment: segment.live_count)
    wasteful = [s for s in by_size if s.dead_count > limits.dead_share * len(s.segment)]
    small = [s for s in by_size if 2 * s.live_count < limits.segment_rows]
    if len(small) <= limits.small_segments:
        small = []
    group: list[Sealed] = []
    rows = 0
    for segment in dict.fromkeys([*wasteful, *small]):
        rows += segment.live_count
        if rows > limits.segment_rows and group:
            break
        group.append(segment)
    return group
