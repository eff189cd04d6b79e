"""`/v1/search`, and the search for assets or regions similar to a stored one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Annotated, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json
from starlette.responses import Response

from regard.api import schemas
from regard.api.http.cursors import bad_cursor, read_cursor, write_cursor
from regard.api.http.dependencies import Cursor, Filters, Reader, Use, facet_names, make_filter
from regard.api.http.documents import facets as facet_documents
from regard.api.http.documents import read_identifier, region_urls
from regard.api.http.filters import TAKES_FILTERS, JsonFilters, QueryString
from regard.api.http.forms import FormError, FormLimits, FormShape, in_memory, read_form
from regard.api.http.problems import invalid_field, invalid_values, responses
from regard.api.http.search_requests import (
    HITS,
    MAX_HITS,
    SEARCH_BODY,
    QuerySearch,
    SearchRequest,
)
from regard.api.http.search_terms import SearchPlan, plan_search, require_visible
from regard.api.http.service import Service
from regard.api.library.answers import answer_of
from regard.core.keys import Caller
from regard.core.records import Target
from regard.photos.rendering import outline_path
from regard.search.answers import LikeQuery, ListQuery, Order, Reference, Scope
from regard.search.language.syntax import MAX_PICTURE_TERMS

router = APIRouter(prefix="/v1", tags=["search"])

# The deepest page; a page costs as much as all pages before it.
_DEEPEST = 10_000
_JSON_BYTES = 1 << 20
_HEADER_BYTES = 1 << 17
_QUERY_FORM = FormShape(files=frozenset({"image"}), single=frozenset({"query"}))
_QUERY_STRING = QueryString(QuerySearch)

Limit = Annotated[int, Query(ge=1, le=MAX_HITS)]
_Model = TypeVar("_Model", bound=BaseModel)

_POSSIBLE = responses("not-found", "unanswerable-query", "malformed-query", "engine-unavailable")


@router.get(
    "/search",
    response_model=schemas.SearchAnswer,
    responses=_POSSIBLE,
    openapi_extra=_QUERY_STRING.documented,
)
async def search_by_query(request: Request, caller: Reader) -> Response:
    """Search by a query in the query language."""

    def find(service: Service) -> Response:
        wanted = _QUERY_STRING.read(request)
        plan = plan_search(wanted.to_request(), wanted, [], service, caller)
        return _answer_to(wanted, service, caller, plan, facet_names(wanted.facets))

    return await _in_turn(request, caller, find)


@router.post(
    "/search",
    response_model=schemas.SearchAnswer,
    responses={
        **responses(
            "not-found",
            "unanswerable-query",
            "malformed-query",
            "engine-unavailable",
            "bad-request",
            "too-large",
            "unsupported-media",
            "unusable-image",
        )
    },
    openapi_extra=SEARCH_BODY,
)
async def search_by_anything(request: Request, service: Use, caller: Reader) -> Response:
    """Search by a query, by a list of terms, or by both; terms may name pictures sent along."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        wanted = _read(SearchRequest, await request.body())
        pictures: list[bytes] = []
    elif kind == "multipart/form-data":
        wanted, pictures = await _read_form(request, service)
    else:
        raise FormError(
            "unsupported-media",
            "the body must be application/json, or multipart/form-data with pictures; "
            "name which in the header Content-Type",
        )

    def find(service: Service) -> Response:
        plan = plan_search(wanted, wanted.filters, pictures, service, caller)
        return _answer_to(wanted, service, caller, plan, list(dict.fromkeys(wanted.facets)))

    return await _in_turn(request, caller, find)


@router.get(
    "/assets/{id}/similar",
    response_model=schemas.SearchAnswer,
    responses=_POSSIBLE,
    openapi_extra=TAKES_FILTERS,
)
async def search_like_asset(
    id: str,
    request: Request,
    caller: Reader,
    filters: Filters,
    target: Target = Target.IMAGE,
    limit: Limit = HITS,
    cursor: Cursor = None,
) -> Response:
    """Find what looks like an asset."""
    reference = Reference(read_identifier(id, "a"), is_region=False)
    return await _similar(reference, request, caller, filters, target, limit, cursor)


@router.get(
    "/regions/{id}/similar",
    response_model=schemas.SearchAnswer,
    responses=_POSSIBLE,
    tags=["regions"],
    openapi_extra=TAKES_FILTERS,
)
async def search_like_region(
    id: str,
    request: Request,
    caller: Reader,
    filters: Filters,
    target: Target = Target.REGION,
    limit: Limit = HITS,
    cursor: Cursor = None,
) -> Response:
    """Find what looks like a region."""
    reference = Reference(read_identifier(id, "r"), is_region=True)
    return await _similar(reference, request, caller, filters, target, limit, cursor)


