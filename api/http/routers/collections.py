"""`/v1/collections`."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from regard.api import schemas
from regard.api.http import documents
from regard.api.http.cursors import read_cursor, write_cursor
from regard.api.http.dependencies import (
    PAGE,
    Administrator,
    Cursor,
    PageLimit,
    Reader,
    RequestBody,
    Use,
    Writer,
)
from regard.api.http.documents import read_identifier
from regard.api.http.idempotency import IdempotencyKey, answer_once
from regard.api.http.problems import Problem, named, responses
from regard.api.http.storable import StorableText
from regard.api.library.queries import require_name
from regard.core.errors import Conflict

router = APIRouter(prefix="/v1", tags=["collections"])


_ATTEMPTS = 20


class NewCollection(RequestBody):
    """The name of the new collection."""

    name: StorableText = Field(min_length=1, max_length=200, examples=["holiday"])


@router.post(
    "/collections",
    status_code=201,
    response_model=schemas.CollectionDocument,
    responses=responses("name-taken", "idempotency-key-reused", "conflict"),
)
def create_collection(
    new: NewCollection, service: Use, caller: Writer, key: IdempotencyKey = None
) -> Response:
    """Create an empty collection."""
    if caller.is_bound:
        raise Problem(
            "scope-missing", "a key that is bound to collections can't create collections"
        )
    require_name(new.name)
    digest = hashlib.sha256(f"POST /v1/collections {new.name}".encode()).hexdigest()

    def work() -> tuple[int, dict[str, Any]]:
        return 201, documents.collection(service.collections.create(new.name))

    return answer_once(service, caller, key, digest, work)


@router.get("/collections", response_model=schemas.CollectionList, responses=responses())
def list_collections(
    service: Use, caller: Reader, cursor: Cursor = None, limit: PageLimit = PAGE
) -> dict[str, Any]:
    """List the collections by name."""
    after = None if cursor is None else read_cursor(cursor, "collections", [str])[0]
    found = service.collections.page(visible=caller.collections, after=after, limit=limit + 1)
    more = write_cursor("collections", found[limit - 1].name) if len(found) > limit else None
    return {"items": [documents.collection(item) for item in found[:limit]], "next": more}


@router.get(
    "/collections/{id}",
    response_model=schemas.CollectionDocument,
    responses=responses("not-found"),
)
def get_collection(id: str, service: Use, caller: Reader) -> dict[str, Any]:
    """Get a collection."""
    number = read_identifier(id, "c")
    return documents.collection(service.collections.get(number, visible=caller.collections))


@router.delete(
    "/collections/{id}",
    status_code=204,
    responses=responses("not-found", "collection-not-empty"),
)
def delete_collection(
    id: str,
    service: Use,
    caller: Administrator,
    with_assets: Annotated[
        bool,
        Query(description="Permanently delete its assets too. Only managed files are deleted."),
    ] = False,
) -> Response:
    """Delete a collection."""
    number = read_identifier(id, "c")
    name = service.collections.get(number, visible=caller.collections).name
    if with_assets:
        service.cancel_jobs(name)
    with named(Conflict, "collection-not-empty", caller):
        for left in reversed(range(_ATTEMPTS if with_assets else 1)):
            if with_assets:
                service.purging.purge(number, trashed_only=False)
            try:
                service.collections.delete(number)
                break
            except Conflict:
                # One of its jobs is still writing its last batch.
                if not left:
                    raise
    return Response(status_code=204)
