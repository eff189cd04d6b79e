"""Parses dates, numbers, ratings, lenses and places of metadata; invalid ones become None.

Of a partial or damaged date, what is sound is kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from regard.core.facts import DatePrecision

_DECIMAL = r"\d+(?:\.\d*)?(?:e[+-]?\d{1,3})?"
_NUMBER = rf"{_DECIMAL}(?:/{_DECIMAL})?"
# `48,51,30.2N`, `48 51.5 N`, `N 48° 51' 30"`, `-48.86`: degrees, minutes, seconds, hemisphere.
_GAP = r"(?:[\s,:;°º'\"\u2032\u2033\u2019\u201d]|deg|min|sec)"
_HEMISPHERE = r"(north|south|east|west|[nsew])"
_COORDINATE = re.compile(
    rf"\s*{_HEMISPHERE}?\s*([+-]?)({_NUMBER})(?:{_GAP}+({_NUMBER}))?(?:{_GAP}+({_NUMBER}))?"
    rf"{_GAP}*{_HEMISPHERE}?\s*",
    re.IGNORECASE,
)
_FRACTION = re.compile(
    rf"\s*([+-]?{_DECIMAL})(?:\s*/\s*({_DECIMAL}))?\s*", re.ASCII | re.IGNORECASE
)
_LONGEST = 64

# Photography is younger than 1800; far years break time zone arithmetic in databases.
_YEARS = range(1800, 9000)
_MAX_OFFSET = 14 * 60
_PRECISIONS = list(DatePrecision)

# Unknown parts are zeros, blanks, or X as in extended ISO 8601.
_PART = r"(?: ?(\d{1,2})(?!\d)|[ ?Xx]{0,2})"
_SEPARATED = re.compile(rf"(\d{{4}})(?!\d)(?:[-:/.]{_PART}(?:[-:/.]{_PART})?)?", re.ASCII)
_COMPACT = re.compile(
    r"(\d{4})(\d\d|[ X]{2})(\d\d|[ X]{2})?(?=\D|$|\d{4}(?:\d\d)?(?!\d))", re.ASCII
)
# RFC 5322, which PNG recommends: `Sat, 04 May 2024 12:30:15 +0200`.
_NAMED = re.compile(
    r"(?:[a-z]{3},\s*)?(\d{1,2})\s+([a-z]{3})\s+(?=\d{4}\b)", re.ASCII | re.IGNORECASE
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_OFFSET = r"(Z|z|[+-]\d{1,2}(?::?\d\d)?)"
_CLOCK = re.compile(
    r"[T_:\s]*(\d{1,2})(?:[:.]\s?)?(\d\d|(?<=[:.\s])\d(?!\d))"
    r"(?:(?:[:.]\s?)?(\d\d|(?<=[:.\s])\d)(?!\d)(?:[.,](\d+))?)?"
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
    """Parse `2024:05:01 12:30:15`, ISO 8601, IPTC's `20240501`, and all that lack parts; RFC 5322.

    Each part is used if it and those before it are valid; without a valid year there is no date.
    """
    text = (text or "")[:_LONGEST].strip()
    if (named := _NAMED.match(text)) and named[2].lower() in _MONTHS:
        rest = text[named.end() :]
        text = f"{rest[:4]}-{_MONTHS.index(named[2].lower()) + 1}-{named[1]}{rest[4:]}"
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


def most_precise_date(texts: Iterable[str]) -> PartialDate | None:
    """The first valid date, made more precise by later ones that lie within it."""
    best: PartialDate | None = None
    for date in filter(None, map(parse_date, texts)):
        if best is None or (best.includes(date) and _says_more(date, best)):
            best = date
    return best


def _says_more(date: PartialDate, other: PartialDate) -> bool:
    if date.precision is not other.precision:
        return True
    if date.utc_offset is not None or other.utc_offset is not None:
        return other.utc_offset is None
    return date.moment.microsecond > 0 and other.moment.microsecond == 0


def parse_number(text: str | None) -> float | None:
    """A decimal number or a fraction such as `1/250`; None if it is not finite."""
    matched = _FRACTION.fullmatch((text or "")[:_LONGEST])
    if matched is None:
        return None
    above, below = float(matched[1]), float(matched[2] or 1)
    value = above / below if below else math.nan
    return value if math.isfinite(value) else None


def positive(value: float | None) -> float | None:
    """A number above zero, or None."""
    return value if value is not None and value > 0 else None


def parse_position(latitude: str | None, longitude: str | None) -> tuple[float, float] | None:
    """Signed decimal degrees of a place.

    None if a part is missing or impossible, and for 0, 0, which devices write for want of a place.
    """
    north, east = _degrees(latitude, "NS"), _degrees(longitude, "EW")
    if north is None or east is None or abs(north) > 90 or abs(east) > 180:
        return None
    return (north, east) if north or east else None


def _degrees(text: str | None, letters: str) -> float | None:
    matched = _COORDINATE.fullmatch((text or "").replace("\0", "")[:_LONGEST])
    if matched is None:
        return None
    before, sign, *parts, after = matched.groups()
    letter = (after or before or "")[:1].upper()
    if letter not in letters:  # the empty string is
        return None
    degrees = 0.0
    for part, unit in zip(parts, (1, 60, 3600), strict=True):
        value = 0.0 if part is None else parse_number(part)
        if value is None or (unit > 1 and value > 60):
            return None
        degrees += value / unit
    # A number without a letter is signed; a sign is right even beside the letter N or E.
    return -degrees if sign == "-" or letter == letters[1] else degrees


def star_rating(text: str | None) -> int | None:
    """A rating of -1 (rejected) to 5; a fraction of a star is dropped."""
    value = parse_number(text)
    return int(value) if value is not None and (value == -1 or 0 <= value <= 5) else None


def percent_rating(text: str | None) -> int | None:
    """Windows' rating of 0 to 100, which writes stars as 1, 25, 50, 75 and 99, as stars."""
    value = parse_number(text)
    if value is None or not 0 <= value <= 100:
        return None
    return 0 if value == 0 else int((value + 12.5) // 25) + 1


def lens_range(text: str | None) -> str | None:
    """A name such as `24-70mm f/2.8-4` from focal lengths and f-numbers, shortest to longest."""
    numbers = [positive(parse_number(part)) for part in (text or "").split()]
    if len(numbers) != 4 or numbers[0] is None:
        return None
    lengths, apertures = (
        "-".join(dict.fromkeys(f"{number:g}" for number in pair if number))
        for pair in (numbers[:2], numbers[2:])
    )
    return f"{lengths}mm f/{apertures}" if apertures else f"{lengths}mm"
