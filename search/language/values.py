"""Reads the values of fields. Every reader raises UsageError; the parser adds the place."""

from __future__ import annotations

import calendar
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from regard.core.errors import UsageError
from regard.core.filters import CustomValue, Fact, GpsBox, GpsCircle, Orientation
from regard.core.geometry import Box
from regard.photos.countries import country_code
from regard.search.answers import asset_identifier, parse_identifier
from regard.search.language.syntax import (
    Field,
    Period,
    Pixels,
    Seconds,
    Stars,
    Value,
    WrittenPicture,
)

_MOMENT = re.compile(
    r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?)?)?)?",
    re.ASCII,
)
_COMPARED = re.compile(r"(>=|<=|>|<|=)(.*)", re.DOTALL)
_WHOLE = re.compile(r"[0-9]{1,10}", re.ASCII)
_DURATION = re.compile(r"(?:(?:([0-9]{1,4}):)?([0-9]{1,4}):)?([0-9]{1,10})", re.ASCII)
_MOST_SECONDS = 2**31 // 1000 - 1
_STARS = re.compile(r"-1|[0-5]", re.ASCII)
_DECIMAL = re.compile(r"[+-]?[0-9]{1,5}(\.[0-9]{0,17})?", re.ASCII)
_RADIUS = re.compile(r"([0-9]{1,8}(?:\.[0-9]{0,9})?) ?(km|m|mi|)", re.ASCII)
_KILOMETRES = {"km": 1.0, "": 1.0, "m": 0.001, "mi": 1.609344}
_TICK = timedelta(microseconds=1)
_MOST_PIXELS = 2**31 - 1
_MOST_BOX_PIXELS = 1 << 30
_LONGEST_NAME = 500
_Bound = TypeVar("_Bound", int, datetime)
_Choice = TypeVar("_Choice", bound=StrEnum)


def read_value(field: Field, text: str) -> Value:
    """Read the value of a field other than a custom one; raises UsageError."""
    return _READERS[field](text)


def read_custom(text: str, *, quoted: bool) -> CustomValue:
    """A text or, without quotes, a number or boolean if it looks like one."""
    if quoted:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, bool) or (isinstance(value, int | float) and abs(value) < 1e18):
        return value
    return text


def read_box(text: str) -> WrittenPicture:
    """Read `PICTURE,X,Y,W,H`; raises UsageError."""
    name, *sides = text.rsplit(",", 4)
    if len(sides) != 4 or not name or not all(_WHOLE.fullmatch(side.strip()) for side in sides):
        raise UsageError(
            "a box needs a picture and four integers in pixels",
            remedy="write box:PICTURE,X,Y,WIDTH,HEIGHT",
        )
    x, y, width, height = map(int, sides)
    if max(x, y, width, height) > _MOST_BOX_PIXELS:
        raise UsageError("the box is larger than any picture")
    if not width or not height:
        raise UsageError("the box is empty", remedy="give it a width and a height of at least 1")
    return WrittenPicture(name, Box(x, y, width, height))


def _name(text: str) -> str:
    if len(text) > _LONGEST_NAME:
        raise UsageError(f"the name has more than {_LONGEST_NAME} characters")
    return text


def _format(text: str) -> str:
    """The catalog's name of a format, from the name that files have."""
    name = _name(text).upper()
    return {"JPG": "JPEG", "TIF": "TIFF", "HEIC": "HEIF"}.get(name, name)


def _country(text: str) -> str:
    """The code of a country."""
    code = country_code(text)
    if code is None:
        raise UsageError(
            f"no country is named {_name(text)!r}",
            remedy="write its English name or its ISO code, as in country:Germany or country:DE",
        )
    return code


def _asset(text: str) -> str:
    """The id of an asset."""
    reference = parse_identifier(text)
    if reference.is_region:
        raise UsageError(f"{text} is a region", remedy="write the id of a photograph: stack:a12")
    return asset_identifier(reference.id)


def _path(text: str) -> str:
    start = next((start for start in ("s3://", "/") if text.startswith(start)), "")
    names = [name for name in text.removeprefix(start).split("/") if name]
    if not names or {".", ".."} & set(names):
        raise UsageError("this is not a path", remedy="separate folders by /, as in 2024/trip")
    # Repeated slashes count as one, so that a path below a root cannot become absolute.
    return start + "/".join(names)


def _period(text: str) -> Period:
    remedy = "write it as 2024, 2024-05, 2024-05-17 or 2024-05..2024-06"
    try:
        return Period(*_range(text, _moments, _TICK, "a date", remedy))
    except OverflowError:
        raise UsageError("there are no dates beyond this one", remedy=remedy) from None


def _pixels(text: str) -> Pixels:
    remedy = "write it as 2000, >=2000 or 1000..2000"
    pixels = Pixels(*_range(text, _whole, 1, "a number of pixels", remedy))
    if not all(0 <= bound <= _MOST_PIXELS for bound in (pixels.least or 0, pixels.most or 0)):
        raise UsageError("the number of pixels is out of range", remedy=remedy)
    return pixels


def _stars(text: str) -> Stars:
    remedy = "write it as 4, >=4 or 3..5; 0 means no star, -1 rejected"

    def read(part: str) -> tuple[int, int] | None:
        return (int(part), int(part)) if _STARS.fullmatch(part) else None

    return Stars(*_range(text, read, 1, "a rating from -1 to 5", remedy))


