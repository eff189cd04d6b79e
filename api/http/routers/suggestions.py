"""`/v1/suggestions`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from regard.api import schemas
from regard.api.http.dependencies import Reader, Use
from regard.api.http.problems import responses
from regard.api.library.queries import MAX_SUGGESTIONS
from regard.api.library.suggesting import Suggestions
from regard.search.language.syntax import MAX_LENGTH

router = APIRouter(prefix="/v1", tags=["search"])


@router.get("/suggestions", response_model=schemas.SuggestionList, responses=responses())
def suggest(
    service: Use,
    caller: Reader,
    q: Annotated[
        str, Query(max_length=MAX_LENGTH, description="The query, up to what is typed last.")
    ],
    limit: Annotated[int, Query(ge=1, le=MAX_SUGGESTIONS)] = 10,
) -> dict[str, Any]:
    """Suggest tags, albums, places, cameras and lenses that complete a query."""
    suggestions = Suggestions(service.library.catalog, caller.collections).read(q, limit)
    return {"items": [asdict(one) for one in suggestions]}
