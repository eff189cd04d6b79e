"""`/v1/changes`: the log of assets."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from regard.api import schemas
from regard.api.http import documents
from regard.api.http.dependencies import MAX_PAGE, PageLimit, Reader, Use
from regard.api.http.problems import responses
from regard.api.http.storable import is_storable

router = APIRouter(prefix="/v1", tags=["changes"])


@router.get("/changes", response_model=schemas.ChangeList, responses=responses())
def list_changes(
    service: Use,
    caller: Reader,
    since: Annotated[
        int, Query(ge=0, lt=1 << 62, description="`next` of the previous answer.")
    ] = 0,
    limit: PageLimit = MAX_PAGE,
    collection: Annotated[
        list[str], Query(description="Names of collections. Default: all that the caller may see.")
    ] = [],  # noqa: B006 - FastAPI copies it
) -> dict[str, Any]:
    """List what was added, changed and removed since a position, in order."""
    visible = caller.collections
    if collection:
        visible = tuple(filter(is_storable, filter(caller.may_see, collection)))
    changes, position, more = service.collections.changes(since, visible=visible, limit=limit)
    return {
        "changes": [documents.change(change) for change in changes],
        "next": position,
        "more": more,
    }
