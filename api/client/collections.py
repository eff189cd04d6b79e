"""Collections."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from urllib.parse import quote

from regard.api.client.connection import Call, Connection, pages, pairs
from regard.api.schemas import CollectionDocument, CollectionList


class Collections:
    """`/v1/collections`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, name: str, *, idempotency_key: str | None = None) -> CollectionDocument:
        """Create an empty collection; raises ServerProblem `name-taken`."""
        call = Call(
            "POST",
            "/v1/collections",
            json={"name": name},
            idempotency_key=idempotency_key or new_key(),
        )
        return self._connection.read(CollectionDocument, call)

    def list(self, *, cursor: str | None = None, limit: int | None = None) -> CollectionList:
        """One page, by name."""
        query = pairs(cursor=cursor, limit=limit)
        return self._connection.get(CollectionList, "/v1/collections", query)

    def iterate(self) -> Iterator[CollectionDocument]:
        """All collections, by name."""
        return pages(lambda cursor: self.list(cursor=cursor), lambda page: page.items)

    def get(self, id: str) -> CollectionDocument:
        """One collection; raises ServerProblem `not-found`."""
        return self._connection.get(CollectionDocument, path_of(id))

    def delete(self, id: str, *, with_assets: bool = False) -> None:
        """Delete a collection for good, with `with_assets` including its assets.

        Raises ServerProblem `collection-not-empty`.
        """
        query = pairs(with_assets=True) if with_assets else []
        self._connection.send(Call("DELETE", path_of(id), query))


def path_of(id: str) -> str:
    """The path of a collection."""
    return f"/v1/collections/{quote(id, safe='')}"


def new_key() -> str:
    """A unique Idempotency-Key."""
    return str(uuid.uuid4())
