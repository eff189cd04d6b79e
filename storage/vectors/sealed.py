"""A sealed segment as it is searched: with the rows deleted since, and its copy on a GPU.

Deleting makes a new `Sealed` over the same segment, so a search that began before keeps what it
saw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from regard.core.idset import IdSet
from regard.core.records import BoolArray, Float32Array, Int64Array
from regard.storage.vectors.nearest import Scan, float32_error
from regard.storage.vectors.segment import Segment


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
    """Something that segments can be copied to."""

    def copy(self, segment: Segment) -> DeviceSearcher | None:
        """A searchable copy; None where the device has no room for it."""


@dataclass(frozen=True, slots=True, eq=False)
class Sealed:
    """A segment, its mask of live rows (None: all), and its copy on a device, if any."""

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
        """Positions of those `ids` that are alive here, and which of `ids` they are."""
        positions, present = self.segment.locate(ids)
        if self.alive is not None:
            living = self.alive[positions]
            positions = positions[living]
            present[present] = living
        return positions, present

    def without(self, ids: Int64Array) -> Sealed:
        """The same segment with `ids` deleted; unknown ones are ignored."""
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

        A device can't filter: it is asked for as many more as the mask lets through fewer, and
        what the mask excludes is dropped. Past what a device can return the CPU scans with a
        selector.
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
