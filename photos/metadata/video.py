"""Facts in the tags of a video's container, as FFmpeg names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from regard.core.facts import DatePrecision, PhotoFacts
from regard.photos.metadata.texts import clean_text
from regard.photos.metadata.values import PartialDate, parse_date

# The best first. QuickTime's own date is a local time with its offset, the others are in UTC.
_DATES = ("com.apple.quicktime.creationdate", "creation_time", "date_utc", "date")
_MAKES = ("com.apple.quicktime.make", "com.android.manufacturer", "make")
_MODELS = ("com.apple.quicktime.model", "com.android.model", "model")
_TITLES = ("com.apple.quicktime.title", "title")
_DESCRIPTIONS = ("com.apple.quicktime.description", "description", "comment")
_LIVE_PHOTO_IDS = ("com.apple.quicktime.content.identifier",)
_PLACES = ("com.apple.quicktime.location.iso6709", "location", "location-eng")
# Where the clocks of QuickTime and of Unix begin: what a device without a clock writes.
_NO_YEARS = {1904, 1970}
# `+48.8577+002.2950+035.1/`; degrees alone, with minutes, or with seconds (ISO 6709, annex H).
_ISO_6709 = re.compile(
    r"([+-])(\d{2,6}(?:\.\d+)?)([+-])(\d{3,7}(?:\.\d+)?)([+-]\d+(?:\.\d+)?)?(?:CRS[^/]*)?/?",
    re.ASCII,
)
_LONGEST = 200
# A date and a clock time in a file's name: `VID_20240501_003015`, `2024-05-01 00.30.15`.
_NAMED = re.compile(
    r"(?<!\d)(\d{4})[-_.]?(\d\d)[-_.]?(\d\d)[-_. T]{0,3}(\d\d)[-_.]?(\d\d)[-_.]?(\d\d)(?!\d)",
    re.ASCII,
)
_QUARTER = timedelta(minutes=15)
# UTC-12:00 to UTC+14:00.
_QUARTERS = range(-12 * 4, 14 * 4 + 1)
_NAME_SLACK = timedelta(seconds=5)


def container_facts(
    tags: Mapping[str, str], known: PhotoFacts, file_name: str = "", duration_ms: int = 0
) -> PhotoFacts:
    """What is `known` from a sidecar, completed by the tags of a container.

    A date in UTC becomes the local time that `file_name` tells, if they differ by a time zone.
    """
    lower = {name.lower(): value[:_LONGEST] for name, value in tags.items()}

    def text(names: tuple[str, ...]) -> str | None:
        found = (clean_text(lower[name]) for name in names if name in lower)
        return next(filter(None, found), None)

    capture = known.capture
    if capture.live_photo_id is None:
        capture = replace(capture, live_photo_id=text(_LIVE_PHOTO_IDS))
    values: dict[str, object] = {}
    if known.taken_at is None and (date := _date(lower)) is not None:
        date = _local(date, file_name, timedelta(milliseconds=duration_ms)) or date
        values["taken_at"], values["taken_precision"] = date.moment, date.precision
        values["utc_offset_minutes"] = date.utc_offset
    if known.latitude is None and (place := _place(lower)) is not None:
        values["latitude"], values["longitude"], altitude = place
        if altitude is not None and capture.altitude_m is None:
            capture = replace(capture, altitude_m=altitude)
    for name, names in (
        ("camera_make", _MAKES),
        ("camera_model", _MODELS),
        ("title", _TITLES),
        ("description", _DESCRIPTIONS),
    ):
        if getattr(known, name) is None:
            values[name] = text(names)
    return replace(known, capture=capture, **values)  # type: ignore[arg-type]


def _date(tags: Mapping[str, str]) -> PartialDate | None:
    dates = (parse_date(tags.get(name)) for name in _DATES)
    return next(
        (one for one in dates if one is not None and one.moment.year not in _NO_YEARS), None
    )


def _local(date: PartialDate, file_name: str, duration: timedelta) -> PartialDate | None:
    """The local time of a date in UTC, by the name; None if the name does not tell it.

    Cameras name a video by the start, and date it at its start or, as Android's do, at its end.
    """
    matched = _NAMED.search(file_name)
    if matched is None or date.utc_offset != 0 or date.precision is not DatePrecision.TIME:
        return None
    try:
        named = datetime(*map(int, matched.groups()))  # type: ignore[arg-type]
    except ValueError:
        return None
    offsets = {
        quarters
        for ahead in (named - date.moment, named - date.moment + duration)
        if (quarters := round(ahead / _QUARTER)) in _QUARTERS
        and abs(ahead - quarters * _QUARTER) <= _NAME_SLACK
    }
    if len(offsets) != 1:
        return None
    return PartialDate(named, DatePrecision.TIME, 15 * offsets.pop())


def _place(tags: Mapping[str, str]) -> tuple[float, float, float | None] | None:
    """Latitude and longitude in degrees, and the altitude in metres."""
    for name in _PLACES:
        matched = _ISO_6709.fullmatch(tags.get(name, "").strip())
        if matched is None:
            continue
        south, north, west, east, altitude = matched.groups()
        latitude, longitude = _degrees(south, north, 2), _degrees(west, east, 3)
        # Devices write 0, 0 for want of a place.
        if abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude or longitude):
            return latitude, longitude, None if altitude is None else float(altitude)
    return None


def _degrees(sign: str, digits: str, whole: int) -> float:
    """`DD.D`, `DDMM.M` or `DDMMSS.S`, with `whole` digits of degrees."""
    length = len(digits.partition(".")[0])
    if length <= whole + 1:
        value = float(digits)
    else:
        value = int(digits[:whole]) + float(digits[whole : whole + 2]) / 60
        rest = digits[whole + 2 :]
        if length >= whole + 4:
            value += float(rest) / 3600
        elif rest:
            value += float(f"0{rest}") / 60
    return -value if sign == "-" else value
