"""Reads TIFF structures without trust: TIFF and TIFF-like RAW files, and EXIF blocks.

Nothing here raises on damaged input and nothing is read that was not asked for, so a directory of
thousands of entries that all claim the same megabytes costs nothing. Offsets and counts are
checked against the block before any byte is touched. (TIFF 6.0, section 2; BigTIFF.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Bytes of one value by field type; 13 and 18 are offsets of directories.
_TYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
    16: 8, 17: 8, 18: 8,
}  # fmt: skip
_INTEGER_CODES = {
    1: "B",
    3: "H",
    4: "I",
    6: "b",
    8: "h",
    9: "i",
    13: "I",
    16: "Q",
    17: "q",
    18: "Q",
}
_REAL_CODES = {11: "f", 12: "d"}
_RATIONAL_CODES = {5: "I", 10: "i"}
_MAX_ENTRIES = 4096
_MAX_DIRECTORIES = 64

# Magic numbers after the byte order; the last three are Olympus' and Panasonic's own.
_CLASSIC_MAGICS = {42, 0x4F52, 0x5352, 0x55}
_BIG_MAGIC = 43

SUB_DIRECTORIES = 330
ORIENTATION = 274


@dataclass(frozen=True, slots=True)
class Entry:
    """One field of a directory; its `count` values of `type` lie at byte `offset`."""

    tag: int
    type: int
    count: int
    offset: int

    @property
    def size(self) -> int:
        """Bytes that the field claims."""
        return self.count * _TYPE_BYTES.get(self.type, 1)


Directory = dict[int, Entry]


class TiffBlock:
    """A TIFF structure in memory."""

    def __init__(self, data: bytes, order: str, *, big: bool, first: int) -> None:
        self._data = data
        self._order = order
        self._big = big
        self._first = first

    @classmethod
    def open(cls, data: bytes) -> TiffBlock | None:
        """The structure that `data` starts with, `Exif\\0\\0` before it allowed, or None."""
        if data[:6] == b"Exif\0\0":
            data = data[6:]
        order = {b"II": "<", b"MM": ">"}.get(data[:2])
        if order is None or len(data) < 8:
            return None
        (magic,) = struct.unpack_from(f"{order}H", data, 2)
        if magic in _CLASSIC_MAGICS:
            (first,) = struct.unpack_from(f"{order}I", data, 4)
            return cls(data, order, big=False, first=first)
        if magic == _BIG_MAGIC and len(data) >= 16:
            (first,) = struct.unpack_from(f"{order}Q", data, 8)
            return cls(data, order, big=True, first=first)
        return None

    def directories(self) -> Iterator[Directory]:
        """The chained directories in file order, up to 64 of them, loops cut."""
        offset, seen = self._first, set[int]()
        while offset and offset not in seen and len(seen) < _MAX_DIRECTORIES:
            seen.add(offset)
            directory, offset = self._read(offset)
            yield directory

    def first(self) -> Directory:
        """The first directory; empty when it is damaged."""
        return self._read(self._first)[0]

    def below(self, directory: Directory, tag: int) -> list[Directory]:
        """The directories that a field points to."""
        return [self._read(offset)[0] for offset in self.integers(directory, tag)]

    def integers(self, directory: Directory, tag: int, limit: int = 16) -> tuple[int, ...]:
        """The first `limit` integers of a field; empty when absent, damaged or of another type."""
        entry = directory.get(tag)
        if entry is None or entry.type not in _INTEGER_CODES:
            return ()
        return tuple(value for (value,) in self._values(entry, limit, _INTEGER_CODES[entry.type]))

    def integer(self, directory: Directory, tag: int) -> int | None:
        """The first integer of a field."""
        values = self.integers(directory, tag, 1)
        return values[0] if values else None

    def numbers(self, directory: Directory, tag: int, limit: int = 16) -> tuple[float | None, ...]:
        """The first `limit` numbers of a field of any numeric type; None for a fraction over zero."""
        entry = directory.get(tag)
        if entry is None:
            return ()
        if entry.type in _RATIONAL_CODES:
            fractions = self._values(entry, limit, f"2{_RATIONAL_CODES[entry.type]}")
            return tuple(above / below if below else None for above, below in fractions)
        if entry.type in _REAL_CODES:
            return tuple(value for (value,) in self._values(entry, limit, _REAL_CODES[entry.type]))
        return tuple(float(value) for value in self.integers(directory, tag, limit))

    def raw(self, directory: Directory, tag: int, limit: int) -> bytes:
        """The bytes of a field, cut at `limit`; empty when absent or beyond the end."""
        entry = directory.get(tag)
        if entry is None:
            return b""
        return self._data[entry.offset : entry.offset + min(entry.size, limit)]

    def claimed_bytes(self, directory: Directory) -> int:
        """Bytes inside the block that the directory's fields would have a reader copy."""
        return sum(
            min(entry.size, max(len(self._data) - entry.offset, 0)) for entry in directory.values()
        )

    def _values(self, entry: Entry, limit: int, code: str) -> Iterator[tuple[Any, ...]]:
        size = _TYPE_BYTES[entry.type]
        values = self._data[entry.offset : entry.offset + min(entry.count, limit) * size]
        return struct.iter_unpack(f"{self._order}{code}", values[: len(values) // size * size])

    def _read(self, offset: int) -> tuple[Directory, int]:
        """The directory at `offset` and the offset of the next one; what lies outside is dropped."""
        counter, entry_bytes, width = ("Q", 20, 8) if self._big else ("H", 12, 4)
        word = "Q" if self._big else "I"
        start = offset + struct.calcsize(f"{self._order}{counter}")
        if start > len(self._data):
            return {}, 0
        (count,) = struct.unpack_from(f"{self._order}{counter}", self._data, offset)
        directory: Directory = {}
        for index in range(min(count, _MAX_ENTRIES)):
            position = start + index * entry_bytes
            if position + entry_bytes > len(self._data):
                return directory, 0
            tag, kind, values = struct.unpack_from(f"{self._order}HH{word}", self._data, position)
            inline = position + 4 + width
            entry = Entry(tag, kind, values, inline)
            if entry.size > width:
                (target,) = struct.unpack_from(f"{self._order}{word}", self._data, inline)
                entry = Entry(tag, kind, values, target)
            if kind in _TYPE_BYTES:
                directory.setdefault(tag, entry)
        end = start + count * entry_bytes
        if end + width > len(self._data):
            return directory, 0
        (following,) = struct.unpack_from(f"{self._order}{word}", self._data, end)
        return directory, following


def exif_orientation(exif: bytes | None) -> int | None:
    """The EXIF orientation of a block, 1 to 8, or None when it has no valid one."""
    block = TiffBlock.open(exif) if exif else None
    if block is None:
        return None
    value = block.integer(block.first(), ORIENTATION)
    return value if value is not None and 1 <= value <= 8 else None
