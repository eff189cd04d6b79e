"""Reads untrusted TIFF structures: TIFF files, TIFF-like RAW files and EXIF blocks.

Damaged input never raises. Values are read only on request and bounds are checked first, so a
directory of thousands of fields that all claim the same megabytes costs nothing.
(TIFF 6.0, section 2; BigTIFF.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

# Bytes per value by field type; types 13 and 18 are directory offsets,
# 129 is Exif 3's UTF-8.
_TYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
    16: 8, 17: 8, 18: 8, 129: 1,
}  # fmt: skip
_INTEGER_CODES = {
    1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q",
}  # fmt: skip
_REAL_CODES = {11: "f", 12: "d"}
_RATIONAL_CODES = {5: "I", 10: "i"}
_MAX_ENTRIES = 4096
_MAX_DIRECTORIES = 64
_MAX_TOTAL_ENTRIES = 65_536

# Magic numbers after the byte order: TIFF, Olympus (two) and Panasonic.
_CLASSIC_MAGICS = {42, 0x4F52, 0x5352, 0x55}
_BIG_MAGIC = 43

SUB_DIRECTORIES = 330
ORIENTATION = 274


@dataclass(frozen=True, slots=True)
class Entry:
    """One field of a directory: `count` values of `type` at byte `offset`."""

    tag: int
    type: int
    count: int
    offset: int

    @property
    def size(self) -> int:
        """The number of bytes that the field claims to have."""
        return self.count * _TYPE_BYTES.get(self.type, 1)

    @property
    def end(self) -> int:
        """The position after the last byte."""
        return self.offset + self.size


Directory = dict[int, Entry]


class TiffBlock:
    """A TIFF structure in memory; `order` is its byte order, "<" or ">"."""

    def __init__(self, data: bytes, order: str, *, big: bool, first: int) -> None:
        self._data = data
        self.order = order
        self._big = big
        self._first = first

    @classmethod
    def open(cls, data: bytes) -> TiffBlock | None:
        """The structure at the start of `data`, after an optional `Exif\\0\\0`, or None."""
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

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self._data)

    @cached_property
    def directories(self) -> tuple[Directory, ...]:
        """The chained directories in file order; loops are cut, and 64 are read at most."""
        directories: list[Directory] = []
        offset, seen, entries = self._first, set[int](), 0
        while (
            offset
            and offset not in seen
            and len(seen) < _MAX_DIRECTORIES
            and entries < _MAX_TOTAL_ENTRIES
        ):
            seen.add(offset)
            directory, offset = self._read(offset)
            directories.append(directory)
            entries += len(directory)
        return tuple(directories)

    @property
    def first(self) -> Directory:
        """The first directory; empty if it is damaged."""
        return self.directories[0] if self.directories else {}

    def below(self, directory: Directory, tag: int) -> list[Directory]:
        """The directories that a field's offsets point to."""
        return [self._read(offset)[0] for offset in self.integers(directory, tag)]

    def integers(self, directory: Directory, tag: int, limit: int = 16) -> tuple[int, ...]:
        """The first `limit` integers of a field; empty if absent, damaged or of another type."""
        entry = directory.get(tag)
        if entry is None or entry.type not in _INTEGER_CODES:
            return ()
        return tuple(value for (value,) in self._values(entry, limit, _INTEGER_CODES[entry.type]))

    def integer(self, directory: Directory, tag: int) -> int | None:
        """The first integer of a field."""
        values = self.integers(directory, tag, 1)
        return values[0] if values else None

    def numbers(self, directory: Directory, tag: int, limit: int = 16) -> tuple[float | None, ...]:
        """The first `limit` numbers of a field; None for a fraction with a zero denominator."""
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
        """The bytes of a field, cut at `limit`; empty if absent or beyond the end."""
        entry = directory.get(tag)
        if entry is None:
            return b""
        return self._data[entry.offset : entry.offset + min(entry.size, limit)]

    def with_first(self, kept: Directory, replaced: dict[int, list[int]]) -> bytes:
        """The file with another first directory at its end.

        It has the `kept` fields, whose values stay where they are, and the `replaced` ones, as
        unsigned integers of 32 bits.
        """
        width, word = (8, "Q") if self._big else (4, "I")
        end = len(self._data) + len(self._data) % 2
        values, records = b"", {}
        for tag, entry in kept.items():
            inline = self._data[entry.offset : entry.offset + width].ljust(width, b"\0")
            pointer = struct.pack(f"{self.order}{word}", entry.offset)
            value = inline if entry.size <= width else pointer
            records[tag] = (
                struct.pack(f"{self.order}HH{word}", tag, entry.type, entry.count) + value
            )
        for tag, numbers in replaced.items():
            value = struct.pack(f"{self.order}{len(numbers)}I", *numbers)
            if len(value) > width:
                values, value = (
                    values + value,
                    struct.pack(f"{self.order}{word}", end + len(values)),
                )
            head = struct.pack(f"{self.order}HH{word}", tag, 4, len(numbers))
            records[tag] = head + value.ljust(width, b"\0")
        count = struct.pack(f"{self.order}{'Q' if self._big else 'H'}", len(records))
        first = struct.pack(f"{self.order}{word}", end + len(values))
        body = memoryview(self._data)[2 * width :]
        padding = bytes(end - len(self._data))
        ordered = (records[tag] for tag in sorted(records))
        head = self._data[:width] + first
        return b"".join((head, body, padding, values, count, *ordered, bytes(width)))

    def extract(
        self,
        kept: Directory,
        replaced: dict[int, list[int]],
        pieces: list[tuple[int, int]],
        tags: tuple[int, int],
    ) -> TiffBlock:
        """A small file of some pieces of this one, given by where they start and their bytes.

        It has the `kept` fields, the `replaced` ones, and the pieces' places in the two `tags`.
        """
        body = bytearray(16)
        moved: Directory = {}
        for tag, entry in kept.items():
            moved[tag] = Entry(tag, entry.type, entry.count, len(body))
            body += self._data[entry.offset : entry.end].ljust(entry.size, b"\0")
        places: list[int] = []
        for start, count in pieces:
            places.append(len(body))
            body += memoryview(self._data)[start : start + count]
        body[:8] = self._data[:8]
        fields = {**replaced, tags[0]: places, tags[1]: [count for _, count in pieces]}
        file = TiffBlock(bytes(body), self.order, big=self._big, first=0)
        extracted = TiffBlock.open(file.with_first(moved, fields))
        assert extracted is not None
        return extracted

    def _values(self, entry: Entry, limit: int, code: str) -> Iterator[tuple[Any, ...]]:
        size = _TYPE_BYTES[entry.type]
        values = self._data[entry.offset : entry.offset + min(entry.count, limit) * size]
        return struct.iter_unpack(f"{self.order}{code}", values[: len(values) // size * size])

    def _read(self, offset: int) -> tuple[Directory, int]:
        """The directory at `offset` and the offset of the next; entries past the end are
        dropped."""
        counter, entry_bytes, width = ("Q", 20, 8) if self._big else ("H", 12, 4)
        word = "Q" if self._big else "I"
        start = offset + struct.calcsize(f"{self.order}{counter}")
        if start > len(self._data):
            return {}, 0
        (count,) = struct.unpack_from(f"{self.order}{counter}", self._data, offset)
        directory: Directory = {}
        for index in range(min(count, _MAX_ENTRIES)):
            position = start + index * entry_bytes
            if position + entry_bytes > len(self._data):
                return directory, 0
            tag, kind, values = struct.unpack_from(f"{self.order}HH{word}", self._data, position)
            inline = position + 4 + width
            entry = Entry(tag, kind, values, inline)
            if entry.size > width:
                (target,) = struct.unpack_from(f"{self.order}{word}", self._data, inline)
                entry = Entry(tag, kind, values, target)
            if kind in _TYPE_BYTES:
                directory.setdefault(tag, entry)
        end = start + count * entry_bytes
        if end + width > len(self._data):
            return directory, 0
        (following,) = struct.unpack_from(f"{self.order}{word}", self._data, end)
        return directory, following


def exif_orientation(block: TiffBlock | None) -> int:
    """The EXIF orientation, 1 to 8; 1 if the block has no valid one."""
    value = block.integer(block.first, ORIENTATION) if block is not None else None
    return value if value is not None and 1 <= value <= 8 else 1