def _seconds(text: str) -> Seconds:
    remedy = "write it as 90, 1:30, >=60 or 1:00..2:00"

    def read(part: str) -> tuple[int, int] | None:
        match = _DURATION.fullmatch(part)
        if match is None:
            return None
        hours, minutes, seconds = (int(number or 0) for number in match.groups())
        whole = 3600 * hours + 60 * minutes + seconds
        return whole, whole

    seconds = Seconds(*_range(text, read, 1, "a duration in seconds", remedy))
    if not all(0 <= bound <= _MOST_SECONDS for bound in (seconds.least or 0, seconds.most or 0)):
        raise UsageError("the duration is out of range", remedy=remedy)
    return seconds


def _range(
    text: str,
    read: Callable[[str], tuple[_Bound, _Bound] | None],
    step: int | timedelta,
    what: str,
    remedy: str,
) -> tuple[_Bound | None, _Bound | None]:
    """First and last value in `A`, `>A`, `<=A`, `A..B`, `A..` or `..B`; None for an open end."""

    def bounds(part: str) -> tuple[_Bound, _Bound]:
        values = read(part.strip())
        if values is None:
            raise UsageError(f"{part.strip()!r} is not {what}", remedy=remedy)
        return values

    compared = _COMPARED.fullmatch(text)
    if compared is not None:
        first, last = bounds(compared[2])
        open_ended: Mapping[str, Callable[[], tuple[_Bound | None, _Bound | None]]] = {
            ">": lambda: (last + step, None),  # type: ignore[operator]
            ">=": lambda: (first, None),
            "<": lambda: (None, first - step),  # type: ignore[operator]
            "<=": lambda: (None, last),
            "=": lambda: (first, last),
        }
        return open_ended[compared[1]]()
    begin, dots, end = (part.strip() for part in text.partition(".."))
    if not dots:
        return bounds(text)
    if not begin and not end:
        raise UsageError(f"{text!r} is not {what}", remedy=remedy)
    least = bounds(begin)[0] if begin else None
    most = bounds(end)[1] if end else None
    if least is not None and most is not None and least > most:
        raise UsageError("the range ends before it begins", remedy="write the smaller value first")
    return least, most


def _whole(text: str) -> tuple[int, int] | None:
    return (int(text), int(text)) if _WHOLE.fullmatch(text) else None


def _moments(text: str) -> tuple[datetime, datetime] | None:
    """The first and the last moment of a year, month, day, minute or second."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (
        None if part is None else int(part) for part in match.groups()[:6]
    )
    try:
        start = datetime(year or 0, month or 1, day or 1, hour or 0, minute or 0, second or 0)
    except ValueError:
        return None
    if match[7] is not None:
        start = start.replace(microsecond=int(match[7].ljust(6, "0")))
        return start, start
    if day is None:
        month = month or 12
        start_of_last = start.replace(month=month)
        end = start_of_last.replace(day=calendar.monthrange(start.year, month)[1])
    else:
        end = start
    end = end.replace(
        hour=23 if hour is None else hour,
        minute=59 if minute is None else minute,
        second=59 if second is None else second,
        microsecond=999_999,
    )
    return start, end


def _circle(text: str) -> GpsCircle:
    parts = [part.strip() for part in text.split(",")]
    radius = _RADIUS.fullmatch(parts[-1])
    if len(parts) != 3 or radius is None or not all(map(_DECIMAL.fullmatch, parts[:2])):
        raise UsageError(
            "a place needs a latitude, a longitude and a distance",
            remedy="write near:52.5,13.4,10km, with a minus for south and west",
        )
    kilometres = float(radius[1]) * _KILOMETRES[radius[2]]
    try:
        return GpsCircle(float(parts[0]), float(parts[1]), kilometres)
    except UsageError as error:
        raise UsageError(error.message.replace(" of gps_near", "")) from error


def _box(text: str) -> GpsBox:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(map(_DECIMAL.fullmatch, parts)):
        raise UsageError(
            "a part of the map needs four numbers of degrees",
            remedy="write within:WEST,SOUTH,EAST,NORTH, as in within:13.1,52.3,13.8,52.7",
        )
    try:
        return GpsBox(*map(float, parts))
    except UsageError as error:
        raise UsageError(error.message.replace("gps_box", "the part of the map")) from error


def _one_of(choices: type[_Choice]) -> Callable[[str], _Choice]:
    def read(text: str) -> _Choice:
        try:
            return choices(text.lower())
        except ValueError:
            raise UsageError(
                f"{text!r} is not a possible value",
                remedy="choose one of " + ", ".join(choices),
            ) from None

    return read


_READERS: Mapping[Field, Callable[[str], Value]] = {
    Field.COLLECTION: _name,
    Field.TAKEN: _period,
    Field.CAMERA: _name,
    Field.WITHIN: _box,
    Field.NEAR: _circle,
    Field.WIDTH: _pixels,
    Field.HEIGHT: _pixels,
    Field.ORIENTATION: _one_of(Orientation),
    Field.TAG: _name,
    Field.PATH: _path,
    Field.HAS: _one_of(Fact),
    Field.RATING: _stars,
    Field.DURATION: _seconds,
    Field.LENS: _name,
    Field.FORMAT: _format,
    Field.ALBUM: _name,
    Field.COUNTRY: _country,
    Field.CITY: _name,
    Field.STACK: _asset,
}
