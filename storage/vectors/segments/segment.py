"""Sealed segments: rows that never change, in memory or mapped from a file.

The vectors are the catalog's float16 values, padded with zeros to a multiple of 8 numbers, with
which FAISS' scalar quantizer of type fp16 multiplies fast: nothing is lost, and a scan multiplies
them with the float32 query in float32. FAISS reads them where they lie. Rows are ordered by id and
found by bisection.
"""

from __future__ import annotations

import logging
import math
import mmap
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from regard.core.idset import IdSet
from regard.core.records import BoolArray, Float32Array, Int64Array
from regard.storage.vectors.faiss_library import load_faiss
from regard.storage.vectors.rows import (
    Rows,
    fp16_index,
    padded_width,
    require_size,
    row_checksums,
)
from regard.storage.vectors.segments.lists import Lists
from regard.storage.vectors.segments.nearest import Scan, Selection, scan_rows

_log = logging.getLogger(__name__)

_EVERYTHING = IdSet(complement=True)


class Segment:
    """Rows with positive, strictly ascending ids; vectors (n, w) float16, padded with zeros."""

    def __init__(
        self,
        rows: Rows,
        dimension: int,
        *,
        checksums: npt.NDArray[np.uint32] | None = None,
    ) -> None:
        """Take rows whose vectors are padded; `checksums` (n,) are those of mapped rows, else None."""
        self.rows = rows
        self.ids = rows.ids
        self.dimension = dimension
        self.checksums = checksums
        self._is_sound = np.zeros(len(rows), np.bool_)
        # SHA-256 of the segment's file, if it has one.
        self.sha256 = ""

    @classmethod
    def of(cls, rows: Rows) -> Segment:
        """A copy of rows (n, d) in memory; raises ValueError if their ids do not ascend."""
        if rows.ids.ndim != 1 or rows.vectors.ndim != 2 or len(rows.ids) != len(rows.vectors):
            raise ValueError(
                f"ids {rows.ids.shape} and vectors {rows.vectors.shape} do not go together"
            )
        _require_ascending(rows.ids)
        dimension = rows.vectors.shape[1]
        vectors = np.zeros((len(rows), padded_width(dimension)), np.float16)
        vectors[:, :dimension] = rows.vectors
        return cls(
            Rows(rows.ids.copy(), rows.contents.copy(), rows.regions.copy(), vectors), dimension
        )

    @classmethod
    def map(cls, path: Path, count: int, dimension: int) -> Segment:
        """The segment of a file of `count` rows, mapped.

        Raises ValueError for another size, and for ids that do not ascend.
        """
        with open(path, "rb") as file:
            require_size(file.seek(0, 2), count, dimension)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return cls.decode(mapped, count, dimension)

    @classmethod
    def decode(cls, data: Any, count: int, dimension: int) -> Segment:
        """The segment in the bytes of a file, not copied; raises ValueError as for `map`."""
        width = padded_width(dimension)
        vectors = np.frombuffer(data, "<f2", count * width).reshape(count, width)
        start = vectors.nbytes
        columns = np.frombuffer(data, "<i8", 3 * count, start).reshape(3, count)
        checksums = np.frombuffer(data, "<u4", count, start + columns.nbytes)
        _require_ascending(columns[0])
        ids, contents, regions = columns
        return cls(Rows(ids, contents, regions, vectors), dimension, checksums=checksums)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def faiss_index(self) -> Any:
        """A FAISS index of the rows, to copy it to a device."""
        return fp16_index(load_faiss(), self.rows.vectors)

    @property
    def is_mapped(self) -> bool:
        """Whether the rows lie in a file."""
        return self.checksums is not None

    @property
    def nbytes(self) -> int:
        """Private memory of the rows."""
        if self.is_mapped:
            return self._is_sound.nbytes
        return self.rows.vectors.nbytes + 24 * len(self)

    def locate(self, ids: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Positions of the `ids` present, and a mask that tells which ones they are (len(ids),)."""
        if not len(self):
            return np.empty(0, np.int64), np.zeros(ids.shape, np.bool_)
        positions = np.minimum(np.searchsorted(self.ids, ids), len(self) - 1)
        present: BoolArray = self.ids[positions] == ids
        return positions[present], present

    def are_sound(self, positions: Int64Array) -> BoolArray:
        """Which of the rows at `positions` (m,) are as they were written, (m,)."""
        if self.checksums is None:
            return np.ones(len(positions), np.bool_)
        unseen = positions[~self._is_sound[positions]]
        if unseen.size:
            right = row_checksums(self.rows.take(unseen)) == self.checksums[unseen]
            self._is_sound[unseen[right]] = True
            if not right.all():
                _log.warning(
                    "%d damaged rows of a vector index are left out; run: regard rebuild",
                    np.count_nonzero(~right),
                )
        sound: BoolArray = self._is_sound[positions]
        return sound


def _require_ascending(ids: Int64Array) -> None:
    if ids.size and (ids[0] <= 0 or not (np.diff(ids) > 0).all()):
        raise ValueError("its ids are not positive and strictly ascending")


class DeviceSearcher(Protocol):
    """A copy of a segment on a device that can't filter."""

    @property
    def max_k(self) -> int:
        """The most neighbours one search can return."""

    @property
    def error(self) -> float:
        """How far a score may lie from the exact one, for queries and rows of norm 1."""

    def search(self, queries: Float32Array, k: int) -> tuple[Float32Array, Int64Array]:
        """The `k` best rows: scores (n, k), descending, and positions (n, k), -1 past the last.

        Called by many threads at once.
        """


class Device(Protocol):
    """A device that segments can be copied to."""

    def copy(self, segment: Segment) -> DeviceSearcher | None:
        """A searchable copy; None where the device has no room for it."""


@dataclass(frozen=True, slots=True, eq=False)
class Sealed:
    """A segment, its mask of live rows (None: all), its lists, and its copy on a device, if any.

    Deleting makes a new `Sealed` over the same segment, so a search that began before is not
    affected.
    """

    segment: Segment
    alive: BoolArray | None = None
    device: DeviceSearcher | None = None
    lists: Lists | None = None
    # What passes a filter, as long as somebody keeps the filter's set.
    _selections: WeakKeyDictionary[IdSet, Selection] = field(
        default_factory=WeakKeyDictionary, repr=False
    )

    @property
    def ids(self) -> Int64Array:
        """Ids of all rows, the deleted ones too, (n,)."""
        return self.segment.ids

    @property
    def rows(self) -> Rows:
        """All rows, the deleted ones too, with padded vectors."""
        return self.segment.rows

    @property
    def dead_count(self) -> int:
        """Rows deleted."""
        return 0 if self.alive is None else int(len(self.alive) - np.count_nonzero(self.alive))

    @property
    def live_count(self) -> int:
        """Rows that a search can find."""
        return len(self.segment) - self.dead_count

    def is_wasteful(self, dead_share: float) -> bool:
        """Whether more than a share of the rows is deleted."""
        return self.dead_count > dead_share * len(self.segment)

    @property
    def lists_to_search(self) -> Lists | None:
        """The lists; None where a device scans every row, which is fast and exact."""
        return self.lists if self.device is None else None

    def alive_mask(self) -> BoolArray:
        """A copy of the mask of live rows, (n,)."""
        return np.ones(len(self.segment), np.bool_) if self.alive is None else self.alive.copy()

    def live_positions(self) -> Int64Array:
        """Positions of the rows that are alive, ascending."""
        if self.alive is None:
            return np.arange(len(self.segment))
        return np.flatnonzero(self.alive)

    def live_rows(self) -> Rows:
        """The rows that are alive and as they were written, with vectors (m, d).

        Damaged rows would get checksums that match.
        """
        positions = self.live_positions()
        rows = self.rows.take(positions[self.are_sound(positions)])
        return replace(rows, vectors=rows.vectors[:, : self.segment.dimension])

    def locate(self, ids: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Positions of the `ids` alive here, and a mask that tells which ones they are (len(ids),)."""
        positions, present = self.segment.locate(ids)
        if self.alive is not None:
            living = self.alive[positions]
            positions = positions[living]
            present[present] = living
        return positions, present

    def with_lists(self, lists: Lists | None) -> Sealed:
        """The same segment with other lists."""
        return replace(self, lists=lists, _selections=WeakKeyDictionary())

    def without(self, ids: Int64Array) -> Sealed:
        """Delete `ids`; unknown ones are ignored."""
        positions, _ = self.locate(ids)
        if not positions.size:
            return self
        alive = self.alive_mask()
        alive[positions] = False
        return self.with_alive(alive)

    def with_alive(self, alive: BoolArray | None) -> Sealed:
        """The same segment with another mask of live rows."""
        return replace(self, alive=alive, _selections=WeakKeyDictionary())

    def over(self, segment: Segment) -> Sealed:
        """The same rows, as another segment holds them."""
        return replace(self, segment=segment, _selections=WeakKeyDictionary())

    def select(self, allowed: IdSet | None) -> Selection:
        """The live rows whose contents are allowed."""
        key = _EVERYTHING if allowed is None else allowed
        known = self._selections.get(key)
        if known is None:
            mask = self.alive
            if allowed is not None:
                members = allowed.contains(self.rows.contents)
                mask = members if mask is None else members & mask
            known = self._selections[key] = Selection.of(self, mask)
        return known

    def are_sound(self, positions: Int64Array) -> BoolArray:
        """Which of the rows at `positions` (m,) are as they were written, (m,)."""
        return self.segment.are_sound(positions)

    def scan(self, queries: Float32Array, fetch: int, selection: Selection) -> Scan:
        """About the `fetch` best selected rows.

        A device can't filter, so it is asked for more rows in proportion to what the selection
        excludes, and excluded rows are dropped. Beyond what it can return, the CPU scans.
        """
        device = self.device
        if device is not None:
            wanted = min(math.ceil(fetch * len(self.segment) / selection.count), len(self.segment))
            if wanted <= device.max_k:
                scores, positions = device.search(queries, wanted)
                floors = np.where(positions[:, -1] >= 0, scores[:, -1], -np.inf)
                if selection.mask is not None:
                    positions = np.where(selection.mask[positions], positions, -1)
                return Scan(scores, positions, floors, device.error)
        return scan_rows(self.rows.vectors, queries, fetch, selection)
