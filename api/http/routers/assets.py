"""`/v1/assets`: lists, single assets, edits and trash; see also `uploads` and `files`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field, JsonValue
from starlette.responses import Response

from regard.api import schemas
from regard.api.http import documents
from regard.api.http.cursors import bad_cursor, read_cursor, write_cursor
from regard.api.http.dependencies import (
    PAGE,
    Administrator,
    Cursor,
    Filters,
    PageLimit,
    Reader,
    RequestBody,
    Use,
    Writer,
    facet_names,
    make_filter,
)
from regard.api.http.documents import read_identifier
from regard.api.http.filters import TAKES_FILTERS
from regard.api.http.problems import named, responses
from regard.api.http.search_requests import FACETS_HINT
from regard.api.http.storable import Storable, StorableText
from regard.core.assets import Asset, AssetEdit, AssetOrder, AssetState
from regard.core.errors import NameTaken, NotFound, UsageError

router = APIRouter(prefix="/v1", tags=["assets"])

Tag = Annotated[StorableText, Field(min_length=1, max_length=200)]
FieldName = Annotated[str, Field(min_length=1, max_length=200)]
Custom = Annotated[dict[FieldName, JsonValue], Field(max_length=100), Storable]
Stars = Annotated[
    int | None,
    Field(ge=0, le=5, description="Stars; 0 or null for none.", examples=[4]),
]
_BULK = 1000


class AssetPatch(RequestBody):
    """The fields to change; omitted fields keep their values."""

    title: StorableText | None = Field(default=None, max_length=2000, examples=["Harbour at dawn"])
    tags: list[Tag] = Field(default=[], max_length=500, examples=[["harbour", "dawn"]])
    custom: Custom | None = Field(default=None, examples=[{"shoot": "harbour", "approved": True}])
    external_id: StorableText | None = Field(default=None, min_length=1, max_length=500)
    rating: Stars = None


class BulkRequest(RequestBody):
    """One action on many assets; it changes all of them or none."""

    ids: list[str] = Field(min_length=1, max_length=_BULK, examples=[["a17", "a18"]])
    action: Literal["tag", "untag", "rate", "delete", "restore", "stack", "unstack", "restack"]
    tags: list[Tag] = Field(default=[], max_length=500, examples=[["harbour"]])
    rating: Stars = None


class TrashRequest(RequestBody):
    """The collection whose trash to empty. Default: all collections."""

    collection: StorableText | None = Field(default=None, examples=["holiday"])


_State = Annotated[
    Literal["live", "indexed", "pending", "failed", "trashed"],
    Query(description="`live`: all except trashed assets."),
]


_FoldStacks = Annotated[
    bool,
    Query(
        description="Leaves out assets for which another one of their stack stands, "
        "if that matches too."
    ),
]


@router.get(
    "/assets",
    response_model=schemas.AssetList,
    response_model_exclude_unset=True,
    responses=responses("not-found"),
    openapi_extra=TAKES_FILTERS,
)
def list_assets(
    service: Use,
    caller: Reader,
    filters: Filters,
    state: _State = "live",
    sort: AssetOrder = AssetOrder.NEWEST,
    cursor: Cursor = None,
    offset: Annotated[
        int, Query(ge=0, le=1 << 40, description="Number of assets to leave out at the start.")
    ] = 0,
    limit: PageLimit = PAGE,
    through: Annotated[
        str | None,
        Query(max_length=40, description="Leaves out assets that were added after this one."),
    ] = None,
    facets: Annotated[
        str | None,
        Query(
            max_length=100,
            description=FACETS_HINT,
        ),
    ] = None,
    fold_stacks: _FoldStacks = False,
) -> dict[str, Any]:
    """List the assets that match the filters."""
    chosen = make_filter(service, caller, filters)
    counted = facet_names(facets)
    within = _within(state)
    after = None
    if cursor is not None:
        dated, number = read_cursor(cursor, f"assets{sort}", [str, int])
        try:
            after = datetime.fromisoformat(dated), number
        except ValueError:
            raise bad_cursor() from None
    found = service.assets.page(
        chosen,
        visible=caller.collections,
        state=within,
        order=sort,
        after=after,
        through=None if through is None else read_identifier(through, "a"),
        offset=offset,
        limit=limit + 1,
        folded=fold_stacks,
    )
    make = service.documents(caller)
    page: dict[str, Any] = {
        "items": [make.asset(asset) for asset in found[:limit]],
        "next": _next(found[limit - 1], sort) if len(found) > limit else None,
    }
    if counted:
        page["facets"] = documents.facets(
            service.assets.facets(
                chosen, counted, visible=caller.collections, state=within, folded=fold_stacks
            )
        )
    return page


@router.get(
    "/assets/months",
    response_model=schemas.AssetMonths,
    responses=responses("not-found"),
    openapi_extra=TAKES_FILTERS,
)
def count_months(
    service: Use,
    caller: Reader,
    filters: Filters,
    state: _State = "live",
    fold_stacks: _FoldStacks = False,
) -> dict[str, Any]:
    """Count the assets that match the filters by month.

    The counts before a month are the `offset` at which it starts in `/v1/assets`.
    """
    counted = service.assets.months(
        make_filter(service, caller, filters),
        visible=caller.collections,
        state=_within(state),
        folded=fold_stacks,
    )
    return {
        "months": [{"month": month.value, "count": month.count} for month in counted.months],
        "total": sum(month.count for month in counted.months),
        "through": None if counted.newest is None else f"a{counted.newest}",
    }


@router.get(
    "/assets/places",
    response_model=schemas.AssetPlaces,
    responses=responses("not-found"),
    openapi_extra=TAKES_FILTERS,
)
def count_places(
    service: Use,
    caller: Reader,
    filters: Filters,
    state: _State = "live",
    cell: Annotated[
        float, Query(ge=1e-6, le=90, description="The width and height of a cell in degrees.")
    ] = 1.0,
    limit: Annotated[int, Query(ge=1, le=1000, description="The number of cells.")] = 500,
    fold_stacks: _FoldStacks = False,
) -> dict[str, Any]:
    """Count the assets that match the filters by place, in the cells of a grid."""
    counted = service.assets.places(
        make_filter(service, caller, filters),
        cell_degrees=cell,
        limit=limit,
        visible=caller.collections,
        state=_within(state),
        folded=fold_stacks,
    )
    make = service.documents(caller)
    return {"places": [make.place(cell) for cell in counted.cells], "total": counted.total}


@router.get(
    "/assets/{id}", response_model=schemas.AssetDetailDocument, responses=responses("not-found")
)
def get_asset(id: str, service: Use, caller: Reader) -> dict[str, Any]:
    """Get an asset with its regions, captions and facts."""
    detail = service.assets.detail(read_identifier(id, "a"), visible=caller.collections)
    return service.documents(caller).detail(detail)


@router.patch(
    "/assets/{id}",
    response_model=schemas.AssetDetailDocument,
    responses=responses("not-found", "external-id-taken"),
)
def edit_asset(id: str, patch: AssetPatch, service: Use, caller: Writer) -> dict[str, Any]:
    """Change the title, tags, rating, custom fields or external id of an asset."""
    number = read_identifier(id, "a")
    edit = AssetEdit(
        frozenset(patch.model_fields_set),
        title=patch.title,
        tags=tuple(dict.fromkeys(patch.tags)),
        custom=patch.custom,
        external_id=patch.external_id,
        rating=patch.rating or 0,
    )
    with named(NameTaken, "external-id-taken", caller):
        service.editing.edit(number, edit, visible=caller.collections)
    detail = service.assets.detail(number, visible=caller.collections)
    return service.documents(caller).detail(detail)


@router.post(
    "/assets/bulk",
    response_model=schemas.BulkAnswer,
    responses=responses("not-found", "conflict"),
)
def change_many(request: BulkRequest, service: Use, caller: Writer) -> dict[str, Any]:
    """Tag, untag, rate, delete or restore many assets, put them into one stack, take them out
    of theirs, or leave that to the rules. If one does not exist, none is changed."""
    numbers = {read_identifier(id, "a") for id in request.ids}
    if request.action in {"tag", "untag"} and not request.tags:
        raise UsageError(f"the action {request.action} needs tags")
    if request.action == "rate" and "rating" not in request.model_fields_set:
        raise UsageError("the action rate needs a rating")
    editing, visible = service.editing, caller.collections
    match request.action:
        case "tag":
            editing.tag(numbers, add=request.tags, visible=visible)
        case "untag":
            editing.tag(numbers, remove=request.tags, visible=visible)
        case "rate":
            editing.rate(numbers, request.rating or 0, visible=visible)
        case "delete":
            editing.trash(numbers, visible=visible)
        case "restore":
            editing.restore(numbers, visible=visible)
            service.analyse_restored(numbers)
        case "stack":
            return {"done": editing.stack(numbers, visible=visible)}
        case "unstack":
            return {"done": editing.unstack(numbers, visible=visible)}
        case "restack":
            return {"done": editing.restack(numbers, visible=visible)}
    return {"done": len(numbers)}


@router.delete("/assets/{id}", status_code=204, responses=responses("not-found"))
def delete_asset(id: str, service: Use, caller: Writer) -> Response:
    """Move an asset to the trash. Files are not changed."""
    service.editing.trash([read_identifier(id, "a")], visible=caller.collections)
    return Response(status_code=204)


@router.post(
    "/assets/{id}/restore",
    response_model=schemas.AssetDocument,
    responses=responses("not-found"),
)
def restore_asset(id: str, service: Use, caller: Writer) -> dict[str, Any]:
    """Restore an asset from the trash."""
    number = read_identifier(id, "a")
    service.editing.restore([number], visible=caller.collections)
    service.analyse_restored([number])
    asset = service.assets.get(number, visible=caller.collections)
    return service.documents(caller).asset(asset)


@router.post("/trash/empty", response_model=schemas.PurgeAnswer, responses=responses("not-found"))
def empty_trash(request: TrashRequest, service: Use, caller: Administrator) -> dict[str, Any]:
    """Permanently delete trashed assets, many of them in jobs.

    Only managed files that no asset needs are deleted.
    """
    scopes: list[int | None] = [None]
    if request.collection is not None:
        if not caller.may_see(request.collection):
            raise NotFound(
                f"no collection is named {request.collection}", remedy="see the list of collections"
            )
        scopes = [service.collections.named(request.collection).id]
    elif caller.collections is not None:
        seen = service.collections.page(visible=caller.collections, limit=len(caller.collections))
        scopes = [collection.id for collection in seen]
    purged, jobs = 0, []
    for scope in scopes:
        portion = service.purging.purge_some(scope)
        purged += portion.assets
        if portion.has_more:
            jobs.append(service.documents(caller).job(service.jobs.add_purge(scope)))
            service.wake_worker()
    return {"purged": purged, "jobs": jobs}


def _within(state: str) -> AssetState | None:
    return None if state == "live" else AssetState(state)


def _next(last: Asset, sort: AssetOrder) -> str:
    return write_cursor(f"assets{sort}", last.dated_at.isoformat(), last.id)
