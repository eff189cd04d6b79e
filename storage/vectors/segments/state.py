"""What an index holds at one moment: sealed segments and a delta of the newest rows.

A change makes a new `State` that shares everything unchanged. A search takes one reference to the
current state and uses only that until it is done.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from regard.core.errors import NotFound
from regard.core.idset import IdSet
from regard.core.records import BoolArray, Float16Array, Float32Array, Int64Array
from regard.storage.vectors.rows import Rows, padded_width
from regard.storage.vectors.segments.lists import ListsModel
from regard.storage.vectors.segments.nearest import Scan, Selection, scan_rows
from regard.storage.vectors.segments.segment import Sealed

_FIRST_ROOM = 64


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """The newest rows, few enough to score every one.

    Readers see an immutable value. `rows`, the deleted ones too, are the first of `buffer`;
    `live_count` of them can be found.
    Appending writes past them into spare room of the same buffers and returns a new `Delta`; only
    the newest one may be appended to, which the index's writer lock ensures. Deleting copies the
    mask. Rows are in order of arrival; an id may occur twice but is alive at most once. Vectors of
    the buffer are padded.
    """

    rows: Rows
    buffer: Rows
    dimension: int
    live_count: int = 0
    alive: BoolArray | None = None

    lists_to_search: ClassVar[None] = None

    @classmethod
    def empty(cls, dimension: int) -> Delta:
        """No rows."""
        nothing = _room(0, dimension)
        return cls(nothing, nothing, dimension)

    @property
    def nbytes(self) -> int:
        """Memory of the buffers."""
        return self.buffer.vectors.nbytes + 24 * len(self.buffer)

    def appended(self, rows: Rows) -> Delta:
        """Append rows (m, d), none of them alive here."""
        former, added, room = len(self.rows.ids), len(rows.ids), len(self.buffer.ids)
        if not added:
            return self
        buffer = self.buffer
        if former + added > room:
            buffer = _room(max(former + added, 2 * room, _FIRST_ROOM), self.dimension)
            _write(buffer, self.rows, 0)
        _write(buffer, rows, former)
        alive = self.alive
        if alive is not None:
            alive = np.concatenate([alive, np.ones(added, np.bool_)])
        rows = buffer.take(slice(former + added))
        return Delta(rows, buffer, self.dimension, self.live_count + added, alive)

    def without(self, ids: Int64Array) -> Delta:
        """Delete `ids`; unknown ones are ignored."""
        kept = ~np.isin(self.rows.ids, ids)
        if self.alive is not None:
            kept &= self.alive
        count = int(np.count_nonzero(kept))
        return self if count == self.live_count else replace(self, live_count=count, alive=kept)

    def live_rows(self) -> Rows:
        """The live rows, ascending by id, with vectors (m, d)."""
        rows = self.rows.take(self._live_by_id())
        return replace(rows, vectors=rows.vectors[:, : self.dimension])

    def locate(self, ids: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Positions of the `ids` alive here, and a mask that tells which ones they are (len(ids),)."""
        live = self._live_by_id()
        if not live.size:
            return np.empty(0, np.int64), np.zeros(ids.shape, np.bool_)
        own = self.rows.ids[live]
        places = np.minimum(np.searchsorted(own, ids), len(live) - 1)
        present: BoolArray = own[places] == ids
        return live[places[present]], present

    def _live_by_id(self) -> Int64Array:
        live = np.arange(len(self.rows.ids)) if self.alive is None else np.flatnonzero(self.alive)
        return live[np.argsort(self.rows.ids[live], kind="stable")]

    def select(self, allowed: IdSet | None) -> Selection:
        """The live rows whose contents are allowed."""
        mask = self.alive
        if allowed is not None:
            members = allowed.contains(self.rows.contents)
            mask = members if mask is None else members & mask
        return Selection.of(self, mask)

    def are_sound(self, positions: Int64Array) -> BoolArray:
        """All of them: they are in memory."""
        return np.ones(len(positions), np.bool_)

    def scan(self, queries: Float32Array, fetch: int, selection: Selection) -> Scan:
        """About the `fetch` best selected rows."""
        return scan_rows(self.rows.vectors, queries, fetch, selection)


def _room(count: int, dimension: int) -> Rows:
    ids, contents, regions = np.empty((3, count), np.int64)
    return Rows(ids, contents, regions, np.zeros((count, padded_width(dimension)), np.float16))


def _write(buffer: Rows, rows: Rows, start: int) -> None:
    places = slice(start, start + len(rows.ids))
    buffer.ids[places] = rows.ids
    buffer.contents[places] = rows.contents
    buffer.regions[places] = rows.regions
    buffer.vectors[places, : rows.vectors.shape[1]] = rows.vectors


Seal = Callable[[Rows], Sealed]


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """When rows are sealed, segments merged, and lists built.

    A delta of more than `delta_rows` is sealed into segments of at most `segment_rows`. A segment
    is rewritten when more than `dead_share` of it is deleted; when more than `small_segments` are
    less than a quarter full, the smallest are merged. Larger segments are merged on disk, up to
    `merged_rows`, when more than `small_segments` are of a similar size, within a factor of four.
    Segments of `listed_segment_rows` or more have lists if they have `listed_index_rows` or more
    together; fewer rows are scanned as fast.
    """

    segment_rows: int = 131_072
    delta_rows: int = 4_096
    dead_share: float = 0.25
    small_segments: int = 4
    merged_rows: int = 4_194_304
    listed_segment_rows: int = 1_024
    listed_index_rows: int = 32_768

    def __post_init__(self) -> None:
        if self.segment_rows < 1 or self.delta_rows < 1 or self.small_segments < 1:
            raise ValueError(f"segment limits are positive, got {self}")
        if not 0 <= self.dead_share < 1:
            raise ValueError(f"the share of dead rows lies in [0, 1), got {self.dead_share}")


