"""`/v1/albums`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from regard.api import schemas
from regard.api.http import documents
from regard.api.http.cursors import read_cursor, write_cursor
from regard.api.http.dependencies import PAGE, Cursor, PageLimit, Reader, RequestBody, Use, Writer
from regard.api.http.documents import read_identifier
from regard.api.http.filters import path_filter
from regard.api.http.problems import Problem, responses
from regard.api.http.service import Service
from regard.api.http.storable import StorableText
from regard.api.library.albums import require_saved
from regard.core.errors import UsageError
from regard.core.keys import Caller
from regard.core.words import composed
from regard.search.language.syntax import MAX_LENGTH

router = APIRouter(prefix="/v1", tags=["albums"])

_BULK = 1000


class NewAlbum(RequestBody):
    """An album or, with a query, a saved search."""

    name: StorableText = Field(min_length=1, max_length=200, examples=["Best of 2024"])
    query: StorableText | None = Field(
        default=None,
        min_length=1,
        json_schema_extra={"maxLength": MAX_LENGTH},
        description="In the query language, without pictures and albums.",
        examples=["rating:>=4 taken:2024"],
    )


class AlbumPatch(RequestBody):
    """What to change; what is not given stays."""

    name: StorableText | None = Field(default=None, min_length=1, max_length=200)
    query: StorableText | None = Field(
        default=None, min_length=1, json_schema_extra={"maxLength": MAX_LENGTH}
    )


class AlbumChange(RequestBody):
    """Assets to add to an album and to take out of it, all of them or none."""

    add: list[str] = Field(default=[], max_length=_BULK, examples=[["a17", "a18"]])
    remove: list[str] = Field(default=[], max_length=_BULK, examples=[["a19"]])


@router.post(
    "/albums",
    status_code=201,
    response_model=schemas.AlbumDocument,
    responses=responses("name-taken", "malformed-query"),
)
def create_album(new: NewAlbum, service: Use, caller: Writer) -> dict[str, Any]:
    """Create an empty album, or a saved search, which fills itself."""
    _require_unbound(caller)
    _require_query(new.query, service, caller)
    return documents.album(service.albums.create(_name(new.name), new.query))


@router.get("/albums", response_model=schemas.AlbumList, responses=responses())
def list_albums(
    service: Use, caller: Reader, cursor: Cursor = None, limit: PageLimit = PAGE
) -> dict[str, Any]:
    """List the albums by name."""
    after = None if cursor is None else read_cursor(cursor, "albums", [str])[0]
    found = service.albums.page(visible=caller.collections, after=after, limit=limit + 1)
    more = write_cursor("albums", found[limit - 1].name) if len(found) > limit else None
    return {"items": [documents.album(item) for item in found[:limit]], "next": more}


@router.get("/albums/{id}", response_model=schemas.AlbumDocument, responses=responses("not-found"))
def get_album(id: str, service: Use, caller: Reader) -> dict[str, Any]:
    """Get an album."""
    number = read_identifier(id, "b")
    return documents.album(service.albums.get(number, visible=caller.collections))


@router.patch(
    "/albums/{id}",
    response_model=schemas.AlbumDocument,
    responses=responses("not-found", "name-taken", "conflict", "malformed-query"),
)
def edit_album(id: str, patch: AlbumPatch, service: Use, caller: Writer) -> dict[str, Any]:
    """Rename an album, or change the query of a saved search."""
    _require_unbound(caller)
    _require_query(patch.query, service, caller)
    name = None if patch.name is None else _name(patch.name)
    return documents.album(
        service.albums.edit(read_identifier(id, "b"), name=name, query=patch.query)
    )


@router.delete("/albums/{id}", status_code=204, responses=responses("not-found"))
def delete_album(id: str, service: Use, caller: Writer) -> Response:
    """Delete an album, and none of its photographs."""
    _require_unbound(caller)
    service.albums.delete(read_identifier(id, "b"))
    return Response(status_code=204)


@router.post(
    "/albums/{id}/assets",
    response_model=schemas.BulkAnswer,
    responses=responses("not-found", "conflict"),
)
def change_album(id: str, change: AlbumChange, service: Use, caller: Writer) -> dict[str, Any]:
    """Add assets to an album and take others out; `done` counts those that joined or left."""
    joining, leaving = (
        {read_identifier(one, "a") for one in ids} for ids in (change.add, change.remove)
    )
    done = service.albums.change(
        read_identifier(id, "b"), add=joining, remove=leaving, visible=caller.collections
    )
    return {"done": done}


def _name(name: str) -> str:
    if not name.strip():
        raise UsageError("the album's name is empty", remedy="give it a name")
    return composed(name)


def _require_query(query: str | None, service: Service, caller: Caller) -> None:
    if query is not None:
        require_saved(query, lambda text: path_filter(text, caller, service.options.roots))


def _require_unbound(caller: Caller) -> None:
    if caller.is_bound:
        raise Problem(
            "scope-missing", "a key that is bound to collections can't create or change albums"
        )
