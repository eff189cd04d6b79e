"""Properties from an IPTC IIM data set (IIM 4.2)."""

from __future__ import annotations

from collections.abc import Iterator

from regard.photos.metadata.texts import decode_text

_MARK = 0x1C
_CHARSET = (1, 90)
_NAMES = {
    (2, 5): "ObjectName",
    (2, 25): "Keywords",
    (2, 55): "DateCreated",
    (2, 60): "TimeCreated",
    (2, 62): "DigitalCreationDate",
    (2, 63): "DigitalCreationTime",
    (2, 105): "Headline",
    (2, 120): "Caption-Abstract",
}
# ISO 2022 announces a charset of 96 characters by its final letter.
_LATIN_SETS = {
    "A": "iso8859-1", "B": "iso8859-2", "C": "iso8859-3", "D": "iso8859-4", "F": "iso8859-7",
    "G": "iso8859-6", "H": "iso8859-8", "L": "iso8859-5", "M": "iso8859-9", "b": "iso8859-15",
}  # fmt: skip
_MAX_FIELDS = 10_000


def iptc_properties(data: bytes) -> dict[str, list[str]]:
    """Values by IPTC's name of the field, up to the first damaged one.

    A date includes its time.
    """
    fields: dict[tuple[int, int], list[bytes]] = {}
    for key, value in _fields(data):
        fields.setdefault(key, []).append(value)
    charset = _charset(fields.get(_CHARSET, [b""])[0])
    properties = {
        name: [_decode(value, charset) for value in fields[key]]
        for key, name in _NAMES.items()
        if key in fields
    }
    for date, time in (
        ("DateCreated", "TimeCreated"),
        ("DigitalCreationDate", "DigitalCreationTime"),
    ):
        if date in properties:
            clock = properties.get(time, [""])[0]
            properties[date] = [f"{properties[date][0]} {clock}"]
    return properties


def _charset(declared: bytes) -> str | None:
    """The encoding that an escape sequence of ISO 2022 names, except UTF-8, which is recognised."""
    if declared[:2] in {b"\x1b-", b"\x1b.", b"\x1b/"}:
        return _LATIN_SETS.get(declared[2:3].decode("latin-1"))
    return None


def _decode(value: bytes, charset: str | None) -> str:
    # Many writers use UTF-8 undeclared or wrongly declared; other text is almost never valid UTF-8.
    if charset is not None:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode(charset, errors="ignore")
    return decode_text(value)


def _fields(data: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """(record, number) and value of each field, up to the first damaged one."""
    position = len(data) - len(data.lstrip(b"\0"))
    for _ in range(_MAX_FIELDS):
        head = data[position : position + 5]
        if len(head) < 5 or head[0] != _MARK:
            return
        length = int.from_bytes(head[3:5], "big")
        position += 5
        if length & 0x8000:
            # Extended field: the low bits give the number of length bytes that follow.
            width = length & 0x7FFF
            length = int.from_bytes(data[position : position + width], "big")
            position += width
            if width > 4:
                return
        value = data[position : position + length]
        if len(value) < length:
            return
        yield (head[1], head[2]), value
        position += length
