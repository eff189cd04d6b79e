"""From a search request to what the engine is asked: its query, its filter, and what it says of itself.

What does not exist for the caller can neither be searched with nor filtered by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from regard.api.http.dependencies import make_filter
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
from regard.photos.decoding import decode_bytes
from regard.search.answers import ImageQuery, LikeQuery, Query, Term, TextQuery
from regard.search.identifiers import Reference, parse_identifier
from regard.search.language.describing import describe_query
from regard.search.language.meaning import as_query, meant_filter, meant_terms, within
from regard.search.language.parsing import parse_query
from regard.search.language.syntax import (
    MAX_PICTURE_TERMS,
    MAX_TERMS,
    NEGATIVE_WEIGHT,
    WEIGHT,
    WrittenPicture,
    WrittenQuery,
)

_ALONE = "image"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the engine is asked, and what the answer says of the query besides."""

    query: Query
    filter: AssetFilter
    said: dict[str, Any]


def read_search(
    wanted: SearchRequest,
    filters: JsonFilters,
    pictures: Sequence[bytes],
    service: Service,
    caller: Caller,
) -> Asked:
    """What a request asks; raises UsageError, MalformedQuery, NotFound, DecodeError."""
    written = WrittenQuery() if wanted.query is None else parse_query(wanted.query)
    terms = _Pictures(pictures, service).terms_of(wanted, written)
    if len(terms) > MAX_TERMS:
        raise invalid_field("body", f"there are more than {MAX_TERMS} terms")
    if sum(isinstance(term.query, ImageQuery) for term in terms) > MAX_PICTURE_TERMS:
        raise invalid_field("body", f"there are more than {MAX_PICTURE_TERMS} pictures and boxes")
    for term in terms:
        if isinstance(term.query, LikeQuery):
            require_visible(service, caller, term.query.reference)
    chosen = make_filter(service, caller, filters)
    by_query = meant_filter(written, lambda text: path_filter(text, caller, service.options.roots))
    _require_collections(service, caller, by_query.named_collections)
    said = {} if wanted.query is None else describe_query(written, wanted.query)
    return Asked(as_query(terms), within(chosen, by_query), said)


def require_visible(service: Service, caller: Caller, reference: Reference) -> None:
    """Raise NotFound for what does not exist for the caller."""
    if reference.is_region:
        service.assets.region(reference.id, visible=caller.collections)
    else:
        asset = service.assets.get(reference.id, visible=caller.collections)
        if asset.content_id is None:
            raise NotFound(f"the photograph a{reference.id} could not be used, nor searched with")
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


class _Pictures:
    """The pictures of a request, decoded when a term names them."""

    def __init__(self, sent: Sequence[bytes], service: Service) -> None:
        self._sent = sent
        self._limits = service.limits
        self._decoded: dict[int, Image] = {}

    def terms_of(self, wanted: SearchRequest, written: WrittenQuery) -> list[Term]:
        """All terms: of the query, of the fields, of the list, and what is not wanted last."""
        weights = wanted.weights
        terms = meant_terms(written, self._named)
        of_list = [self._term(number, term) for number, term in enumerate(wanted.terms)]
        if wanted.text is not None:
            terms.append(Term(TextQuery(wanted.text), weight=weights.text))
        if self._sent and not self._decoded:
            if len(self._sent) > 1:
                raise invalid_field("body.image", "several pictures need terms that name them")
            picture = ImageQuery(self._image(1), _ALONE, _box(wanted.box))
            terms.append(Term(picture, weight=weights.image))
        elif wanted.box is not None:
            raise invalid_field("body.box", "a box needs a picture that no term names")
        if len(self._decoded) < len(self._sent):
            raise invalid_field("body.image", "a picture is named by no term")
        if wanted.like is not None:
            terms.append(Term(LikeQuery(parse_identifier(wanted.like)), weight=weights.like))
        terms += of_list
        if not terms and not written.conditions:
            if wanted.query is not None:
                raise UnanswerableQuery("the query is empty", remedy="say what to look for")
            raise invalid_field(
                "body", "give a query, a text, a picture or something like which to look"
            )
        if wanted.negative_text is not None:
            negative = TextQuery(wanted.negative_text)
            terms.append(Term(negative, weight=weights.negative_text, negative=True))
        return terms

    def _term(self, number: int, term: TermRequest) -> Term:
        usual = NEGATIVE_WEIGHT if term.negative else WEIGHT
        weight = usual if term.weight is None else term.weight
        if term.text is not None:
            return Term(TextQuery(term.text), weight, term.negative)
        if term.like is not None:
            return Term(LikeQuery(parse_identifier(term.like)), weight, term.negative)
        assert term.image is not None
        if term.image > len(self._sent):
            raise invalid_field(f"body.terms.{number}.image", self._too_few())
        picture = ImageQuery(self._image(term.image), str(term.image), _box(term.box))
        return Term(picture, weight, term.negative)

    def _named(self, written: WrittenPicture) -> ImageQuery:
        """A picture that the query names by its number; raises UsageError."""
        name = written.name
        number = int(name) if name.isascii() and name.isdigit() and len(name) < 3 else 0
        if not 1 <= number <= len(self._sent):
            raise UsageError(
                f"there is no picture {name[:40]!r}: {self._too_few()}",
                remedy="name the pictures of the request by their numbers, from 1",
            )
        return ImageQuery(self._image(number), str(number), written.box)

    def _too_few(self) -> str:
        return f"the request has {len(self._sent) or 'no'} pictures"

    def _image(self, number: int) -> Image:
        if number not in self._decoded:
            self._decoded[number] = decode_bytes(self._sent[number - 1], self._limits)
        return self._decoded[number]


def _box(sides: Sides | None) -> Box | None:
    if sides is None:
        return None
    box = Box(*sides)
    if not box.area:
        raise UsageError("the box is empty", remedy="give it a width and a height")
    return box
