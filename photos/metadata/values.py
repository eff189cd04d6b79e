"""Parses numbers, ratings, lenses and places of metadata; invalid ones become None."""

from __future__ import annotations

import math
import re

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
