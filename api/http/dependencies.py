"""FastAPI dependencies of the handlers: the service, the caller, paging and filters, and the base
class of bodies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict

from regard.api.http.access import Requires
from regard.api.http.filters import JsonFilters, asset_filter, path_filter, query_filters
from regard.api.http.service import Service
from regard.api.http.storable import is_storable
from regard.api.library.albums import AlbumFilters
from regard.core.errors import UsageError
from regard.core.filters import AssetFilter
from regard.core.keys import AccessScope, Caller
from regard.search.language.planning import intersect
from regard.storage.assets.facets import FACETS

PAGE = 100
MAX_PAGE = 1000
_FREE_PREFIX = "custom."


class RequestBody(BaseModel):
    """A body in JSON, without other fields and values of other types, such as "5" for 5."""

    model_config = ConfigDict(extra="forbid", strict=True)


async def service_of(request: Request) -> Service:
    """The application's service, with the same models during the whole request."""
    service: Service = request.app.state.service
    return service.at_one_moment()


Use = Annotated[Service, Depends(service_of)]


Reader = Annotated[Caller, Depends(Requires(AccessScope.READ))]
Writer = Annotated[Caller, Depends(Requires(AccessScope.WRITE))]
Administrator = Annotated[Caller, Depends(Requires(AccessScope.ADMIN))]
Cursor = Annotated[str | None, Query(max_length=2000, description="`next` of the previous page.")]
PageLimit = Annotated[int, Query(ge=1, le=MAX_PAGE)]


async def only_known_parameters(request: Request) -> None:
    """Raise a validation error for query parameters that the operation does not declare."""
    if not request.url.query:
        return
    route = request.scope["route"]
    known = {parameter.alias for parameter in _query_parameters(route.dependant)}
    filters = (route.openapi_extra or {}).get("parameters", ())
    known.update(parameter["name"] for parameter in filters)
    unknown = [
        name
        for name in request.query_params
        if name not in known and not (filters and name.startswith(_FREE_PREFIX))
    ]
    if unknown:
        raise RequestValidationError(
            [
                {
                    "loc": ("query", name),
                    "msg": "the operation has no such parameter",
                    "type": "unknown",
                }
                for name in unknown
            ]
        )


def _query_parameters(dependant: Dependant) -> Iterator[ModelField]:
    yield from dependant.query_params
    for inner in dependant.dependencies:
        yield from _query_parameters(inner)


def facet_names(text: str | None) -> list[str]:
    """Parse a comma-separated list of facets; raises UsageError for unknown ones."""
    wanted = list(dict.fromkeys(text.split(","))) if text else []
    for name in wanted:
        if name not in FACETS:
            raise UsageError(
                f"there is no facet {name!r}", remedy=f"choose from {', '.join(FACETS)}"
            )
    return wanted


def make_filter(service: Service, caller: Caller, filters: JsonFilters) -> AssetFilter:
    """The filter, limited to what the caller may see; raises NotFound, UsageError."""
    known = None
    if filters.collection and caller.collections is None:
        # No collection can have a name that databases reject.
        storable = [name for name in filters.collection if is_storable(name)]
        known = set(storable) - service.collections.missing(storable)
    chosen = asset_filter(filters, caller, service.options.roots, known)
    if not filters.album:
        return chosen
    albums = album_filters(service, caller, chosen)
    return intersect(chosen, AssetFilter(any_of=tuple(map(albums, filters.album))))


def album_filters(service: Service, caller: Caller, within: AssetFilter) -> AlbumFilters:
    """What the names of albums stand for to the caller."""
    return AlbumFilters(
        service.albums,
        lambda: service.engine,
        lambda text: path_filter(text, caller, service.options.roots),
        within,
        caller.collections,
    )


Filters = Annotated[JsonFilters, Depends(query_filters)]
