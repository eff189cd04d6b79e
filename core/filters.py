"""Which assets a list or search covers: conditions on the catalog's data, all of which must hold.

A filter is a hashable value without SQL or HTTP, so that results derived from it can be cached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from regard.core.errors import UsageError
from regard.core.words import composed

CustomValue = str | int | float | bool

# The largest value of a 32-bit column, on either database.
_PIXELS = range(2**31)
_RATINGS = range(-1, 6)
# Of a duration in ms, which is in such a column too.
_SECONDS = range(2**31 // 1000)
_NUMBERS = {
    **dict.fromkeys(("min_width", "max_width", "min_height", "max_height"), _PIXELS),
    **dict.fromkeys(("min_rating", "max_rating"), _RATINGS),
    **dict.fromkeys(("min_duration", "max_duration"), _SECONDS),
}


class Orientation(StrEnum):
    """The shape of the oriented photograph."""

    LANDSCAPE = "landscape"
    PORTRAIT = "portrait"
    SQUARE = "square"


@dataclass(frozen=True, slots=True)
class GpsBox:
    """Degrees, north and east positive; `west` > `east` crosses the date line."""

    west: float
    south: float
    east: float
    north: float

    def __post_init__(self) -> None:
        _require_degrees("gps_box", (self.south, self.north), (self.west, self.east))
        if self.south > self.north:
            raise UsageError("gps_box has its south above its north")


@dataclass(frozen=True, slots=True)
class GpsCircle:
    """Everything within `radius_km` of a point, along the great circle."""

    latitude: float
    longitude: float
    radius_km: float

    def __post_init__(self) -> None:
        _require_degrees("gps_near", (self.latitude,), (self.longitude,))
        if not 0 < self.radius_km <= 20_100:
            raise UsageError("the radius of gps_near must be above 0 and at most 20100 km")


class Fact(StrEnum):
    """A fact that a photograph may have; a video is what has a duration, a stack others beside it."""

    GPS = "gps"
    DATE = "date"
    CAMERA = "camera"
    LENS = "lens"
    TITLE = "title"
    DESCRIPTION = "description"
    TAG = "tag"
    RATING = "rating"
    VIDEO = "video"
    STACK = "stack"


@dataclass(frozen=True, slots=True)
class PathPart:
    """Consecutive path components as bytes, such as `2024/trip`; the last may be the file name.

    `below` restricts the match to the part of the path inside these folders, None to the whole
    path. Everything at or below `at` matches too. Uploaded originals have no path, only a name.
    """

    part: bytes
    below: tuple[bytes, ...] | None = None
    at: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not self.part.strip(b"/") or b"\0" in self.part:
            raise UsageError("a part of a path is empty")
        if not all(self.below or ()) or not all(self.at):
            raise UsageError("a path prefix is empty")


@dataclass(frozen=True, slots=True)
class AssetFilter:
    """Conditions on assets; None and () set no condition. Assets in the trash never match.

    Any of the values must match in `ids`, `collections` (names; () matches nothing), `cameras`
    (model, or make and model; ASCII case is ignored), `lenses` (likewise), `formats` (as JPEG),
    `countries` (ISO 3166-1 codes as DE), `cities` (names; case and accents are ignored),
    `albums` (ids), `stacks` (ids of any of their assets), `any_of`, `external_ids`, and
    `path_prefixes` (absolute paths as bytes, at or below which the file lies). All must match in
    `tags`, `custom` ((field, value) pairs), `path_parts`, `has` and `also`; none in `without_tags`
    and `without`.
    `taken_from` and `taken_to` are naive local times, inclusive; with either, assets without a
    date do not match. Sizes are in pixels, ratings -1 (rejected) to 5, durations of videos in whole
    seconds, rounded down. Raises UsageError for
    values that no asset can have.
    """

    ids: tuple[int, ...] = ()
    collections: tuple[str, ...] | None = None
    taken_from: datetime | None = None
    taken_to: datetime | None = None
    cameras: tuple[str, ...] = ()
    gps_box: GpsBox | None = None
    gps_near: GpsCircle | None = None
    min_width: int | None = None
    max_width: int | None = None
    min_height: int | None = None
    max_height: int | None = None
    orientation: Orientation | None = None
    tags: tuple[str, ...] = ()
    without_tags: tuple[str, ...] = ()
    custom: tuple[tuple[str, CustomValue], ...] = ()
    external_ids: tuple[str, ...] = ()
    path_prefixes: tuple[bytes, ...] = ()
    path_parts: tuple[PathPart, ...] = ()
    has: tuple[Fact, ...] = ()
    min_rating: int | None = None
    max_rating: int | None = None
    min_duration: int | None = None
    max_duration: int | None = None
    lenses: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    cities: tuple[str, ...] = ()
    albums: tuple[int, ...] = ()
    stacks: tuple[int, ...] = ()
    any_of: tuple[AssetFilter, ...] = ()
    also: tuple[AssetFilter, ...] = ()
    without: tuple[AssetFilter, ...] = ()
    # 1 == True in Python: this keeps filters by 1 and by True unequal.
    _truths: tuple[bool, ...] = field(default=(), init=False, repr=False)

    def __post_init__(self) -> None:
        # Texts that look the same match.
        for name in ("tags", "without_tags", "collections", "cameras", "lenses"):
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, tuple(map(composed, values)))
        object.__setattr__(
            self, "_truths", tuple(isinstance(value, bool) for _, value in self.custom)
        )
        for name in ("taken_from", "taken_to"):
            moment: datetime | None = getattr(self, name)
            if moment is not None and moment.tzinfo is not None:
                raise UsageError(
                    f"{name} has a time zone",
                    remedy="give the local time where the photograph was taken, without a zone",
                )
        for name, numbers in _NUMBERS.items():
            number: int | None = getattr(self, name)
            if number is not None and number not in numbers:
                raise UsageError(f"{name} lies outside {numbers[0]} to {numbers[-1]}")
        texts = (
            ("collection", self.collections or ()),
            ("camera", self.cameras),
            ("lens", self.lenses),
            ("format", self.formats),
            ("country", self.countries),
            ("city", self.cities),
            ("tag", self.tags),
            ("not_tag", self.without_tags),
            ("custom", [name for name, _ in self.custom]),
            ("external_id", self.external_ids),
        )
        for name, values in texts:
            if not all(_is_text(value) and "\0" not in value for value in values):
                raise UsageError(f"a value of {name} is not valid text")
        for name, value in self.custom:
            if isinstance(value, str) and not _is_text(value):
                raise UsageError(f"the value of the field {name} is not valid text")
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"the value of the field {name} is not a finite number")
        if not all(self.path_prefixes):
            raise UsageError("a path prefix is empty")

    @property
    def is_everything(self) -> bool:
        """Whether it sets no condition."""
        return self == EVERYTHING

    @property
    def nested(self) -> tuple[AssetFilter, ...]:
        """The filters inside of it, whatever their sign."""
        return (*self.also, *self.without, *self.any_of)

    @property
    def names_stack(self) -> bool:
        """Whether it asks for the assets of some stack."""
        inner = (*self.also, *self.any_of)
        return bool(self.stacks) or any(part.names_stack for part in inner)

    @property
    def named_collections(self) -> tuple[str, ...]:
        """All collections that it names, including those in nested filters."""
        inner = (name for part in self.nested for name in part.named_collections)
        return tuple(dict.fromkeys((*(self.collections or ()), *inner)))


EVERYTHING = AssetFilter()


def _is_text(value: str) -> bool:
    """Whether it has no lone surrogates, which no database accepts."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _require_degrees(
    name: str, latitudes: tuple[float, ...], longitudes: tuple[float, ...]
) -> None:
    if not all(-90 <= value <= 90 for value in latitudes):
        raise UsageError(f"a latitude of {name} lies outside -90 to 90")
    if not all(-180 <= value <= 180 for value in longitudes):
        raise UsageError(f"a longitude of {name} lies outside -180 to 180")
