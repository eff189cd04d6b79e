"""Facts in the tags of a video's container, as FFmpeg names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from regard.core.facts import PhotoFacts
from regard.photos.metadata.texts import clean_text
from regard.photos.metadata.values import PartialDate, parse_date

# The best first. QuickTime's own date is a local time with its offset, the others are in UTC.
_DATES = ("com.apple.quicktime.creationdate", "creation_time", "date_utc", "date")
_MAKES = ("com.apple.quicktime.make", "com.android.manufacturer", "make")
_MODELS = ("com.apple.quicktime.model", "com.android.model", "model")
_TITLES = ("com.apple.quicktime.title", "title")
_DESCRIPTIONS = ("com.apple.quicktime.description", "description", "comment")
_PLACES = ("com.apple.quicktime.location.iso6709", "location", "location-eng")
# Where the clocks of QuickTime and of Unix begin: what a device without a clock writes.
_NO_YEARS = {1904, 1970}
# `+48.8577+002.2950+035.1/`; degrees alone, with minutes, or with seconds (ISO 6709, annex H).
_ISO_6709 = re.compile(
    r"([+-])(\d{2,6}(?:\.\d+)?)([+-])(\d{3,7}(?:\.\d+)?)([+-]\d+(?:\.\d+)?)?(?:CRS[^/]*)?/?",
    re.ASCII,
)
_LONGEST = 200


def container_facts(tags: Mapping[str, str], known: PhotoFacts) -> PhotoFacts:
    """What is `known` from a sidecar, completed by the tags of a container."""
    lower = {name.lower(): value[:_LONGEST] for name, value in tags.items()}

    def text(names: tuple[str, ...]) -> str | None:
        found = (clean_text(lower[name]) for name in names if name in lower)
        return next(filter(None, found), None)

    values: dict[str, object] = {}
    if known.taken_at is None and (date := _date(lower)) is not None:
        values["taken_at"], values["taken_precision"] = date.moment, date.precision
        values["utc_offset_minutes"] = date.utc_offset
    if known.latitude is None and (place := _place(lower)) is not None:
        values["latitude"], values["longitude"], altitude = place
        if altitude is not None and known.capture.altitude_m is None:
            values["capture"] = replace(known.capture, altitude_m=altitude)
    for name, names in (
        ("camera_make", _MAKES),
        ("camera_model", _MODELS),
        ("title", _TITLES),
        ("description", _DESCRIPTIONS),
    ):
        if getattr(known, name) is None:
            values[name] = text(names)
    return replace(known, **values)  # type: ignore[arg-type]


def _date(tags: Mapping[str, str]) -> PartialDate | None:
    dates = (parse_date(tags.get(name)) for name in _DATES)
    return next(
        (one for one in dates if one is not None and one.moment.year not in _NO_YEARS), None
    )


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
