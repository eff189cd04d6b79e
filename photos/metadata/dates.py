"""Parses dates of EXIF, IPTC and XMP, keeping what is sound of a partial or damaged one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from regard.core.facts import DatePrecision

# Photography is younger than 1800; far years break time zone arithmetic in databases.
_YEARS = range(1800, 9000)
_MAX_LENGTH = 64
_MAX_OFFSET = 14 * 60
_PRECISIONS = list(DatePrecision)

# Unknown parts are zeros, blanks, or X as in extended ISO 8601.
_PART = r"(\d{1,2}(?!\d)|[ ?Xx]{0,2})"
_SEPARATED = re.compile(rf"(\d{{4}})(?!\d)(?:[-:/.]{_PART}(?:[-:/.]{_PART})?)?", re.ASCII)
_COMPACT = re.compile(
    r"(\d{4})(\d\d|[ X]{2})(\d\d|[ X]{2})?(?=\D|$|\d{4}(?:\d\d)?(?!\d))", re.ASCII
)
_OFFSET = r"(Z|z|[+-]\d{1,2}(?::?\d\d)?)"
_CLOCK = re.compile(
    r"[T\s]*(\d{1,2})[:.]?(\d\d)(?:[:.]?(\d\d)(?!\d)(?:[.,](\d+))?)?"
    rf"\s*(?:([AaPp])\.?[Mm]\.?)?\s*{_OFFSET}?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class PartialDate:
    """A wall-clock time, known to `precision`, and the UTC offset in minutes, if known."""

    moment: datetime
    precision: DatePrecision
    utc_offset: int | None = None

    def includes(self, other: PartialDate) -> bool:
        """Whether the other date is as precise and lies within this one."""
        precision = _PRECISIONS.index(self.precision)
        if _PRECISIONS.index(other.precision) < precision:
            return False
        parts = 6 if self.precision is DatePrecision.TIME else precision + 1
        return self.moment.timetuple()[:parts] == other.moment.timetuple()[:parts]


def parse_date(text: str | None) -> PartialDate | None:
    """Parse `2024:05:01 12:30:15`, ISO 8601, IPTC's `20240501`, and all that lack parts.

    Each part is used if it and those before it are valid; without a valid year there is no date.
    """
    text = (text or "")[:_MAX_LENGTH].strip()
    matched = _COMPACT.match(text) or _SEPARATED.match(text)
    if matched is None or int(matched[1]) not in _YEARS:
        return None
    year, month, day = (int(part) if (part or "").isdigit() else 0 for part in matched.groups())
    if not 1 <= month <= 12:
        return PartialDate(datetime(year, 1, 1), DatePrecision.YEAR)
    try:
        moment = datetime(year, month, day)
    except ValueError:
        return PartialDate(datetime(year, month, 1), DatePrecision.MONTH)
    return _with_clock(moment, text[matched.end() :])


def _with_clock(day: datetime, text: str) -> PartialDate:
    """The day with the clock time in `text`, if that is valid."""
    matched = _CLOCK.match(text)
    if matched is None:
        return PartialDate(day, DatePrecision.DAY)
    hour, minute, second = int(matched[1]), int(matched[2]), int(matched[3] or 0)
    if matched[5]:
        hour = hour % 12 + (12 if matched[5] in "Pp" else 0) if 1 <= hour <= 12 else 24
    if hour > 23 or minute > 59:
        return PartialDate(day, DatePrecision.DAY)
    # A leap second, 60, belongs to its minute.
    second = min(second, 59) if second <= 60 else 0
    fraction = int((matched[4] or "0").ljust(6, "0")[:6])
    moment = day.replace(hour=hour, minute=minute, second=second, microsecond=fraction)
    return PartialDate(moment, DatePrecision.TIME, _utc_offset(matched[6]))


def _utc_offset(text: str | None) -> int | None:
    """Parse `+02:00`, `+0200`, `+02` or `Z` as minutes east of Greenwich; None if out of range."""
    if text is None:
        return None
    if text in "Zz":
        return 0
    digits = text[1:].replace(":", "")
    hours, minutes = (digits[:-2], digits[-2:]) if len(digits) > 2 else (digits, "0")
    offset = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or offset > _MAX_OFFSET:
        return None
    return -offset if text[0] == "-" else offset


def most_precise(dates: Iterable[PartialDate]) -> PartialDate | None:
    """The first date, made more precise by later ones that lie within it."""
    best: PartialDate | None = None
    for date in dates:
        if best is None or (best.includes(date) and _says_more(date, best)):
            best = date
    return best


def _says_more(date: PartialDate, other: PartialDate) -> bool:
    if date.precision is not other.precision:
        return True
    if date.utc_offset is not None or other.utc_offset is not None:
        return other.utc_offset is None
    return date.moment.microsecond > 0 and other.moment.microsecond == 0
