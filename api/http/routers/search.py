"""`/v1/search`, and what looks like an asset or a region."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from starlette.responses import Response

from regard.api.http import schemas
from regard.api.http.cursors import read_cursor, write_cursor
from regard.api.http.dependencies import Cursor, Filters, Reader, Use, make_filter
from regard.api.http.documents import read_identifier, region_urls
from regard.api.http.filters import TAKES_FILTERS, JsonFilters, QueryString
from regard.api.http.form_parts import FormLimits, FormShape
from regard.api.http.multipart import in_memory, read_form
from regard.api.http.problems import responses
from regard.api.http.service import Service
from regard.core.assets import AssetState
from regard.core.decoding import decode_bytes
from regard.core.errors import NotFound, UnanswerableQuery, UsageError
from regard.core.filters import AssetFilter
from regard.core.geometry import Box
from regard.core.keys import Caller
from regard.core.records import Image, Target
from regard.search.answers import ComposedQuery, ImageQuery, LikeQuery, Scope, Term, TextQuery
from regard.search.answers import Query as SearchQuery
from regard.search.identifiers import Reference, parse_identifier
from regard.storage.asset_reading import FACETS

router = APIRouter(prefix="/v1", tags=["search"])

HITS = 20
MAX_HITS = 500
# How deep paging goes; an answer costs as much as all before it.
_DEEPEST = 10_000
_MAX_TEXT = 2000
_JSON_BYTES = 1 << 20
_MAX_SIDE = 1 << 30
_NEGATIVE_WEIGHT = 0.5
_QUERY_FORM = FormShape(files=frozenset({"image"}), single=frozenset({"query"}))

Limit = Annotated[int, Query(ge=1, le=MAX_HITS)]
Facet = Literal["camera", "month", "tags", "collection"]
Text = Annotated[str, Field(min_length=1, max_length=_MAX_TEXT)]
Weight = Annotated[float, Field(gt=0, le=100)]
Side = Annotated[int, Field(ge=0, le=_MAX_SIDE)]
_Model = TypeVar("_Model", bound=BaseModel)


class Weights(BaseModel):
    """How much each term counts."""

    model_config = ConfigDict(extra="forbid")

    text: Weight = 1.0
    negative_text: Weight = _NEGATIVE_WEIGHT
    image: Weight = 1.0
    like: Weight = 1.0


class SearchRequest(BaseModel):
    """What to look for: a text, a picture (in multipart), something stored, or several of these."""

    model_config = ConfigDict(extra="forbid")

    text: Text | None = Field(default=None, examples=["a red bus"])
    negative_text: Text | None = Field(default=None, examples=["night"])
    like: str | None = Field(default=None, max_length=40, examples=["r92"])
    box: tuple[Side, Side, Side, Side] | None = Field(
        default=None, description="x, y, width, height in pixels of the picture that is sent."
    )
    weights: Weights = Weights()
    target: Target = Target.IMAGE
    filters: JsonFilters = JsonFilters()
    limit: int = Field(default=HITS, ge=1, le=MAX_HITS)
    cursor: str | None = Field(default=None, max_length=2000)
    facets: list[Facet] = []


class TextSearch(JsonFilters):
    """The parameters of `GET /v1/search`."""

    q: Text = Field(examples=["a red bus"])
    without: Text | None = Field(default=None, alias="not", description="What it is not.")
    target: Target = Target.IMAGE
    limit: int = Field(default=HITS, ge=1, le=MAX_HITS)
    cursor: str | None = Field(
        default=None, max_length=2000, description="`next` of the page before."
    )
    facets: str | None = Field(
        default=None,
        max_length=100,
        description="camera,month,tags,collection: which of them to count.",
    )


_TEXT_SEARCH = QueryString(TextSearch)
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/SearchRequest"},
                "examples": {
                    "text": {"value": {"text": "a red bus", "negative_text": "night"}},
                    "like": {"value": {"like": "r92", "target": "region"}},
                },
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "string", "format": "binary"},
                        "query": {
                            "type": "string",
                            "description": "The JSON body, SearchRequest, as text.",
                        },
                    },
                }
            },
        },
    }
}
_POSSIBLE = responses("not-found", "unanswerable-query")


@router.get(
    "/search",
    response_model=schemas.SearchAnswer,
    responses=_POSSIBLE,
    openapi_extra=_TEXT_SEARCH.documented,
)
def search_by_text(request: Request, caller: Reader) -> Response:
    """Find by text."""
    service: Service = request.app.state.service
    asked = _TEXT_SEARCH.read(request)
    wanted = [] if not asked.facets else asked.facets.split(",")
    for name in wanted:
        if name not in FACETS:
            raise UsageError(f"there is no facet {name!r}", remedy=f"choose of {', '.join(FACETS)}")
    terms = SearchRequest(text=asked.q, negative_text=asked.without)
    query = _query(terms, None, service, caller)
    chosen = make_filter(service, caller, asked)
    return _answer(service, caller, query, chosen, asked.target, asked.limit, asked.cursor, wanted)


@router.post(
    "/search",
    response_model=schemas.SearchAnswer,
    responses={
        **responses(
            "not-found",
            "unanswerable-query",
            "bad-request",
            "too-large",
            "unsupported-media",
            "unusable-image",
        )
    },
    openapi_extra=_BODY,
)
async def search_by_anything(request: Request, service: Use, caller: Reader) -> Response:
    """Find by text, by a picture or a box of it, by something stored, or by several of these."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        wanted, picture = _read(SearchRequest, await request.body()), None
        if wanted.box is not None:
            raise _invalid("body.box", "a box needs a picture, sent as multipart/form-data")
    else:
        wanted, picture = await _read_form(request, service)

    def find() -> Response:
        image = None if picture is None else decode_bytes(picture, service.limits)
        query = _query(wanted, image, service, caller)
        chosen = make_filter(service, caller, wanted.filters)
        return _answer(
            service,
            caller,
            query,
            chosen,
            wanted.target,
            wanted.limit,
            wanted.cursor,
            list(dict.fromkeys(wanted.facets)),
        )

    return await to_thread.run_sync(find)


