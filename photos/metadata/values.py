"""Validates values that EXIF, IPTC and XMP share; invalid ones become None."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta

_MAX_TEXT = 16_384
_MAX_KEYWORD = 256
_MAX_KEYWORDS = 1_000
# Photography is younger than 1800; far years break time zone arithmetic in databases.
_YEARS = range(1800, 9000)

_DATE = re.compile(
    r"\s*(\d{4})[-:/.](\d{1,2})[-:/.](\d{1,2})"
    r"(?:[T\s]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?"
    r"\s*(Z|[+-]\d{2}:?\d{2})?\s*",
    re.ASCII,
)
_OFFSET = re.compile(r"\s*(?:(Z)|([+-])(\d{2}):?(\d{2}))\s*", re.ASCII)


def clean_text(text: str | None, limit: int = _MAX_TEXT) -> str | None:
    """Strip control characters except line feeds and tabs, and lone surrogates.

    Returns None if nothing is left.
    """
    if text is None:
        return None
    kept = "".join(
        character
        for character in text[: 2 * limit].replace("\r\n", "\n").replace("\r", "\n")
        if character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cs"}
    )
    return kept.strip()[:limit].rstrip() or None


def decode_text(data: bytes) -> str:
    """Decode bytes without a declared charset: as UTF-8 if valid, else as Latin-1."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def clean_keywords(keywords: Iterable[str | None]) -> tuple[str, ...]:
    """Clean keywords and drop repeated ones, keeping their order."""
    cleaned = (clean_text(keyword, _MAX_KEYWORD) for keyword in keywords)
    return tuple(dict.fromkeys(keyword for keyword in cleaned if keyword))[:_MAX_KEYWORDS]


def wall_clock(text: str | None) -> tuple[datetime, int | None] | None:
    """Parse EXIF's `2024:05:01 12:30:00` or ISO 8601's extended form; a date alone is midnight.

    Returns naive wall-clock time and the UTC offset in minutes, if given.
    """
    matched = _DATE.fullmatch(text) if text and len(text) < 64 else None
    if matched is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = matched.groups()
    try:
        moment = datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int((fraction or "0").ljust(6, "0")[:6]),
        )
    except ValueError:
        return None
    return (moment, utc_offset(zone)) if moment.year in _YEARS else None


def utc_offset(text: str | None) -> int | None:
    """Parse `+02:00`, `+0200` or `Z` as minutes east of Greenwich; None if out of range."""
    matched = _OFFSET.fullmatch(text) if text and len(text) < 16 else None
    if matched is None:
        return None
    zulu, sign, hours, minutes = matched.groups()
    if zulu:
        return 0
    offset = timedelta(hours=int(hours), minutes=int(minutes)) // timedelta(minutes=1)
    if int(minutes) > 59 or offset > 14 * 60:
        return None
    return -offset if sign == "-" else offset


def coordinate(parts: Iterable[float | None], hemisphere: str | None) -> float | None:
    """Degrees and optional minutes and seconds as signed decimal degrees.

    `hemisphere` is N, S, E or W; without it the sign is unknown and the result is None.
    """
    letter = (hemisphere or "").strip("\0 ").upper()[:1]
    values = list(parts)[:3]
    if letter not in {"N", "S", "E", "W"} or not values:
        return None
    degrees = 0.0
    for value, unit in zip(values, (1.0, 60.0, 3600.0), strict=False):
        if value is None or not math.isfinite(value) or value < 0 or (unit > 1 and value > 60):
            return None
        degrees += value / unit
    if degrees > (90.0 if letter in "NS" else 180.0):
        return None
    return -degrees if letter in "SW" else degrees


def positive(value: float | None) -> float | None:
    """A finite number above zero, or None."""
    return value if value is not None and math.isfinite(value) and value > 0 else None


def star_rating(text: str | float | None) -> int | None:
    """A rating of -1 (rejected) to 5, or None."""
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return int(value) if value in {-1, 0, 1, 2, 3, 4, 5} else None