async def _similar(
    reference: Reference,
    request: Request,
    caller: Caller,
    filters: JsonFilters,
    target: Target,
    limit: int,
    cursor: str | None,
) -> Response:
    def find(service: Service) -> Response:
        require_visible(service, caller, reference)
        plan = SearchPlan(LikeQuery(reference), make_filter(service, caller, filters), {})
        return _answer(service, caller, plan, target, limit, cursor, [])

    return await _in_turn(request, caller, find)


async def _in_turn(
    request: Request, caller: Caller, find: Callable[[Service], Response]
) -> Response:
    """What `find` answers by the models that are live when it is the caller's turn."""
    service: Service = request.app.state.service
    threads = service.searching_threads(caller)
    return await to_thread.run_sync(lambda: find(service.at_one_moment()), limiter=threads)


async def _read_form(request: Request, service: Service) -> tuple[SearchRequest, list[bytes]]:
    largest = service.options.upload_bytes
    limits = FormLimits(
        file_bytes=largest,
        files=MAX_PICTURE_TERMS,
        fields=1,
        field_bytes=_JSON_BYTES,
        # Pictures are kept in memory: together they may be as large as one upload.
        total_bytes=largest + _JSON_BYTES + _HEADER_BYTES,
    )
    async with read_form(request, files=in_memory, shape=_QUERY_FORM, limits=limits) as form:
        if not form.files:
            raise invalid_field("body.image", "no picture is given")
        text = form.value("query")
        wanted = SearchRequest() if text is None else _read(SearchRequest, text.encode())
        return wanted, [file.sink.read() for file in form.files]


def _answer_to(
    wanted: QuerySearch | SearchRequest,
    service: Service,
    caller: Caller,
    plan: SearchPlan,
    facets: list[str],
) -> Response:
    return _answer(
        service,
        caller,
        plan,
        wanted.target,
        wanted.limit,
        wanted.cursor,
        facets,
        wanted.min_relevance,
        wanted.exact,
        wanted.refine,
        wanted.sort,
        wanted.fold_stacks,
    )


def _answer(
    service: Service,
    caller: Caller,
    plan: SearchPlan,
    target: Target,
    limit: int,
    cursor: str | None,
    facets: list[str],
    min_relevance: float | None = None,
    exact: bool = False,
    refine: bool = False,
    sort: Order = Order.RELEVANCE,
    fold_stacks: bool | None = None,
) -> Response:
    offset = 0 if cursor is None else read_cursor(cursor, f"hits-{target}", [int])[0]
    if not 0 <= offset <= _DEEPEST:
        raise bad_cursor()
    # One hit more than requested tells whether there is another page.
    refined = offset + limit if refine else 0
    scope = Scope(
        *(target, limit + 1, plan.filter, offset, min_relevance, exact, refined, sort),
        fold_stacks=fold_stacks,
    )
    answer = service.engine.search(plan.query, scope)
    found = answer_of(answer, plan.description)
    make = service.documents(caller)
    hits = []
    for hit, shown in zip(answer.hits[:limit], found.hits, strict=False):
        document = shown.to_json(make.asset(hit.asset))
        if hit.region is not None:
            document["region"]["urls"] = region_urls(hit.region.id, hit.asset)
        if hit.refined is not None:
            document["refined"]["outline"] = outline_path(hit.refined.mask)
        hits.append(document)
    more = len(answer.hits) > limit and offset + limit <= _DEEPEST
    document = {
        "query": dict(found.query),
        "took_ms": round(found.took_ms, 1),
        "matched": found.matched,
        "relevance_source": found.relevance_source,
    }
    if found.unknown_words:
        document["unknown_words"] = found.unknown_words
    document["hits"] = hits
    document["next"] = write_cursor(f"hits-{target}", offset + limit) if more else None
    if facets:
        folded = scope.folds(is_list=isinstance(plan.query, ListQuery))
        counted = service.assets.facets(
            plan.filter, facets, visible=caller.collections, folded=folded
        )
        document["facets"] = facet_documents(counted)
    return Response(to_json(document), media_type="application/json")


def _read(model: type[_Model], text: bytes) -> _Model:
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        given = None
        with contextlib.suppress(ValueError):
            given = from_json(text)
        raise invalid_values(error, "body", given) from None
