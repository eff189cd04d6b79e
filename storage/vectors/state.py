"""What an index holds at one moment, as an immutable value.

A change makes a new `State` that shares all that stayed the same. A reader takes the current one
by a single reference and sees it, and nothing else, until it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from regard.core.errors import NotFound
from regard.core.records import BoolArray, Int64Array
from regard.storage.vectors.delta import Delta
from regard.storage.vectors.sealed import Sealed
from regard.storage.vectors.segment import Float16Array

Seal = Callable[[Int64Array, Float16Array], Sealed]


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """When rows are sealed, and when segments are merged.

    The delta is sealed past `delta_rows`, into segments of at most `segment_rows`. A segment is
    rewritten when more than `dead_share` of it is deleted; when more than `small_segments` are
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
    """Sealed segments, the delta, and the log position that they contain. An id is alive once."""

    segments: tuple[Sealed, ...]
    delta: Delta
    applied_through: int

    @property
    def parts(self) -> tuple[Sealed | Delta, ...]:
        """All that a search goes through."""
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
        """With `ids` deleted; unknown ones are ignored."""
        if not ids.size:
            return self
        segments = tuple(
            kept for segment in self.segments if (kept := segment.without(ids)).live_count
        )
        return replace(self, segments=segments, delta=self.delta.without(ids))

    def added(
        self, ids: Int64Array, vectors: Float16Array, limits: SegmentLimits, seal: Seal
    ) -> State:
        """With rows more: `ids` (n,) ascending; those that are alive already stay as they are."""
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
        """States of the same rows in fewer or fuller segments; each step makes one segment."""
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
    """Segments whose live rows should become one segment; empty when all is well."""
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
