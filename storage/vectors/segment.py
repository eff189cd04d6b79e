"""Sealed segments: rows that never change, searched by FAISS on the CPU or on a device.

The vectors are in a FAISS scalar quantizer of type fp16, whose codes are the catalog's float16
values: nothing is lost, and a scan multiplies them with the float32 query in float32. Rows are
ordered by id and found by bisection.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from regard.core.idset import IdSet
from regard.core.records import BoolArray, Float32Array, Int64Array
from regard.storage.vectors.faiss_library import load_faiss
from regard.storage.vectors.nearest import Scan, float32_error

Float16Array = npt.NDArray[np.float16]

# Looking up a few listed ids in the segment is cheaper than testing each of its rows.
_LOOKUP_SHARE = 8


class Segment:
    """Rows: `ids` (n,) int64, positive and strictly ascending; vectors (n, d) float16."""

    def __init__(self, ids: Int64Array, vectors: Float16Array) -> None:
        if ids.ndim != 1 or vectors.ndim != 2 or len(ids) != len(vectors):
            raise ValueError(f"ids {ids.shape} and vectors {vectors.shape} do not go together")
        _require_ascending(ids)
        self.ids = np.array(ids, dtype=np.int64)
        self.ids.flags.writeable = False
        self.dimension = int(vectors.shape[1])
        faiss = load_faiss()
        self.faiss_index = faiss.IndexScalarQuantizer(
            self.dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        # The codes are the values themselves, so they are copied in, not encoded from float32.
        values = np.ascontiguousarray(vectors, dtype=np.float16)
        faiss.copy_array_to_vector(values.view(np.uint8).ravel(), self.faiss_index.codes)
        self.faiss_index.ntotal = len(ids)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """Memory of ids and vectors."""
        return len(self) * (8 + 2 * self.dimension)

    def locate(self, ids: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Positions of the `ids` present, and a mask of which ones they are (len(ids),)."""
        if not len(self):
            return np.empty(0, np.int64), np.zeros(ids.shape, np.bool_)
        positions = np.minimum(np.searchsorted(self.ids, ids), len(self) - 1)
        present: BoolArray = self.ids[positions] == ids
        return positions[present], present

    def members(self, allowed: IdSet) -> BoolArray:
        """Which rows `allowed` contains, (n,)."""
        if allowed.listed_count * _LOOKUP_SHARE >= len(self):
            return allowed.contains(self.ids)
        mask = np.full(len(self), allowed.is_complement)
        mask[self.locate(allowed.listed())[0]] = not allowed.is_complement
        return mask

    def gather(self, positions: Int64Array) -> Float32Array:
        """The vectors at `positions` (m,), as float32 (m, d), exact."""
        if not len(positions):
            return np.empty((0, self.dimension), np.float32)
        rows: Float32Array = self.faiss_index.reconstruct_batch(positions)
        return rows

    def block(self, start: int, end: int) -> Float32Array:
        """The vectors from `start` up to `end`, as float32 (end - start, d), exact."""
        found: Float32Array = self.faiss_index.reconstruct_n(start, end - start)
        return found

    def vectors(self) -> Float16Array:
        """A copy of all vectors, float16 (n, d)."""
        codes: npt.NDArray[np.uint8] = load_faiss().vector_to_array(self.faiss_index.codes)
        return codes.view(np.float16).reshape(len(self), self.dimension)

    def scan(
        self, queries: Float32Array, k: int, selected: BoolArray | None
    ) -> tuple[Float32Array, Int64Array]:
        """The `k` best rows of each query on the CPU, among those in the mask `selected` (n,).

        Returns scores (q, k), descending, and positions (q, k), -1 past the last.
        """
        faiss = load_faiss()
        parameters = None
        if selected is not None:
            bitmap = np.packbits(selected, bitorder="little")
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
        scores, positions = self.faiss_index.search(queries, k, params=parameters)
        return scores, positions

    def encode(self) -> Iterator[bytes]:
        """The bytes of the segment's file: ids as little-endian int64, vectors as float16."""
        return encode_rows(self.ids, self.vectors())

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of `encode()` in hex, computed when the segment is first written."""
        return digest(self.encode())


def encode_rows(ids: Int64Array, vectors: Float16Array) -> Iterator[bytes]:
    """The bytes of a file of rows, in two chunks."""
    yield ids.astype("<i8", copy=False).tobytes()
    yield vectors.astype("<f2", copy=False).tobytes()


def decode_rows(data: bytes, rows: int, dimension: int) -> tuple[Int64Array, Float16Array]:
    """The ids and vectors of a file of `rows` rows.

    Raises ValueError when its size differs or its ids are not positive and strictly ascending.
    """
    if len(data) != rows * (8 + 2 * dimension):
        raise ValueError(f"{len(data)} bytes are not {rows} rows of dimension {dimension}")
    ids = np.frombuffer(data, "<i8", count=rows).astype(np.int64, copy=False)
    _require_ascending(ids)
    vectors = np.frombuffer(data, "<f2", offset=8 * rows).astype(np.float16, copy=False)
    return ids, vectors.reshape(rows, dimension)


def _require_ascending(ids: Int64Array) -> None:
    if ids.size and (ids[0] <= 0 or not (np.diff(ids) > 0).all()):
        raise ValueError("its ids are not positive and strictly ascending")


def digest(chunks: Iterator[bytes]) -> str:
    """SHA-256 over the chunks, in hex."""
    sha256 = hashlib.sha256()
    for chunk in chunks:
        sha256.update(chunk)
    return sha256.hexdigest()


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
    """A segment, its mask of live rows (None: all), and its copy on a device, if any.

    Deleting makes a new `Sealed` over the same segment, so a search that began before is not
    affected.
    """

    segment: Segment
    alive: BoolArray | None = None
    device: DeviceSearcher | None = None

    @property
    def ids(self) -> Int64Array:
        """Ids of all rows, the deleted ones too, (n,)."""
        return self.segment.ids

    @property
    def dead_count(self) -> int:
        """Rows deleted."""
        return 0 if self.alive is None else int(len(self.alive) - np.count_nonzero(self.alive))

    @property
    def live_count(self) -> int:
        """Rows that a search can find."""
        return len(self.segment) - self.dead_count

    def live_positions(self) -> Int64Array:
        """Positions of the rows that are alive, ascending."""
        if self.alive is None:
            return np.arange(len(self.segment))
        return np.flatnonzero(self.alive)

    def locate(self, ids: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Positions of the `ids` alive here, and a mask of which ones they are (len(ids),)."""
        positions, present = self.segment.locate(ids)
        if self.alive is not None:
            living = self.alive[positions]
            positions = positions[living]
            present[present] = living
        return positions, present

    def without(self, ids: Int64Array) -> Sealed:
        """Delete `ids`; unknown ones are ignored."""
        positions, _ = self.locate(ids)
        if not positions.size:
            return self
        alive = np.ones(len(self.segment), np.bool_) if self.alive is None else self.alive.copy()
        alive[positions] = False
        return replace(self, alive=alive)

    def members(self, allowed: IdSet) -> BoolArray:
        """Which rows `allowed` contains, deleted ones too, (n,)."""
        return self.segment.members(allowed)

    def gather(self, positions: Int64Array) -> Float32Array:
        """The vectors at `positions` (m,), float32 (m, d)."""
        return self.segment.gather(positions)

    def block(self, start: int, end: int) -> Float32Array:
        """The vectors from `start` up to `end`, float32 (end - start, d)."""
        return self.segment.block(start, end)

    def scan(
        self, queries: Float32Array, fetch: int, selected: BoolArray | None, count: int
    ) -> Scan:
        """About the `fetch` best of the `count` rows in the mask `selected` (None: every row).

        A device can't filter, so it is asked for more rows in proportion to what the mask
        excludes, and excluded rows are dropped. Beyond what it can return, the CPU scans.
        """
        device = self.device
        if device is not None:
            wanted = min(math.ceil(fetch * len(self.segment) / count), len(self.segment))
            if wanted <= device.max_k:
                scores, positions = device.search(queries, wanted)
                floors = np.where(positions[:, -1] >= 0, scores[:, -1], -np.inf)
                if selected is not None:
                    positions = np.where(selected[positions], positions, -1)
                return Scan(scores, positions, floors, device.error)
        scores, positions = self.segment.scan(queries, fetch, selected)
        floors = np.where(positions[:, -1] >= 0, scores[:, -1], -np.inf)
        return Scan(scores, positions, floors, float32_error(self.segment.dimension))
