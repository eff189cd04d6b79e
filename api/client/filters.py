"""Filters of lists and searches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from regard.api.client.connection import Pairs

CustomValue = str | int | float | bool
# `datetime` is a `date`, too.
Moment = str | date


@dataclass(frozen=True, kw_only=True, slots=True)
class Filters:
    """Conditions that an asset must all meet; see docs/http.md. A date alone is the whole day.

    `gps_box` is west, south, east, north in degrees, `gps_near` latitude, longitude and
    kilometres.
    """

    id: Sequence[str] = ()
    collection: Sequence[str] = ()
    taken_from: Moment | None = None
    taken_to: Moment | None = None
    camera: Sequence[str] = ()
    gps_box: tuple[float, float, float, float] | None = None
    gps_near: tuple[float, float, float] | None = None
    min_width: int | None = None
    max_width: int | None = None
    min_height: int | None = None
    max_height: int | None = None
    orientation: Literal["landscape", "portrait", "square"] | None = None
    tag: Sequence[str] = ()
    not_tag: Sequence[str] = ()
    min_rating: int | None = None
    max_rating: int | None = None
    min_duration: int | None = None
    max_duration: int | None = None
    lens: Sequence[str] = ()
    format: Sequence[str] = ()
    country: Sequence[str] = ()
    city: Sequence[str] = ()
    album: Sequence[str] = ()
    stack: Sequence[str] = ()
    external_id: Sequence[str] = ()
    custom: Mapping[str, CustomValue] = field(default_factory=dict)
    path_prefix: str | None = None

    def __post_init__(self) -> None:
        for name, values in self._many():
            if isinstance(values, str):
                raise TypeError(f"{name} takes a list of strings")

    def to_json(self) -> dict[str, Any]:
        """As a field of a search."""
        document: dict[str, Any] = {name: list(values) for name, values in self._many()}
        document.update(self._single())
        if self.custom:
            document["custom"] = dict(self.custom)
        return document

    def to_query(self) -> Pairs:
        """As parameters of a list."""
        found = [(name, value) for name, values in self._many() for value in values]
        found += [(name, str(value)) for name, value in self._single().items()]
        # As JSON, which distinguishes the text "12" from the number.
        found += [
            (f"custom.{name}", json.dumps(value, ensure_ascii=False))
            for name, value in self.custom.items()
        ]
        return found

    def _many(self) -> list[tuple[str, Sequence[str]]]:
        many = {
            "id": self.id,
            "collection": self.collection,
            "camera": self.camera,
            "tag": self.tag,
            "not_tag": self.not_tag,
            "lens": self.lens,
            "format": self.format,
            "country": self.country,
            "city": self.city,
            "album": self.album,
            "stack": self.stack,
            "external_id": self.external_id,
        }
        return [(name, values) for name, values in many.items() if values]

    def _single(self) -> dict[str, Any]:
        single = {
            "taken_from": _moment(self.taken_from),
            "taken_to": _moment(self.taken_to),
            "gps_box": _numbers(self.gps_box),
            "gps_near": _numbers(self.gps_near),
            "min_width": self.min_width,
            "max_width": self.max_width,
            "min_height": self.min_height,
            "max_height": self.max_height,
            "orientation": self.orientation,
            "min_rating": self.min_rating,
            "max_rating": self.max_rating,
            "min_duration": self.min_duration,
            "max_duration": self.max_duration,
            "path_prefix": self.path_prefix,
        }
        return {name: value for name, value in single.items() if value is not None}


def filter_query(filters: Filters | None) -> Pairs:
    """The parameters of filters, none for None."""
    return [] if filters is None else filters.to_query()


def _moment(value: Moment | None) -> str | None:
    return value.isoformat() if isinstance(value, date) else value


def _numbers(values: Sequence[float] | None) -> str | None:
    return None if values is None else ",".join(map(repr, values))
