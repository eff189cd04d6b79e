"""Which assets a list or a search is about: conditions over what the catalog knows, all of which hold.

A filter is a value: hashable, so that what follows from it can be kept, and free of SQL and HTTP.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum

from regard.core.errors import UsageError

CustomValue = str | int | float | bool

# What a column of 32 bits holds, on either database.
_MOST_PIXELS = 2**31 - 1


class Orientation(StrEnum):
    """The shape of a photograph as a person sees it."""

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
    """All within `radius_km` of a place, along the great circle."""

    latitude: float
    longitude: float
    radius_km: float

    def __post_init__(self) -> None:
        _require_degrees("gps_near", (self.latitude,), (self.longitude,))
        if not 0 < self.radius_km <= 20_100:
            raise UsageError("the radius of gps_near lies outside 0 to 20100 km")


class Fact(StrEnum):
    """Something that a photograph may be known to have."""

    GPS = "gps"
    DATE = "date"
    CAMERA = "camera"
    LENS = "lens"
    TITLE = "title"
    DESCRIPTION = "description"
    TAG = "tag"
    RATING = "rating"


@dataclass(frozen=True, slots=True)
class PathPart:
    """Folders in a row, the last of them perhaps a file: `2024/trip` as bytes, anywhere in a path.

    `below`: folders in whose inside it is looked for, None for the whole path. `at`: paths at or below
    which everything passes, too. The home's own originals have no path, only a name.
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
    """Conditions on assets; None and () set no condition. Assets in the trash never pass.

    `ids`: any of them. `collections`: names, any of them; () is none at all. `taken_from` and `taken_to`
    are naive local times, inclusive; with either, assets without a date do not pass. `cameras`: model, or
    make and model, any; upper and lower case of A to Z are one. Sizes in pixels. `tags`: all;
    `without_tags`: none. `custom`: (field, value) pairs. `external_ids`: what another system calls it,
    any of them. `path_prefixes`: absolute paths as bytes at or below which the file lies, any of them;
    `path_parts`: all. `has`: all of these facts are known. `also`: filters that all pass too;
    `without`: filters none of which passes. Raises UsageError for values that no asset could have.
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
    also: tuple[AssetFilter, ...] = ()
    without: tuple[AssetFilter, ...] = ()
    # Python takes 1 for True: without this, filters by the one would be equal to filters by the other.
    _truths: tuple[bool, ...] = field(default=(), init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "_truths", tuple(isinstance(value, bool) for _, value in self.custom)
        )
        for name in ("taken_from", "taken_to"):
            moment: datetime | None = getattr(self, name)
            if moment is not None and moment.tzinfo is not None:
                raise UsageError(
                    f"{name} has a time zone",
                    remedy="give the time on the clock where the photograph was taken, without a zone",
                )
        for name in ("min_width", "max_width", "min_height", "max_height"):
            pixels: int | None = getattr(self, name)
            if pixels is not None and not 0 <= pixels <= _MOST_PIXELS:
                raise UsageError(f"{name} lies outside 0 to {_MOST_PIXELS}")
        texts = (
            ("collection", self.collections or ()),
            ("camera", self.cameras),
            ("tag", self.tags),
            ("not_tag", self.without_tags),
            ("custom", [name for name, _ in self.custom]),
            ("external_id", self.external_ids),
        )
        for name, values in texts:
            if not all(_is_text(value) and "\0" not in value for value in values):
                raise UsageError(f"a value of {name} is no text")
        for name, value in self.custom:
            if isinstance(value, str) and not _is_text(value):
                raise UsageError(f"the value of the field {name} is no text")
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"the value of the field {name} is no finite number")
        if not all(self.path_prefixes):
            raise UsageError("a path prefix is empty")

    @property
    def is_everything(self) -> bool:
        """Whether it sets no condition at all."""
        return all(getattr(self, field.name) == field.default for field in fields(self))

    @property
    def named_collections(self) -> tuple[str, ...]:
        """All collections that it names, those in inner filters too."""
        inner = (name for part in (*self.also, *self.without) for name in part.named_collections)
        return tuple(dict.fromkeys((*(self.collections or ()), *inner)))


EVERYTHING = AssetFilter()


def _is_text(value: str) -> bool:
    """Whether it has no lone surrogates, which no database takes."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _require_degrees(
    name: str, latitudes: tuple[float, ...], longitudes: tuple[float, ...]
) -> None:
    if not all(-90 <= value <= 90 for value in latitudes):
        raise UsageError(f"a latitude of {name} lies outside -90 to 90")
    if not all(-180 <= value <= 180 for value in longitudes):
        raise UsageError(f"a longitude of {name} lies outside -180 to 180")
