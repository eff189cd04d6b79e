"""Collections."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from urllib.parse import quote

from regard.api.client.connection import Call, Connection, pages, pairs
from regard.api.http.schemas import CollectionDocument, CollectionList


class Collections:
    """`/v1/collections`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, name: str, *, idempotency_key: str | None = None) -> CollectionDocument:
        """Make an empty collection; raises ServerProblem `name-taken`."""
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
        """All of them, by name."""
        return pages(lambda cursor: self.list(cursor=cursor), lambda page: page.items)

    def get(self, id: str) -> CollectionDocument:
        """One collection; raises ServerProblem `not-found`."""
        return self._connection.get(CollectionDocument, path_of(id))

    def delete(self, id: str, *, with_assets: bool = False) -> None:
        """Forget a collection, and with `with_assets` what it holds, for good.

        Raises ServerProblem `collection-not-empty`.
        """
        query = pairs(with_assets=True) if with_assets else []
        self._connection.send(Call("DELETE", path_of(id), query))


def path_of(id: str) -> str:
    """Where a collection is."""
    return f"/v1/collections/{quote(id, safe='')}"


def new_key() -> str:
    """An Idempotency-Key that nobody else has."""
    return str(uuid.uuid4())
