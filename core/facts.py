"""What a photograph's metadata says about how, when and where it was taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

_SECOND, _TICK = timedelta(seconds=1), timedelta(microseconds=1)


class DatePrecision(StrEnum):
    """How much of a date is known; `TIME` is at least hour and minute."""

    YEAR = "year"
    MONTH = "month"
    DAY = "day"
    TIME = "time"

    def start_of(self, moment: datetime) -> datetime:
        """The start of the year, month or day around a moment; the moment itself for `TIME`."""
        if self is DatePrecision.TIME:
            return moment
        day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        if self is DatePrecision.DAY:
            return day
        return day.replace(day=1, month=1 if self is DatePrecision.YEAR else moment.month)

    def last_start(self, end: datetime) -> datetime:
        """The start of the last year, month or day that is over by `end`, to the second."""
        if end >= datetime.max - _SECOND:
            return self.start_of(end)
        following = self.start_of(end + _SECOND)
        return self.start_of(following - _TICK) if following > datetime.min else following


@dataclass(frozen=True, slots=True)
class Capture:
    """How a photograph was taken and made; None if the metadata does not say.

    `motion_video_offset` is where the video in a motion photo begins, in bytes from the start of
    the file; None if there is none. `live_photo_id` is what Apple writes into both files of a Live
    Photo. `document_id` names this file, `derived_from_id` the one that it was made from (XMP Media
    Management), and `raw_name` is the name of the RAW file that it was developed from.
    """

    exposure_seconds: float | None = None
    f_number: float | None = None
    iso: int | None = None
    focal_length_mm: float | None = None
    altitude_m: float | None = None
    motion_video_offset: int | None = None
    live_photo_id: str | None = None
    document_id: str | None = None
    derived_from_id: str | None = None
    raw_name: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a position lies: the ISO 3166-1 alpha-2 code of the country, and the city's name."""

    country: str
    city: str | None


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """Facts of one photograph, from its file and its sidecar.

    `taken_at` is the naive wall-clock time where the photograph was taken, because most cameras
    record no more; `utc_offset_minutes` is set if the time zone is known. `taken_precision` is
    `TIME` unless given; else `taken_at` is the start of the year, month or day. `latitude` and
    `longitude` are decimal degrees, north and east positive, and come as a pair. `rating` is 0 to
    5, or -1 for rejected (XMP). Texts are composed (NFC) and contain no lone surrogates and no
    control characters except line feeds and tabs, so that every database accepts them.
    """

    taken_at: datetime | None = None
    taken_precision: DatePrecision | None = None
    utc_offset_minutes: int | None = None
    camera_make: str | None = None
    camera_model: str | None = None
    lens: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    title: str | None = None
    description: str | None = None
    keywords: tuple[str, ...] = ()
    rating: int | None = None
    capture: Capture = field(default_factory=Capture)

    def __post_init__(self) -> None:
        if (self.taken_at is None) != (self.taken_precision is None):
            precision = None if self.taken_at is None else DatePrecision.TIME
            object.__setattr__(self, "taken_precision", precision)
