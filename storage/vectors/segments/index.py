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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from regard.core.catalog import Neighbours
from regard.core.idset import IdSet
from regard.core.records import Float16Array, Float32Array, Int64Array
from regard.storage.vectors.engine import Additions, IndexIdentity, Queries, VectorIndex
from regard.storage.vectors.rows import Rows, checked_ids, checked_queries, checked_rows
from regard.storage.vectors.segments.lists import ListsModel
from regard.storage.vectors.segments.nearest import nearest
from regard.storage.vectors.segments.segment import Device, Sealed, Segment
from regard.storage.vectors.segments.snapshots import damaged_files, load, save, stamp
from regard.storage.vectors.segments.state import Delta, Replacement, SegmentLimits, State


class SegmentedIndex(VectorIndex):
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
        index._read_if_outdated()
        return index

    @property
    def applied_through(self) -> int:
        return self._state.applied_through

    @property
    def is_exact(self) -> bool:
        return all(sealed.lists_to_search is None for sealed in self._state.segments)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """As in the Protocol; each process has its own rows in memory, so none waits."""
        if self.unsaved_rows or not self.applied_through:
            # Another process may have written these rows: map them instead.
            self._read_if_outdated()
        yield

    def _read_if_outdated(self) -> None:
        """Take the snapshot that another process has written since this one read or wrote one."""
        found = stamp(self.directory)
        if self._replaces or found == self._read_snapshot:
            return
        with self._writing:
            state = load(self.identity, self.directory, self._placed)
            self._read_snapshot = found
            if state is not None and state.applied_through >= self.applied_through:
                self._state = state

    def apply(
        self,
        additions: Additions,
        removals: Int64Array,
        *,
        through: int,
    ) -> None:
        """As in the Protocol; seals and merges segments where that is due."""
        rows = checked_rows(additions, self.identity.dimension)
        removed = checked_ids(removals)
        lasting = rows.take(~np.isin(rows.ids, removed)) if removed.size else rows
        with self._writing:
            state = self._state
            if through > state.applied_through:
                state = state.without(removed) if removed.size else state
                state = state.added(lasting, self._limits, self._seal)
                self._state = replace(state, applied_through=through)
                # Merge segments where that is due, step by step.
                for compacted in self._state.compactions(self._limits, self._seal):
                    self._state = compacted

    def fill(self, additions: Iterable[Additions], *, through: int) -> None:
        """As in the Protocol; the rows go to segments on disk.

        Raises OSError when they can't be written, and IndexMismatch when the directory has become
        another index's; then the index stays empty, and also when another process has filled it.
        """
        if self._state.applied_through or len(self.ids()):
            raise ValueError(f"an index with rows up to {self.applied_through} can't be filled")
        with self._snapshotting, self._writing:
            state = replace(self._state, applied_through=through)
            rows = (checked_rows(arriving, self.identity.dimension) for arriving in additions)
            saved = self._saved(state, arriving=rows)
            if saved is not None:
                self._state = state.exchanged(*saved)

    def search(
        self, queries: Float32Array, k: int, allowed: IdSet | None = None, *, exact: bool = False
    ) -> Neighbours:
        """As in the Protocol.

        Unless it is `exact`, the first rows do not depend on `k`, unless nearly all are asked for.
        """
        checked = checked_queries(queries, k, self.identity.dimension)
        state = self._state
        return nearest(state.parts, checked, k, allowed, None if exact else state.model)

    def ids(self) -> Int64Array:
        return self._state.live_ids()

    def vectors(self, ids: Int64Array) -> Float16Array:
        return self._state.vectors(checked_ids(ids))

    @property
    def row_count(self) -> int:
        return self._state.live_count

    def stats(self) -> Mapping[str, Any]:
        """Counts of rows, delta rows, segments, those on devices, mapped and with lists, and
        tombstones; private memory; the depth of a search in lists."""
        state = self._state
        segments = state.segments
        return {
            "rows": state.live_count,
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

    def damage(self) -> list[str]:
        return [f"the file {name} is damaged" for name in damaged_files(self.directory)]

    def _seal(self, rows: Rows) -> Sealed:
        return self._placed(Segment.of(rows))

    def _placed(self, segment: Segment) -> Sealed:
        """The segment with its copy on the next device, if there are any."""
        device = next(self._next_device) if self._has_devices else None
        return Sealed(segment, device=device.copy(segment) if device else None)
