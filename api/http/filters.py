"""Converts filters in a query string or in JSON to an `AssetFilter`.

Names of import roots become folders. Callers that may not see server paths can't filter by them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, time
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from regard.api.http.documents import read_identifier
from regard.api.http.problems import invalid_values
from regard.core.errors import NotFound, UsageError
from regard.core.filters import (
    AssetFilter,
    CustomValue,
    GpsBox,
    GpsCircle,
    Orientation,
    PathPart,
)
from regard.core.keys import AccessScope, Caller
from regard.core.words import composed
from regard.photos.countries import country_code
from regard.photos.files import absolute_path, is_absolute, path_below

_CUSTOM = "custom."
_MOST_IDS = 1000
_Name = Annotated[str, Field(min_length=1, max_length=500)]
# Texts that look the same are compared as equal.
_Composed = Annotated[_Name, AfterValidator(composed)]
_Id = Annotated[str, Field(max_length=40)]
_Format = Annotated[_Name, AfterValidator(str.upper)]
_Seconds = Annotated[
    int, Field(ge=0, lt=2**31 // 1000, description="Of a video, in seconds, rounded down.")
]
_Rating = Annotated[int, Field(ge=-1, le=5, description="0 to 5 stars, -1 for rejected.")]
_Pixels = Annotated[int, Field(ge=0, le=1_000_000_000)]


class FilterModel(BaseModel):
    """Conditions that an asset must all satisfy."""

    id: list[_Id] = Field(
        default=[], max_length=_MOST_IDS, description="Asset ids; any of them.", examples=[["a17"]]
    )
    collection: list[_Composed] = Field(default=[], description="Collection names; any of them.")
    taken_from: str | None = Field(
        default=None, description="ISO date or time, inclusive.", examples=["2024-05-01"]
    )
    taken_to: str | None = Field(
        default=None,
        description="ISO date or time, inclusive; a date means the whole day.",
        examples=["2024-06-30"],
    )
    camera: list[_Composed] = Field(
        default=[], description="Model, or make and model; any of them."
    )
    gps_box: str | None = Field(
        default=None, description="west,south,east,north", examples=["13.1,52.3,13.8,52.7"]
    )
    gps_near: str | None = Field(
        default=None, description="latitude,longitude,km", examples=["52.5,13.4,10"]
    )
    min_width: _Pixels | None = None
    max_width: _Pixels | None = None
    min_height: _Pixels | None = None
    max_height: _Pixels | None = None
    orientation: Orientation | None = None
    tag: list[_Composed] = Field(default=[], description="Tags; all of them.")
    not_tag: list[_Composed] = Field(default=[], description="Tags; none of them.")
    min_rating: _Rating | None = None
    max_rating: _Rating | None = None
    min_duration: _Seconds | None = None
    max_duration: _Seconds | None = None
    lens: list[_Composed] = Field(default=[], description="Lenses; any of them.")
    format: list[_Format] = Field(
        default=[], description="File formats; any of them.", examples=[["JPEG"]]
    )
    country: list[_Name] = Field(
        default=[],
        description="English names or ISO codes; any of them.",
        examples=[["Germany", "FR"]],
    )
    city: list[_Composed] = Field(default=[], description="Cities; any of them.")
    album: list[_Composed] = Field(default=[], description="Album names; any of them.")
    stack: list[_Id] = Field(
        default=[],
        max_length=_MOST_IDS,
        description="Ids of assets: those of their stacks, which are then not folded.",
        examples=[["a17"]],
    )
    external_id: list[_Name] = Field(default=[], description="External ids; any of them.")
    path_prefix: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="ROOT/folder, or an absolute path for callers with the scope admin.",
        examples=["photos/2024"],
    )


class JsonFilters(FilterModel):
    """Filters in JSON; custom fields are an object."""

    model_config = ConfigDict(extra="forbid")

    custom: dict[str, CustomValue] = Field(default={}, examples=[{"shoot": "harbour"}])

    @model_validator(mode="after")
    def _few_enough(self) -> JsonFilters:
        if len(self.custom) > 50:
            raise ValueError("more than 50 custom fields")
        return self


_Query = TypeVar("_Query", bound=JsonFilters)


class QueryString(Generic[_Query]):
    """Reads the fields of a filter model from a query string.

    FastAPI's own parsing of sixteen parameters would take as long as a search of the catalog.
    """

    def __init__(self, model: type[_Query]) -> None:
        """Pass `documented` as `openapi_extra` of the operations that use it."""
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        properties: dict[str, Any] = {**schema["properties"]}
        # In a query string each custom field is its own parameter, `custom.NAME`.
        del properties["custom"]
        self._model = model
        self._names = frozenset(properties)
        self._many = frozenset(
            name for name, property in properties.items() if property.get("type") == "array"
        )
        self.documented: dict[str, Any] = {
            "parameters": [
                {
                    "name": name,
                    "in": "query",
                    "required": name in schema.get("required", ()),
                    "schema": property,
                    "description": property.get("description", ""),
                }
                for name, property in properties.items()
            ]
        }

    def read(self, request: Request) -> _Query:
        """Parse a request's parameters. `custom.NAME=value` is parsed as a number or boolean if
        possible.

        Raises a validation error that names the parameter.
        """
        given = request.query_params
        values: dict[str, Any] = {
            name: given.getlist(name) if name in self._many else given[name]
            for name in self._names.intersection(given)
        }
        values["custom"] = {
            name.removeprefix(_CUSTOM): _plain_value(value)
            for name, value in given.multi_items()
            if name.startswith(_CUSTOM)
        }
        try:
            return self._model.model_validate(values)
        except ValidationError as error:
            raise invalid_values(error, "query", values) from None


_FILTERS = QueryString(JsonFilters)
TAKES_FILTERS: dict[str, Any] = _FILTERS.documented


async def query_filters(request: Request) -> JsonFilters:
    """The filters of a query string; see `QueryString.read`."""
    return _FILTERS.read(request)


def asset_filter(
    filters: JsonFilters, caller: Caller, roots: Mapping[str, bytes], known: Collection[str] | None
) -> AssetFilter:
    """The filter, limited to what the caller may see.

    `known` are the named collections that exist; None skips that check. Raises NotFound for an
    unknown collection, root or id, and UsageError for invalid values.
    """
    return AssetFilter(
        ids=tuple(sorted({read_identifier(id, "a") for id in filters.id})),
        collections=_collections(filters.collection, caller, known),
        taken_from=_moment("taken_from", filters.taken_from, time.min),
        taken_to=_moment("taken_to", filters.taken_to, time.max),
        cameras=tuple(filters.camera),
        gps_box=None
        if filters.gps_box is None
        else GpsBox(*_numbers("gps_box", filters.gps_box, 4)),
        gps_near=None
        if filters.gps_near is None
        else GpsCircle(*_numbers("gps_near", filters.gps_near, 3)),
        min_width=filters.min_width,
        max_width=filters.max_width,
        min_height=filters.min_height,
        max_height=filters.max_height,
        orientation=filters.orientation,
        tags=tuple(filters.tag),
        without_tags=tuple(filters.not_tag),
        custom=tuple(sorted(filters.custom.items())),
        min_rating=filters.min_rating,
        max_rating=filters.max_rating,
        min_duration=filters.min_duration,
        max_duration=filters.max_duration,
        lenses=tuple(filters.lens),
        formats=tuple(filters.format),
        countries=tuple(map(_country, filters.country)),
        cities=tuple(filters.city),
        stacks=tuple(sorted({read_identifier(id, "a") for id in filters.stack})),
        external_ids=tuple(sorted(set(filters.external_id))),
        path_prefixes=_prefixes(filters.path_prefix, caller, roots),
    )


def _country(name: str) -> str:
    code = country_code(name)
    if code is None:
        raise UsageError(
            f"no country is named {name!r}", remedy="give its English name or its ISO code"
        )
    return code


def _collections(
    named: Sequence[str], caller: Caller, known: Collection[str] | None
) -> tuple[str, ...] | None:
    visible = caller.collections
    if not named:
        return None if visible is None else tuple(sorted(visible))
    for name in named:
        if (visible is not None and name not in visible) or (
            known is not None and name not in known
        ):
            raise NotFound(f"no collection is named {name}", remedy="see the list of collections")
    return tuple(sorted(set(named)))


def _prefixes(prefix: str | None, caller: Caller, roots: Mapping[str, bytes]) -> tuple[bytes, ...]:
    if prefix is None:
        return ()
    if "\0" in prefix:
        raise UsageError("path_prefix is not a path")
    if is_absolute(prefix):
        if not caller.scope.covers(AccessScope.ADMIN):
            raise UsageError(
                "the path starts with a slash or s3://",
                remedy="start it with the name of a root",
            )
        return (absolute_path(prefix),)
    name, _, rest = prefix.partition("/")
    if name not in roots:
        raise NotFound(f"no root is named {name}", remedy="see the roots in /v1/info")
    folder = path_below(roots[name], rest)
    if folder is None:
        raise UsageError("path_prefix leads outside its root")
    return (folder,)


def path_filter(text: str, caller: Caller, roots: Mapping[str, bytes]) -> AssetFilter:
    """The filter for `path:` in a query: consecutive folders, for non-administrators below the
    roots.

    A text that starts with a root's name also matches the `path` that lists show. Raises
    UsageError for an absolute path that the caller may not use.
    """
    if is_absolute(text):
        return AssetFilter(path_prefixes=_prefixes(text, caller, roots))
    name, _, rest = text.partition("/")
    named = path_below(roots[name], rest) if name in roots else None
    at = () if named is None else (named,)
    sees_all = caller.scope.covers(AccessScope.ADMIN)
    below = None if sees_all else tuple(roots.values())
    return AssetFilter(path_parts=(PathPart(os.fsencode(text), below, at),))


def _moment(name: str, text: str | None, edge: time) -> datetime | None:
    if text is None:
        return None
    try:
        if len(text) == 10:
            return datetime.combine(date.fromisoformat(text), edge)
        # The stored time is local to where the photograph was taken.
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        raise UsageError(
            f"{name} is not a date", remedy="write it as 2024-05-01 or 2024-05-01T12:30:00"
        ) from None


def _numbers(name: str, text: str, count: int) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(abs(number) < 1e6 for number in numbers):
        raise UsageError(f"{name} needs {count} numbers separated by commas")
    return numbers


def _plain_value(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_plain = isinstance(value, str | bool) or (
        isinstance(value, int | float) and abs(value) < 1e18
    )
    return value if is_plain else text
