"""Finds the metadata items of HEIF and AVIF files (ISO/IEC 23008-12, 14496-12)."""

from __future__ import annotations

from collections.abc import Iterator

from regard.photos.containers import iso_boxes

_MAX_ITEMS = 4_096
_MAX_EXTENTS = 16_384
_XMP_TYPE = b"application/rdf+xml"


def heif_items(data: bytes, limit: int) -> tuple[bytes | None, bytes | None]:
    """The EXIF block and the XMP packet, None if absent, damaged or larger than `limit` bytes."""
    meta = next((data[start:end] for kind, start, end in iso_boxes(data) if kind == b"meta"), b"")
    boxes = {kind: meta[4 + start : 4 + end] for kind, start, end in [*iso_boxes(meta[4:])][::-1]}
    found = dict[bytes, bytes]()
    kinds = dict(_kinds(boxes.get(b"iinf", b"")))
    for number, extents in _locations(boxes.get(b"iloc", b"")):
        kind = kinds.get(number)
        if kind is not None and sum(length for *_, length in extents) <= limit:
            parts = (
                (boxes.get(b"idat", b"") if is_inside else data)[start : start + length]
                for is_inside, start, length in extents
            )
            found.setdefault(kind, b"".join(parts)[: limit + 4])
    exif = found.get(b"Exif")
    # Four bytes tell how many more precede the block.
    block = None if exif is None else exif[4 + int.from_bytes(exif[:4], "big") :] or exif[4:]
    return block, found.get(b"mime")


def _kinds(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Item numbers and types, `Exif` or `mime`, of the items that are metadata."""
    start = 6 if body[:1] == b"\0" else 8
    items = body[start:]
    for kind, first, end in iso_boxes(items):
        entry = items[first:end]
        version = entry[0] if kind == b"infe" and entry else 0
        if version in {2, 3}:
            width = 2 if version == 2 else 4
            number = int.from_bytes(entry[4 : 4 + width], "big")
            # Number and protection, then type, name and content type.
            name = entry[6 + width : 10 + width]
            content = entry[10 + width :].split(b"\0")[1:2]
            if name == b"Exif" or (name == b"mime" and content == [_XMP_TYPE]):
                yield number, name


class _Reader:
    """Reads big-endian integers one after the other; zeros beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def take(self, width: int) -> int:
        start, self._position = self._position, self._position + width
        return int.from_bytes(self._data[start : self._position], "big")


def _locations(body: bytes) -> Iterator[tuple[int, list[tuple[bool, int, int]]]]:
    """Item numbers, and whether each extent lies in `idat`, where it starts, and its length."""
    reader = _Reader(body)
    version, _, sizes, more_sizes = (reader.take(width) for width in (1, 3, 1, 1))
    offset_width, length_width = sizes >> 4, sizes & 15
    base_width, index_width = more_sizes >> 4, more_sizes & 15 if version else 0
    left = _MAX_EXTENTS
    for _ in range(min(reader.take(4 if version == 2 else 2), _MAX_ITEMS)):
        number = reader.take(4 if version == 2 else 2)
        method = reader.take(2) & 15 if version else 0
        reader.take(2)
        base = reader.take(base_width)
        extents = []
        count = min(reader.take(2), left)
        left -= count
        for _ in range(count):
            reader.take(index_width)
            start = base + reader.take(offset_width)
            extents.append((method == 1, start, reader.take(length_width)))
        yield number, extents