@dataclass(frozen=True, slots=True)
class Replacement:
    """A segment on disk, and the segments whose live rows it holds."""

    old: tuple[Sealed, ...]
    new: Sealed


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Segments, the delta, and the log position they contain; an id is alive at most once.

    `model` is what the segments' lists share; None without lists.
    """

    segments: tuple[Sealed, ...]
    delta: Delta
    applied_through: int
    model: ListsModel | None = None

    @property
    def parts(self) -> tuple[Sealed | Delta, ...]:
        """Everything that a search scans."""
        return (*self.segments, self.delta)

    @property
    def live_count(self) -> int:
        """Rows that a search can find."""
        return sum(sealed.live_count for sealed in self.segments) + self.delta.live_count

    def exchanged(self, replacements: Sequence[Replacement], model: ListsModel | None) -> State:
        """This state with segments of an earlier one replaced, without rows deleted since then."""
        own = {id(sealed.segment): sealed for sealed in self.segments}
        segments = []
        for replacement in replacements:
            new = replacement.new
            for old in replacement.old:
                now = own.pop(id(old.segment), None)
                alive = old.alive_mask()
                if now is not None:
                    alive &= ~now.alive_mask()
                new = new.without(old.ids[alive])
            if new.live_count:
                segments.append(new)
        return replace(self, segments=(*segments, *own.values()), model=model)

    def contains(self, ids: Int64Array) -> BoolArray:
        """Which of `ids` are alive."""
        present = np.zeros(ids.shape, np.bool_)
        for part in self.parts:
            present |= part.locate(ids)[1]
        return present

    def live_ids(self) -> Int64Array:
        """All ids alive, ascending."""
        sealed = [segment.ids[segment.live_positions()] for segment in self.segments]
        return np.sort(np.concatenate([*sealed, self.delta.live_rows().ids]))

    def vectors(self, ids: Int64Array) -> Float16Array:
        """The vectors of `ids` (n,), float16 (n, d), in their order; raises NotFound."""
        vectors = np.empty((len(ids), self.delta.dimension), np.float16)
        found = np.zeros(ids.shape, np.bool_)
        for part in self.parts:
            positions, present = part.locate(ids)
            vectors[present] = part.rows.vectors[positions, : self.delta.dimension]
            found |= present
        if not found.all():
            raise NotFound(f"the vector index has no row {ids[~found][0]}")
        return vectors

    def without(self, ids: Int64Array) -> State:
        """Delete `ids`; unknown ones are ignored."""
        segments = tuple(
            kept for segment in self.segments if (kept := segment.without(ids)).live_count
        )
        return replace(self, segments=segments, delta=self.delta.without(ids))

    def added(self, rows: Rows, limits: SegmentLimits, seal: Seal) -> State:
        """Add rows with ascending ids; ids alive already keep their vectors."""
        rows = rows.take(~self.contains(rows.ids))
        delta = self.delta
        if delta.live_count + len(rows.ids) <= limits.delta_rows:
            if len(delta.rows.ids) + len(rows.ids) > limits.delta_rows:
                delta = Delta.empty(delta.dimension).appended(delta.live_rows())
            return replace(self, delta=delta.appended(rows))
        rows = Rows.join([delta.live_rows(), rows]).by_id()
        segments = tuple(
            seal(rows.take(slice(start, start + limits.segment_rows)))
            for start in range(0, len(rows), limits.segment_rows)
        )
        return replace(self, segments=self.segments + segments, delta=Delta.empty(delta.dimension))

    def compactions(self, limits: SegmentLimits, seal: Seal) -> Iterator[State]:
        """Yield states of the same rows with fewer or fuller segments, one new segment each.

        Segments of more than `segment_rows` are left to merges on disk.
        """
        state = self
        while group := _to_merge(state.segments, limits):
            rows = Rows.join([segment.live_rows() for segment in group]).by_id()
            merged = (seal(rows),) if len(rows) else ()
            others = tuple(segment for segment in state.segments if segment not in group)
            state = replace(state, segments=others + merged)
            yield state


def _to_merge(segments: Sequence[Sealed], limits: SegmentLimits) -> list[Sealed]:
    """Segments to merge into one in memory; empty when none are due."""
    by_size = sorted(
        (sealed for sealed in segments if len(sealed.segment) <= limits.segment_rows),
        key=lambda segment: segment.live_count,
    )
    wasteful = [s for s in by_size if s.is_wasteful(limits.dead_share)]
    small = [s for s in by_size if 4 * s.live_count < limits.segment_rows]
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


def to_merge_on_disk(segments: Sequence[Sealed], limits: SegmentLimits) -> list[Sealed]:
    """Segments to merge into one on disk; empty when none are due."""
    tiers: dict[int, list[Sealed]] = {}
    for sealed in segments:
        if len(sealed.segment) > limits.segment_rows and sealed.is_wasteful(limits.dead_share):
            return [sealed]
        fullness = 4 * sealed.live_count / limits.segment_rows
        if fullness >= 1 and 2 * sealed.live_count <= limits.merged_rows:
            tiers.setdefault(int(math.log(fullness, 4)), []).append(sealed)
    for tier in tiers.values():
        if len(tier) > limits.small_segments:
            rows = np.cumsum([sealed.live_count for sealed in tier])
            return tier[: max(2, int((rows <= limits.merged_rows).sum()))]
    return []
