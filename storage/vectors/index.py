"""The vector index of one channel: sealed segments, a delta, and a snapshot on disk.

Inner product over L2-normalised rows, that is cosine. Scores are exact over the float16 vectors of
the catalog; which rows of a large index are scored is approximate, unless a search is `exact`.

Threads: the index is one reference to an immutable `State`. A search reads the reference once and
uses that state without a lock. Writers hold a lock, build the next state and publish it by one
assignment, so all changes of a step become visible together.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.core.catalog import Neighbours
from regard.core.idset import IdSet
from regard.core.records import Float16Array, Float32Array, Int64Array
from regard.storage.vectors.lists import ListsModel
from regard.storage.vectors.manifest import IndexIdentity
from regard.storage.vectors.nearest import nearest
from regard.storage.vectors.rows import Rows, squared_norms
from regard.storage.vectors.segment import Device, Sealed, Segment
from regard.storage.vectors.snapshots import Queries, damaged_files, load, save, stamp
from regard.storage.vectors.state import Delta, Replacement, SegmentLimits, State

# Ids (n,) positive int64, vectors (n, d) float32 or float16, and the ids of contents and regions
# (n,), 0 for none.
Additions = tuple[Int64Array, npt.NDArray[np.floating], Int64Array, Int64Array]
# Above 1 by what rounding to float16 adds.
_MAX_NORM = 1.01
_MAX_QUERY_NORM = 1e30


class SegmentedIndex:
    """Nearest neighbours by inner product over one channel.

    Starts empty at position 0, and its first snapshot replaces the one in `directory`; `open`
    continues the one on disk instead. Sealed segments are copied to `devices` in turn and searched
    there; the delta stays on the CPU. Raises MissingDependency without FAISS.
    """

    def __init__(
        self,
        identity: IndexIdentity,
        directory: Path,
        *,
        limits: SegmentLimits | None = None,
        devices: Sequence[Device] = (),
    ) -> None:
        self.identity = identity
        self.directory = directory
        self._limits = limits or SegmentLimits()
        self._next_device = itertools.cycle(devices)
        self._has_devices = bool(devices)
        self._writing = threading.Lock()
        self._snapshotting = threading.Lock()
        self._replaces = True
        self._read_snapshot: object = None
        self._state = State((), Delta.empty(identity.dimension), 0)

    @classmethod
    def open(
        cls,
        identity: IndexIdentity,
        directory: Path,
        *,
        limits: SegmentLimits | None = None,
        devices: Sequence[Device] = (),
    ) -> SegmentedIndex:
        """The index in `directory`; empty at position 0 when there is none.

        Raises IndexMismatch when it is damaged or was made for something else, and OSError.
        """
        index = cls(identity, directory, limits=limits, devices=devices)
        index._replaces = False
        index._read_snapshot = stamp(directory)
        state = load(identity, directory, index._placed)
        if state is not None:
            index._state = state
        return index

    @property
    def applied_through(self) -> int:
        """The last position of the change log that this index contains."""
        return self._state.applied_through

    def apply(
        self,
        additions: Additions,
        removals: Int64Array,
        *,
        through: int,
    ) -> None:
        """Take one step of the change log, which ends at position `through`; visible as a whole.

        `additions` have norm 1 and are kept as float16; an id that is there already keeps its row.
        An id that is also in `removals` was added and deleted within the step. A step that ends at
        or before `applied_through` changes nothing, so the log may be replayed. Raises ValueError.
        """
        rows = self._checked_rows(additions)
        removed = _checked_ids(removals)
        lasting = rows.take(~np.isin(rows.ids, removed)) if removed.size else rows
        with self._writing:
            if through > self._state.applied_through:
                state = self._state.without(removed)
                state = state.added(lasting, self._limits, self._seal)
                self._publish(replace(state, applied_through=through))

    def fill(self, additions: Iterable[Additions], *, through: int) -> None:
        """Take all rows up to position `through` into an empty index, by ascending ids, in steps.

        They are written to disk, and one step at a time is in memory. Raises ValueError as `apply`
        does, OSError when they can't be written, and IndexMismatch when the directory has become
        another index's; then the index stays empty, and also when another process has filled it.
        """
        if self._state.applied_through or len(self.ids()):
            raise ValueError(f"an index with rows up to {self.applied_through} can't be filled")
        with self._snapshotting, self._writing:
            state = replace(self._state, applied_through=through)
            saved = self._saved(state, arriving=map(self._checked_rows, additions))
            if saved is not None:
                self._state = state.exchanged(*saved)

    def search(
        self, queries: Float32Array, k: int, allowed: IdSet | None = None, *, exact: bool = False
    ) -> Neighbours:
        """The `k` best rows of each query (n, d) whose contents are `allowed`; ties by ascending id.

        Padded only when fewer than `k` allowed rows exist. With `exact` no row is missed;
        otherwise the first rows do not depend on `k`, unless nearly all rows are asked for. Raises
        ValueError for queries that are not finite or of another dimension, and for a negative `k`.
        """
        checked = np.ascontiguousarray(queries, dtype=np.float32)
        if checked.ndim != 2 or checked.shape[1] != self.identity.dimension:
            raise ValueError(
                f"expected queries (n, {self.identity.dimension}), got {checked.shape}"
            )
        # Written so that NaN fails too; within the bound no product or sum can overflow.
        if not (np.linalg.norm(checked.astype(np.float64), axis=1) <= _MAX_QUERY_NORM).all():
            raise ValueError("queries hold NaN, infinity or numbers near float32's limit")
        if k < 0:
            raise ValueError(f"k is not negative, got {k}")
        state = self._state
        return nearest(state.parts, checked, k, allowed, None if exact else state.model)

    def ids(self) -> Int64Array:
        """All ids, ascending."""
        return self._state.live_ids()

    def vectors(self, ids: Int64Array) -> Float16Array:
        """The vectors of `ids` (n,), float16 (n, d), in their order; raises NotFound."""
        return self._state.vectors(_checked_ids(ids))

    def stats(self) -> Mapping[str, Any]:
        """Counts of rows, delta rows, segments, those on devices, mapped and with lists, and
        tombstones; private memory; the depth of a search in lists."""
        state = self._state
        segments = state.segments
        return {
            "rows": state.delta.live_count + sum(s.live_count for s in segments),
            "delta_rows": state.delta.live_count,
            "segments": len(segments),
            "device_segments": sum(s.device is not None for s in segments),
            "mapped_segments": sum(s.segment.is_mapped for s in segments),
            "segments_with_lists": sum(s.lists is not None for s in segments),
            "tombstones": sum(s.dead_count for s in segments),
            "bytes": state.delta.nbytes + sum(s.segment.nbytes for s in segments),
            "depth": None if state.model is None else state.model.depth,
        }

    @property
    def unsaved_rows(self) -> int:
        """Rows of sealed segments that are in memory alone."""
        return sum(len(s.segment) for s in self._state.segments if not s.segment.is_mapped)

    def sample(self, count: int, seed: int) -> tuple[Int64Array, Float32Array]:
        """Ids (m,) and vectors (m, d) of up to `count` live rows.

        The same rows and seed give the same sample.
        """
        ids = self.ids()
        rng = np.random.default_rng([len(ids), seed])
        chosen = rng.choice(ids, min(count, len(ids)), replace=False) if len(ids) else ids
        vectors = self.vectors(chosen).astype(np.float32)
        is_finite = np.isfinite(vectors).all(axis=1)  # damaged rows may not be
        return chosen[is_finite], vectors[is_finite]

    def is_outdated(self) -> bool:
        """Whether another process has written a snapshot since this one was read or written."""
        return not self._replaces and self._read_snapshot != stamp(self.directory)

    def snapshot(self, queries: Queries | None = None) -> None:
        """Write what is not on disk yet; a crash in the middle leaves the one before.

        Rows that were written are mapped from then on. With `queries`, large segments get their
        lists, which takes a while when the model must be trained; see `train`. Searches and changes
        go on meanwhile. A later snapshot by another process is left alone. Raises OSError, and
        IndexMismatch when the directory has become another index's.
        """
        with self._snapshotting:
            saved = self._saved(self._state, queries=queries)
            if saved is not None:
                with self._writing:
                    self._state = self._state.exchanged(*saved)

    def _saved(
        self, state: State, queries: Queries | None = None, arriving: Iterable[Rows] = ()
    ) -> tuple[Sequence[Replacement], ListsModel | None] | None:
        """The result of `save`."""
        saved = save(
            state,
            self.identity,
            self.directory,
            self._limits,
            seal=self._placed,
            replace=self._replaces,
            queries=queries,
            arriving=arriving,
        )
        self._replaces = False
        if saved is not None:
            self._read_snapshot = stamp(self.directory)
        return saved

    def damaged_files(self) -> list[str]:
        """Names of the snapshot's files that are not as they were written."""
        return damaged_files(self.directory)

    def _publish(self, state: State) -> None:
        """Put a state in place, then merge its segments where that is due, step by step."""
        self._state = state
        for compacted in state.compactions(self._limits, self._seal):
            self._state = compacted

    def _seal(self, rows: Rows) -> Sealed:
        return self._placed(Segment.of(rows))

    def _placed(self, segment: Segment) -> Sealed:
        """The segment with its copy on the next device, if there are any."""
        device = next(self._next_device) if self._has_devices else None
        return Sealed(segment, device=device.copy(segment) if device else None)

    def _checked_rows(self, additions: Additions) -> Rows:
        """The rows by ascending unique ids, with vectors rounded to float16."""
        ids, vectors, contents, regions = additions
        if np.shape(vectors) != (np.size(ids), self.identity.dimension):
            expected = (np.size(ids), self.identity.dimension)
            raise ValueError(f"expected vectors {expected}, got {np.shape(vectors)}")
        given = Rows(
            _checked_ids(ids), _checked_ids(contents), _checked_ids(regions), np.asarray(vectors)
        )
        rows = given.take(np.unique(given.ids, return_index=True)[1])
        if len(rows) and rows.ids[0] <= 0:
            raise ValueError(f"ids are positive, got {rows.ids[0]}")
        norms = np.sqrt(squared_norms(rows.vectors))
        # Written so that NaN fails too.
        if not (norms <= _MAX_NORM).all():
            wrong = int(np.argmin(norms <= _MAX_NORM))
            raise ValueError(f"the vector of {rows.ids[wrong]} has norm {norms[wrong]}, not 1")
        return replace(rows, vectors=rows.vectors.astype(np.float16, copy=False))


def _checked_ids(ids: Int64Array) -> Int64Array:
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError(f"expected integer ids of one dimension, got {array.dtype} {array.shape}")
    return array.astype(np.int64)
