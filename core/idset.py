"""Sets of ids that filter a search.

An `IdSet` is a sorted array or a bitmap with a complement flag, so that "these 5", "every second"
and "all but these 5" are each small. It is optimised for testing many ids at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np

from regard.core.records import BoolArray, Int64Array, UInt8Array

# A bitmap takes max_id / 8 bytes, an array 8 bytes a member: above 1 in 64 the bitmap is smaller.
_BITMAP_DENSITY = 64


class IdSet:
    """An immutable set of non-negative int64 ids, or the complement of one."""

    __slots__ = ("__weakref__", "_array", "_bitmap", "_complement", "_count")

    def __init__(self, ids: Iterable[int] | Int64Array = (), *, complement: bool = False) -> None:
        array = np.unique(np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), np.int64))
        if array.size and array[0] < 0:
            raise ValueError(f"ids must not be negative, got {array[0]}")
        self._array: Int64Array | None = array
        self._bitmap: UInt8Array | None = None
        self._complement = complement
        self._count = int(array.size)
        if array.size and array[-1] < array.size * _BITMAP_DENSITY:
            members = np.zeros(int(array[-1]) + 1, dtype=np.bool_)
            members[array] = True
            self._bitmap = np.packbits(members, bitorder="little")
            self._array = None

    @property
    def is_complement(self) -> bool:
        """Whether the set contains everything except the listed ids."""
        return self._complement

    @property
    def listed_count(self) -> int:
        """The number of members, or with `is_complement` of non-members."""
        return self._count

    def listed(self) -> Int64Array:
        """The listed ids, ascending."""
        if self._array is not None:
            return self._array
        assert self._bitmap is not None
        return np.flatnonzero(np.unpackbits(self._bitmap, bitorder="little")).astype(np.int64)

    def contains(self, ids: Int64Array) -> BoolArray:
        """Membership of each id, in the shape of `ids`."""
        return self._lists(np.asarray(ids, dtype=np.int64)) ^ self._complement

    def __contains__(self, value: int) -> bool:
        return bool(self.contains(np.asarray([value], dtype=np.int64))[0])

    def complement(self) -> Self:
        """The set of all ids that this set does not contain."""
        other = object.__new__(type(self))
        other._array, other._bitmap = self._array, self._bitmap
        other._count, other._complement = self._count, not self._complement
        return other

    def _lists(self, ids: Int64Array) -> BoolArray:
        if self._bitmap is not None:
            inside = (ids >= 0) & (ids < self._bitmap.size * 8)
            safe = np.where(inside, ids, 0)
            bits = (self._bitmap[safe >> 3] >> (safe & 7).astype(np.uint8)) & 1
            result: BoolArray = inside & bits.astype(np.bool_)
            return result
        array = self._array
        assert array is not None
        if not array.size:
            return np.zeros(ids.shape, dtype=np.bool_)
        positions = np.minimum(np.searchsorted(array, ids), array.size - 1)
        found: BoolArray = array[positions] == ids
        return found
