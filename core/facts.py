"""What a photograph's metadata says about how, when and where it was taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Capture:
    """Exposure settings; None if the metadata does not say."""

    exposure_seconds: float | None = None
    f_number: float | None = None
    iso: int | None = None
    focal_length_mm: float | None = None
    altitude_m: float | None = None


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """Facts of one photograph, from its file and its sidecar.

    `taken_at` is the naive wall-clock time where the photograph was taken, because most cameras
    record no more; `utc_offset_minutes` is set if the time zone is known. `latitude` and
    `longitude` are decimal degrees, north and east positive, and come as a pair. `rating` is 0 to
    5, or -1 for rejected (XMP). Texts contain no lone surrogates and no control characters except
    line feeds and tabs, so that every database accepts them.
    """

    taken_at: datetime | None = None
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
