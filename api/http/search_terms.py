"""Turns a search request into a plan for the engine, within what the caller may see.

Assets, regions and collections that the caller may not see count as missing, in terms and in
filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from regard.api.http.dependencies import album_filters, make_filter
from regard.api.http.filters import JsonFilters, path_filter
from regard.api.http.problems import invalid_field
from regard.api.http.search_requests import SearchRequest, Sides, TermRequest
from regard.api.http.service import Service
from regard.core.assets import AssetState
from regard.core.errors import NotFound, UnanswerableQuery, UsageError
from regard.core.filters import AssetFilter
from regard.core.geometry import Box
from regard.core.keys import Caller
from regard.core.records import Image
from regard.photos.photo_file import PhotoFile
from regard.search.answers import (
    ImageQuery,
    LikeQuery,
    PlainQuery,
    Query,
    Reference,
    Term,
    TextQuery,
    parse_identifier,
)
from regard.search.language.parsing import parse_query
from regard.search.language.planning import compose_query, intersect, read_filter, read_terms
from regard.search.language.printing import describe_query
from regard.search.language.syntax import (
    MAX_PICTURE_TERMS,
    MAX_TERMS,
    NEGATIVE_WEIGHT,
    WEIGHT,
    WrittenPicture,
    WrittenQuery,
)


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """A query and a filter for the engine, and what the answer adds to its account of the
    query."""

    query: Query
    filter: AssetFilter
    description: dict[str, Any]


def plan_search(
    request: SearchRequest,
    filters: JsonFilters,
    pictures: Sequence[bytes],
    service: Service,
    caller: Caller,
) -> SearchPlan:
    """Plan a search; raises UsageError, MalformedQuery, NotFound, DecodeError."""
    written = WrittenQuery() if request.query is None else parse_query(request.query)
    terms = _terms(request, written, _Pictures(pictures, service))
    for term in terms:
        if isinstance(term.query, LikeQuery):
            require_visible(service, caller, term.query.reference)
    request_filter = make_filter(service, caller, filters)
    query_filter = read_filter(
        written,
        lambda text: path_filter(text, caller, service.options.roots),
        album_filters(service, caller, request_filter),
    )
    _require_collections(service, caller, query_filter.named_collections)
    description = {} if request.query is None else describe_query(written, request.query)
    return SearchPlan(compose_query(terms), intersect(request_filter, query_filter), description)


def require_visible(service: Service, caller: Caller, reference: Reference) -> None:
    """Raise NotFound for an asset or region that does not exist for the caller."""
    if reference.is_region:
        service.assets.region(reference.id, visible=caller.collections)
    else:
        asset = service.assets.get(reference.id, visible=caller.collections)
        if asset.content_id is None:
            raise NotFound(f"the photograph a{reference.id} could not be read or searched with")
        if asset.state is AssetState.PENDING:
            raise UnanswerableQuery(
                f"the photograph a{reference.id} is not indexed yet", remedy="try again later"
            )


def _require_collections(service: Service, caller: Caller, names: Sequence[str]) -> None:
    visible = caller.collections
    missing = service.collections.missing(names) if names and visible is None else set()
    for name in names:
        if name in missing or (visible is not None and name not in visible):
            raise NotFound(f"no collection is named {name}", remedy="see the list of them")


def _terms(request: SearchRequest, written: WrittenQuery, pictures: _Pictures) -> list[Term]:
    """The terms of the query, then those of the list; raises for too many, and for unused
    pictures."""
    terms = read_terms(written, pictures.named)
    for number, term in enumerate(request.terms):
        weight = term.weight
        if weight is None:
            weight = NEGATIVE_WEIGHT if term.negative else WEIGHT
        terms.append(Term(_term_query(number, term, pictures), weight, term.negative))
    if pictures.are_left:
        raise invalid_field("body.image", "a picture is not named by any term")
    if not terms and not written.conditions:
        if request.query is not None:
            raise UnanswerableQuery("the query is empty", remedy="say what to look for")
        raise invalid_field("body", "give a query or terms")
    if len(terms) > MAX_TERMS:
        raise invalid_field("body", f"there are more than {MAX_TERMS} terms")
    if sum(isinstance(term.query, ImageQuery) for term in terms) > MAX_PICTURE_TERMS:
        raise invalid_field("body", f"there are more than {MAX_PICTURE_TERMS} pictures and boxes")
    return terms


def _term_query(number: int, term: TermRequest, pictures: _Pictures) -> PlainQuery:
    if term.text is not None:
        return TextQuery(term.text)
    if term.like is not None:
        return LikeQuery(parse_identifier(term.like))
    assert term.image is not None
    if term.image > pictures.count:
        raise invalid_field(f"body.terms.{number}.image", pictures.too_few)
    return pictures.query(term.image, _box(term.box))


class _Pictures:
    """The pictures of a request, each decoded when the first term names it."""

    def __init__(self, encoded: Sequence[bytes], service: Service) -> None:
        self._encoded = encoded
        self._limits = service.limits
        self._decoded: dict[int, Image] = {}

    @property
    def count(self) -> int:
        return len(self._encoded)

    @property
    def are_left(self) -> bool:
        """Whether no term has named one of them."""
        return len(self._decoded) < self.count

    @property
    def too_few(self) -> str:
        return f"the request has {self.count or 'no'} pictures"

    def query(self, number: int, box: Box | None) -> ImageQuery:
        """A picture, or a box of it, by its number from 1; raises DecodeError."""
        if number not in self._decoded:
            self._decoded[number] = PhotoFile(self._encoded[number - 1], self._limits).decode()
        return ImageQuery(self._decoded[number], str(number), box)

    def named(self, written: WrittenPicture) -> ImageQuery:
        """A picture that the query names by its number; raises UsageError, DecodeError."""
        name = written.name
        number = int(name) if name.isascii() and name.isdigit() and len(name) < 3 else 0
        if not 1 <= number <= self.count:
            raise UsageError(
                f"there is no picture {name[:40]!r}: {self.too_few}",
                remedy="name the pictures of the request by their numbers, from 1",
            )
        return self.query(number, written.box)


def _box(sides: Sides | None) -> Box | None:
    if sides is None:
        return None
    box = Box(*sides)
    if not box.area:
        raise UsageError("the box is empty", remedy="give it a width and a height")
    return box
