"""Duplicates: copies, edited copies, bursts, and the same thing in different photographs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from regard.api.client.connection import Call, Connection, pages, pairs
from regard.api.schemas import BulkAnswer, DuplicateGroupDocument, DuplicateList

DuplicateKindName = Literal["exact", "edited", "burst", "object"]

# The server works on it in between; asking more often gains nothing.
_AGAIN_SECONDS = 0.2


class Duplicates:
    """`/v1/duplicates`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(
        self,
        kind: Sequence[DuplicateKindName] = (),
        *,
        collection: Sequence[str] = (),
        limit: int | None = None,
        cursor: str | None = None,
    ) -> DuplicateList:
        """One page of groups; while `waiting`, asking again compares more."""
        query = pairs(kind=list(kind), collection=list(collection), limit=limit, cursor=cursor)
        return self._connection.get(DuplicateList, "/v1/duplicates", query)

    def merge(self, keep: str, discard: Sequence[str]) -> int:
        """Move assets to the trash, and give `keep` their tags, albums and best rating.

        All or none; returns how many were moved.
        """
        document = {"keep": keep, "discard": list(discard)}
        return self._post("merge", document)

    def mark_distinct(self, assets: Sequence[str], *, distinct: bool = True) -> int:
        """Remember that no two of these are duplicates, or forget it; returns the pairs."""
        return self._post("distinct", {"ids": list(assets), "distinct": distinct})

    def _post(self, action: str, document: dict[str, Any]) -> int:
        call = Call("POST", f"/v1/duplicates/{action}", json=document)
        return self._connection.read(BulkAnswer, call).done

    def iterate(
        self,
        kind: Sequence[DuplicateKindName] = (),
        *,
        collection: Sequence[str] = (),
        page: int | None = None,
    ) -> Iterator[DuplicateGroupDocument]:
        """All groups, once all photographs with readable files are compared; `page` at a time."""
        while self.list(kind, collection=collection, limit=1).waiting:
            time.sleep(_AGAIN_SECONDS)
        return pages(
            lambda cursor: self.list(kind, collection=collection, limit=page, cursor=cursor),
            lambda found: found.groups,
        )
