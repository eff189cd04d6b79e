"""The vector index of one channel: sealed segments, a delta, and a snapshot on disk.

Inner product over L2-normalised rows, that is cosine, exact over the float16 vectors of the
catalog.

Threads: the index is one reference to an immutable `State`. A search reads the reference once and
uses that state without a lock. Writers hold a lock, build the next state and publish it by one
assignment, so all changes of a step become visible together.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.core.idset import IdSet
from regard.core.records import Float32Array, Int64Array
from regard.storage.vectors.manifest import IndexIdentity
from regard.storage.vectors.nearest import nearest
from regard.storage.vectors.segment import Device, Float16Array, Sealed, Segment
from regard.storage.vectors.snapshots import load, save
from regard.storage.vectors.state import Delta, SegmentLimits, State

# Above 1 by what rounding to float16 adds.
_MAX_NORM = 1.01
_MAX_QUERY_NORM = 1e30


class SegmentedIndex:
    """Nearest neighbours by inner product over one channel, exact over many sealed segments.

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
        state = load(identity, directory, index._seal)
        if state is not None:
            index._state = state
        return index

    @property
    def applied_through(self) -> int:
        """The last position of the change log that this index contains."""
        return self._state.applied_through

    def apply(
        self,
        additions: tuple[Int64Array, npt.NDArray[np.floating]],
        removals: Int64Array,
        *,
        through: int,
    ) -> None:
        """Take one step of the change log, which ends at position `through`; visible as a whole.

        `additions` are ids (n,) and vectors (n, d) as for `add`; an id that is also in `removals`
        was added and deleted within the step. A step that ends at or before `applied_through` is
        contained already and changes nothing, so the log may be replayed. Raises ValueError.
        """
        ids, vectors = self._checked_rows(*additions)
        removed = _checked_ids(removals)
        lasting = ~np.isin(ids, removed)
        with self._writing:
            if through > self._state.applied_through:
                state = self._state.without(removed)
                state = state.added(ids[lasting], vectors[lasting], self._limits, self._seal)
                self._publish(replace(state, applied_through=through))

    def add(self, ids: Int64Array, vectors: npt.NDArray[np.floating]) -> None:
        """Add rows: `ids` (n,) positive int64, `vectors` (n, d) float32 or float16, norm 1.

        They are kept as float16. An id that is there already keeps its vector. Raises ValueError.
        """
        checked_ids, checked = self._checked_rows(ids, vectors)
        with self._writing:
            self._publish(self._state.added(checked_ids, checked, self._limits, self._seal))

    def remove(self, ids: Int64Array) -> None:
        """Forget rows; unknown ids are ignored."""
        removed = _checked_ids(ids)
        with self._writing:
            self._publish(self._state.without(removed))

    def advance(self, position: int) -> None:
        """Record that the log is contained through `position`; never goes back."""
        with self._writing:
            if position > self._state.applied_through:
                self._state = replace(self._state, applied_through=position)

    def search(
        self, queries: Float32Array, k: int, allowed: IdSet | None = None
    ) -> tuple[Float32Array, Int64Array]:
        """The `k` best rows of each query (n, d) among `allowed`; ties by ascending id.

        Returns scores (n, k) float32, descending, and ids (n, k) int64, padded with -inf and -1
        only when fewer than `k` allowed rows exist. Raises ValueError for queries that are not
        finite or of another dimension, and for a negative `k`.
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
        return nearest(self._state.parts, checked, k, allowed)

    def ids(self) -> Int64Array:
        """All ids, ascending."""
        return self._state.live_ids()

    def vectors(self, ids: Int64Array) -> Float16Array:
        """The vectors of `ids` (n,), float16 (n, d), in their order; raises NotFound."""
        return self._state.vectors(_checked_ids(ids))

    def stats(self) -> Mapping[str, Any]:
        """Counts of rows, delta rows, segments, segments on devices and tombstones; memory."""
        state = self._state
        return {
            "rows": state.delta.live_count + sum(s.live_count for s in state.segments),
            "delta_rows": state.delta.live_count,
            "segments": len(state.segments),
            "device_segments": sum(s.device is not None for s in state.segments),
            "tombstones": sum(s.dead_count for s in state.segments),
            "bytes": state.delta.nbytes + sum(s.segment.nbytes for s in state.segments),
        }

    def snapshot(self) -> None:
        """Write what is not on disk yet; a crash in the middle leaves the one before.

        Searches and changes go on meanwhile. A later snapshot by another process is left alone.
        Raises OSError, and IndexMismatch when the directory has become another index's.
        """
        with self._snapshotting:
            save(self._state, self.identity, self.directory, replace=self._replaces)
            self._replaces = False

    def _publish(self, state: State) -> None:
        """Put a state in place, then merge its segments where that is due, step by step."""
        self._state = state
        for compacted in state.compactions(self._limits, self._seal):
            self._state = compacted

    def _seal(self, ids: Int64Array, vectors: Float16Array) -> Sealed:
        segment = Segment(ids, vectors)
        device = next(self._next_device) if self._has_devices else None
        return Sealed(segment, device=device.copy(segment) if device else None)

    def _checked_rows(
        self, ids: Int64Array, vectors: npt.NDArray[np.floating]
    ) -> tuple[Int64Array, Float16Array]:
        """Copies: ascending unique ids, and their vectors rounded to float16."""
        unique, first = np.unique(_checked_ids(ids), return_index=True)
        if unique.size and unique[0] <= 0:
            raise ValueError(f"ids are positive, got {unique[0]}")
        if np.shape(vectors) != (np.size(ids), self.identity.dimension):
            expected = (np.size(ids), self.identity.dimension)
            raise ValueError(f"expected vectors {expected}, got {np.shape(vectors)}")
        rows = np.asarray(vectors)[first]
        norms = np.linalg.norm(rows.astype(np.float64), axis=1)
        # Written so that NaN fails too.
        if not (norms <= _MAX_NORM).all():
            wrong = int(np.argmin(norms <= _MAX_NORM))
            raise ValueError(f"the vector of {unique[wrong]} has norm {norms[wrong]}, not 1")
        return unique, rows.astype(np.float16)


def _checked_ids(ids: Int64Array) -> Int64Array:
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError(f"expected integer ids of one dimension, got {array.dtype} {array.shape}")
    return array.astype(np.int64)
