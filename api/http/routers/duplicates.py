"""`/v1/duplicates`: copies, bursts, and photographs of the same object."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query
from pydantic import Field
from pydantic_core import to_json
from starlette.responses import Response

from regard.api import schemas
from regard.api.http.cursors import bad_cursor, read_cursor, write_cursor
from regard.api.http.dependencies import Cursor, Reader, RequestBody, Use, Writer, make_filter
from regard.api.http.documents import Documents, read_identifier
from regard.api.http.filters import JsonFilters
from regard.api.http.problems import responses
from regard.api.http.service import Service
from regard.core.duplicates import DuplicateGroup, DuplicateKind, Place
from regard.core.keys import Caller
from regard.search.answers import asset_identifier, region_identifier
from regard.storage.assets.review import MOST_DISTINCT

router = APIRouter(prefix="/v1", tags=["duplicates"])

GROUPS = 20
MAX_GROUPS = 200
_BULK = 1000
_CURSOR = "duplicates"
# Listed in this order, the most certain kinds first.
_KINDS = tuple(DuplicateKind)
_DEFAULT_KINDS = (DuplicateKind.EXACT, DuplicateKind.EDITED, DuplicateKind.BURST)


@router.get(
    "/duplicates",
    response_model=schemas.DuplicateList,
    responses=responses("not-found", "conflict"),
)
async def list_duplicates(
    service: Use,
    caller: Reader,
    kind: Annotated[
        list[DuplicateKind] | None,
        Query(description="Kinds to list. Default: all except object.", max_length=8),
    ] = None,
    collection: Annotated[
        list[Annotated[str, Query(min_length=1, max_length=500)]] | None,
        Query(description="Collection names; any of them."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_GROUPS)] = GROUPS,
    cursor: Cursor = None,
) -> Response:
    """List groups of duplicates and which photograph of each to keep. Nothing is deleted.

    While `waiting` is true, a job compares photographs that are new: repeat the call.
    """
    wanted = [known for known in _KINDS if known in (kind or _DEFAULT_KINDS)]
    after = None if cursor is None else _read_place(cursor, wanted)
    work = partial(_answer, service, caller, wanted, collection or [], after, limit)
    return await to_thread.run_sync(work, limiter=service.grouping_threads)


class Merging(RequestBody):
    """The asset to keep, and those to move to the trash."""

    keep: str = Field(examples=["a17"])
    discard: list[str] = Field(min_length=1, max_length=_BULK, examples=[["a18", "a19"]])


class Distinction(RequestBody):
    """Assets: no two are duplicates, or with `distinct` false they may be again."""

    ids: list[str] = Field(min_length=2, max_length=MOST_DISTINCT, examples=[["a17", "a18"]])
    distinct: bool = True


@router.post(
    "/duplicates/merge",
    response_model=schemas.BulkAnswer,
    responses=responses("not-found", "conflict"),
)
def merge_duplicates(request: Merging, service: Use, caller: Writer) -> dict[str, Any]:
    """Move assets to the trash, and give one their tags, albums and best rating.

    All or none; `done` counts those that were moved.
    """
    discard = {read_identifier(id, "a") for id in request.discard}
    keep = read_identifier(request.keep, "a")
    return {"done": service.review.merge(keep, discard, visible=caller.collections)}


@router.post(
    "/duplicates/distinct", response_model=schemas.BulkAnswer, responses=responses("not-found")
)
def mark_distinct(request: Distinction, service: Use, caller: Writer) -> dict[str, Any]:
    """Remember that no two of these assets are duplicates, or forget it; `done` counts pairs."""
    numbers = {read_identifier(id, "a") for id in request.ids}
    work = service.review.mark_distinct
    return {"done": work(numbers, distinct=request.distinct, visible=caller.collections)}


def _answer(
    service: Service,
    caller: Caller,
    kinds: list[DuplicateKind],
    collections: list[str],
    after: tuple[DuplicateKind, Place] | None,
    limit: int,
) -> Response:
    chosen = make_filter(service, caller, JsonFilters(collection=collections))
    page = service.duplicates.page(service.library, kinds, chosen, after, limit)
    make = service.documents(caller)
    document = {
        "groups": [_group(group, make) for group in page.groups],
        "complete": page.complete,
        "waiting": page.waiting,
        "left_out": page.left_out,
        "next": None if page.next is None else _write_place(*page.next),
    }
    return Response(to_json(document), media_type="application/json")


def _group(group: DuplicateGroup, make: Documents) -> dict[str, Any]:
    """See `regard.api.schemas.DuplicateGroupDocument`."""
    return {
        "kind": group.kind.value,
        "keeper": asset_identifier(group.members[group.keeper].asset.id),
        "reasons": list(group.reasons),
        "members": [
            {
                "asset": make.asset(member.asset),
                "similarity": member.similarity,
                "region": None if member.region is None else region_identifier(member.region),
            }
            for member in group.members
        ],
    }


def _write_place(kind: DuplicateKind, place: Place) -> str:
    return write_cursor(_CURSOR, kind.value, *place)


def _read_place(cursor: str, kinds: Sequence[DuplicateKind]) -> tuple[DuplicateKind, Place]:
    kind, number, ordinal = read_cursor(cursor, _CURSOR, [str, int, int])
    if kind not in {known.value for known in kinds} or number < 0 or ordinal < 0:
        raise bad_cursor()
    return DuplicateKind(kind), (number, ordinal)
