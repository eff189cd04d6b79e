"""Facts from an IPTC IIM data set (IIM 4.2): title, caption, keywords, date."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from regard.core.facts import PhotoFacts
from regard.photos.metadata.values import clean_keywords, clean_text, decode_text, wall_clock

_MARK = 0x1C
_CHARSET = (1, 90)
_TITLE, _KEYWORD, _DATE, _TIME, _CAPTION = (2, 5), (2, 25), (2, 55), (2, 60), (2, 120)
_UTF8 = b"\x1b%G"
_MAX_FIELDS = 10_000


def iptc_facts(data: bytes) -> PhotoFacts:
    """What a data set says, up to the first damaged field."""
    fields: dict[tuple[int, int], list[bytes]] = {}
    for key, value in _fields(data):
        fields.setdefault(key, []).append(value)
    is_utf8 = _UTF8 in fields.get(_CHARSET, [])

    def texts(key: tuple[int, int]) -> list[str]:
        return [_decode(value, is_utf8=is_utf8) for value in fields.get(key, [])]

    def first(key: tuple[int, int]) -> str | None:
        return next(iter(texts(key)), None)

    taken = _date(first(_DATE) or "", first(_TIME) or "")
    return PhotoFacts(
        taken_at=taken[0] if taken else None,
        utc_offset_minutes=taken[1] if taken else None,
        title=clean_text(first(_TITLE)),
        description=clean_text(first(_CAPTION)),
        keywords=clean_keywords(texts(_KEYWORD)),
    )


def _decode(value: bytes, *, is_utf8: bool) -> str:
    # Many writers use UTF-8 undeclared; Latin-1 text is almost never valid UTF-8.
    return value.decode("utf-8", errors="replace") if is_utf8 else decode_text(value)


def _date(date: str, time: str) -> tuple[datetime, int | None] | None:
    """Parse CCYYMMDD and HHMMSS±HHMM as wall-clock time and UTC offset."""
    day = f"{date[:4]}-{date[4:6]}-{date[6:8]}"
    clock = f" {time[:2]}:{time[2:4]}:{time[4:6]}{time[6:]}" if time.strip() else ""
    return wall_clock(day + clock) or wall_clock(day)


def _fields(data: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """(record, number) and value of each field, up to the first damaged one."""
    position = 0
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