@router.get(
    "/assets/{id}/similar",
    response_model=schemas.SearchAnswer,
    responses=_POSSIBLE,
    openapi_extra=TAKES_FILTERS,
)
def search_like_asset(
    id: str,
    service: Use,
    caller: Reader,
    filters: Filters,
    target: Target = Target.IMAGE,
    limit: Limit = HITS,
    cursor: Cursor = None,
) -> Response:
    """Find what looks like an asset."""
    reference = Reference(read_identifier(id, "a"), is_region=False)
    _require_visible(service, caller, reference)
    chosen = make_filter(service, caller, filters)
    return _answer(service, caller, LikeQuery(reference), chosen, target, limit, cursor, [])


@router.get(
    "/regions/{id}/similar",
    response_model=schemas.SearchAnswer,
    responses=_POSSIBLE,
    tags=["regions"],
    openapi_extra=TAKES_FILTERS,
)
def search_like_region(
    id: str,
    service: Use,
    caller: Reader,
    filters: Filters,
    target: Target = Target.REGION,
    limit: Limit = HITS,
    cursor: Cursor = None,
) -> Response:
    """Find what looks like a region."""
    reference = Reference(read_identifier(id, "r"), is_region=True)
    _require_visible(service, caller, reference)
    chosen = make_filter(service, caller, filters)
    return _answer(service, caller, LikeQuery(reference), chosen, target, limit, cursor, [])


async def _read_form(request: Request, service: Service) -> tuple[SearchRequest, bytes]:
    limits = FormLimits(
        file_bytes=service.options.upload_bytes, files=1, fields=1, field_bytes=_JSON_BYTES
    )
    async with read_form(request, files=in_memory, shape=_QUERY_FORM, limits=limits) as form:
        if not form.files:
            raise _invalid("body.image", "no picture is given")
        text = form.value("query")
        wanted = SearchRequest() if text is None else _read(SearchRequest, text.encode())
        return wanted, form.files[0].sink.read()


def _query(
    wanted: SearchRequest, image: Image | None, service: Service, caller: Caller
) -> SearchQuery:
    """The query, plain where there is one term; raises UsageError, NotFound."""
    terms: list[Term] = []
    weights = wanted.weights
    if wanted.text is not None:
        terms.append(Term(TextQuery(wanted.text), weight=weights.text, negative=False))
    if image is not None:
        box = None if wanted.box is None else Box(*wanted.box)
        if box is not None and not box.area:
            raise UsageError("the box is empty", remedy="give it a width and a height")
        terms.append(Term(ImageQuery(image, "image", box), weight=weights.image, negative=False))
    if wanted.like is not None:
        reference = parse_identifier(wanted.like)
        _require_visible(service, caller, reference)
        terms.append(Term(LikeQuery(reference), weight=weights.like, negative=False))
    if not terms:
        raise _invalid("body", "give a text, a picture or something like which to look")
    if wanted.negative_text is not None:
        terms.append(
            Term(TextQuery(wanted.negative_text), weight=weights.negative_text, negative=True)
        )
    return terms[0].query if len(terms) == 1 else ComposedQuery(tuple(terms))


def _require_visible(service: Service, caller: Caller, reference: Reference) -> None:
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


def _answer(
    service: Service,
    caller: Caller,
    query: SearchQuery,
    chosen: AssetFilter,
    target: Target,
    limit: int,
    cursor: str | None,
    facets: list[str],
) -> Response:
    offset = 0 if cursor is None else read_cursor(cursor, f"hits-{target}", [int])[0]
    if not 0 <= offset <= _DEEPEST:
        raise UsageError("the cursor is not one of this list", remedy="leave it out to begin anew")
    # One more than wanted tells whether there are more.
    answer = service.engine.search(query, Scope(target, limit + 1, chosen, offset))
    shown = answer.hits[:limit]
    make = service.documents(caller)
    document = answer.to_json()
    hits = []
    for hit, found in zip(shown, document["hits"], strict=False):
        asset = hit.asset.record
        assert asset is not None, "the service's engine searches a catalog with records"
        found["asset"] = make.asset(asset)
        if hit.region is not None:
            found["region"]["urls"] = region_urls(hit.region.id, asset)
        hits.append(found)
    more = len(answer.hits) > limit and offset + limit <= _DEEPEST
    document["hits"] = hits
    document["next"] = write_cursor(f"hits-{target}", offset + limit) if more else None
    if facets:
        counted = service.assets.facets(chosen, facets, visible=caller.collections)
        document["facets"] = {
            name: [{"value": item.value, "count": item.count} for item in values]
            for name, values in counted.items()
        }
    return Response(to_json(document), media_type="application/json")


def _read(model: type[_Model], text: bytes) -> _Model:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise RequestValidationError(
            [{**item, "loc": ("body", *item["loc"])} for item in error.errors()]
        ) from None


def _invalid(where: str, message: str) -> RequestValidationError:
    return RequestValidationError(
        [{"loc": tuple(where.split(".")), "msg": message, "type": "value_error"}]
    )
