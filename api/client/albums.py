"""Albums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from regard.api.client.connection import Call, Connection, pages, pairs
from regard.api.schemas import AlbumDocument, AlbumList, BulkAnswer


class Albums:
    """`/v1/albums`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, name: str, query: str | None = None) -> AlbumDocument:
        """Create an empty album or, with a query, a saved search.

        Raises ServerProblem `name-taken` or `malformed-query`.
        """
        document = {"name": name} if query is None else {"name": name, "query": query}
        return self._connection.read(AlbumDocument, Call("POST", "/v1/albums", json=document))

    def list(self, *, cursor: str | None = None, limit: int | None = None) -> AlbumList:
        """One page, by name."""
        query = pairs(cursor=cursor, limit=limit)
        return self._connection.get(AlbumList, "/v1/albums", query)

    def iterate(self) -> Iterator[AlbumDocument]:
        """All albums, by name."""
        return pages(lambda cursor: self.list(cursor=cursor), lambda page: page.items)

    def get(self, id: str) -> AlbumDocument:
        """One album; raises ServerProblem `not-found`."""
        return self._connection.get(AlbumDocument, _path(id))

    def edit(self, id: str, *, name: str | None = None, query: str | None = None) -> AlbumDocument:
        """Rename an album, or change the query of a saved search."""
        given = {"name": name, "query": query}
        document = {key: value for key, value in given.items() if value is not None}
        return self._connection.read(AlbumDocument, Call("PATCH", _path(id), json=document))

    def delete(self, id: str) -> None:
        """Delete an album, and none of its photographs."""
        self._connection.send(Call("DELETE", _path(id)))

    def change(self, id: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> int:
        """Add assets and take others out, all of them or none; returns how many joined or left."""
        document = {"add": list(add), "remove": list(remove)}
        call = Call("POST", f"{_path(id)}/assets", json=document)
        return self._connection.read(BulkAnswer, call).done


def _path(id: str) -> str:
    return f"/v1/albums/{quote(id, safe='')}"
