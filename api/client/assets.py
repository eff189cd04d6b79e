"""Assets: uploads, lists, edits, files, and the trash."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal
from urllib.parse import quote

from regard.api.client.collections import new_key
from regard.api.client.connection import Call, Connection, pages, pairs
from regard.api.client.filters import Filters, filter_query
from regard.api.client.forms import Source, form
from regard.api.client.searching import Facet
from regard.api.schemas import (
    AssetDetailDocument,
    AssetDocument,
    AssetList,
    AssetMonths,
    AssetPlaces,
    BulkAnswer,
    PurgeAnswer,
    SearchAnswer,
    UploadAnswer,
)

State = Literal["live", "indexed", "pending", "failed", "trashed"]
Sort = Literal["-date", "date", "-added", "added"]


class Keep(Enum):
    """Leaves a field as it is, where None would clear it."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


class Assets:
    """`/v1/assets`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def upload(
        self,
        *files: Source,
        collection: str | None = None,
        external_id: str | None = None,
        title: str | None = None,
        tags: Sequence[str] = (),
        rating: int | None = None,
        custom: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> UploadAnswer:
        """Upload photographs, streamed from disk; the answer describes each in order.

        `external_id` and `title` need a single file; `rating` is 1 to 5 stars, 0 for none. Raises
        OSError for a file that cannot be read. A single file that is refused raises ServerProblem
        `unusable-image` or `unsupported-media`; of several, the answer says which.
        """
        values = pairs(
            collection=collection,
            external_id=external_id,
            title=title,
            tag=list(tags),
            rating=rating,
        )
        if custom is not None:
            values.append(("custom", json.dumps(custom)))
        call = Call(
            "POST",
            "/v1/assets",
            parts=form("file", files, values),
            idempotency_key=idempotency_key or new_key(),
        )
        return self._connection.read(UploadAnswer, call)

    def list(
        self,
        filters: Filters | None = None,
        *,
        state: State | None = None,
        sort: Sort | None = None,
        cursor: str | None = None,
        offset: int | None = None,
        limit: int | None = None,
        through: str | None = None,
        facets: Sequence[Facet] = (),
        fold_stacks: bool = False,
    ) -> AssetList:
        """One page, by default of all assets outside the trash, newest first.

        It starts after `cursor` and leaves out the first `offset` assets, and all that were added
        after the asset `through`. `facets` count the photographs of each camera, month and so on,
        over all pages. With `fold_stacks`, here and in counts, each stack is there once.
        """
        query = pairs(state=state, sort=sort, cursor=cursor, offset=offset, limit=limit)
        query += pairs(through=through, fold_stacks=fold_stacks or None)
        query += pairs(facets=",".join(facets) or None)
        return self._connection.get(AssetList, "/v1/assets", query + filter_query(filters))

    def months(
        self,
        filters: Filters | None = None,
        *,
        state: State | None = None,
        fold_stacks: bool = False,
    ) -> AssetMonths:
        """The number of assets of each month, newest first; the counts before a month are the
        `offset` at which a list begins with it."""
        query = pairs(state=state, fold_stacks=fold_stacks or None) + filter_query(filters)
        return self._connection.get(AssetMonths, "/v1/assets/months", query)

    def places(
        self,
        filters: Filters | None = None,
        *,
        cell: float | None = None,
        limit: int | None = None,
        state: State | None = None,
        fold_stacks: bool = False,
    ) -> AssetPlaces:
        """The number of assets in each cell of a grid of `cell` degrees, the fullest first."""
        query = pairs(state=state, cell=cell, limit=limit, fold_stacks=fold_stacks or None)
        return self._connection.get(AssetPlaces, "/v1/assets/places", query + filter_query(filters))

    def iterate(
        self,
        filters: Filters | None = None,
        *,
        state: State | None = None,
        sort: Sort | None = None,
        page: int | None = None,
    ) -> Iterator[AssetDocument]:
        """All assets, read `page` at a time."""
        return pages(
            lambda cursor: self.list(filters, state=state, sort=sort, cursor=cursor, limit=page),
            lambda found: found.items,
        )

    def get(self, id: str) -> AssetDetailDocument:
        """One asset with regions, captions and facts; raises ServerProblem `not-found`."""
        return self._connection.get(AssetDetailDocument, _path(id))

    def patch(
        self,
        id: str,
        *,
        title: str | Keep | None = KEEP,
        tags: Sequence[str] | Keep = KEEP,
        custom: Mapping[str, Any] | Keep = KEEP,
        external_id: str | Keep | None = KEEP,
        rating: int | Keep | None = KEEP,
    ) -> AssetDetailDocument:
        """Change the given fields. `tags` replaces all; in `custom`, None deletes a field.

        `title` None restores the file's own title. `rating` is 1 to 5 stars, 0 or None for none.
        Raises ServerProblem `not-found`, `external-id-taken`.
        """
        given = {
            "title": title,
            "tags": tags if isinstance(tags, Keep) else list(tags),
            "custom": custom if isinstance(custom, Keep) else dict(custom),
            "external_id": external_id,
            "rating": rating,
        }
        change = {name: value for name, value in given.items() if value is not KEEP}
        call = Call("PATCH", _path(id), json=change, repeatable=True)
        return self._connection.read(AssetDetailDocument, call)

    def bulk(
        self,
        ids: Sequence[str],
        action: Literal["tag", "untag", "rate", "delete", "restore", "stack", "unstack", "restack"],
        *,
        tags: Sequence[str] = (),
        rating: int | None = None,
    ) -> BulkAnswer:
        """Change at most 1000 assets: all of them, or none when one does not exist.

        "stack" puts them, with what is in their stacks, into one; "unstack" takes them out;
        "restack" leaves them to the rules again.
        """
        document: dict[str, Any] = {"ids": list(ids), "action": action, "tags": list(tags)}
        if action == "rate":
            document["rating"] = rating
        call = Call("POST", "/v1/assets/bulk", json=document, repeatable=True)
        return self._connection.read(BulkAnswer, call)

    def delete(self, id: str) -> None:
        """Move an asset to the trash; raises ServerProblem `not-found`."""
        self._connection.send(Call("DELETE", _path(id)))

    def restore(self, id: str) -> AssetDocument:
        """Take an asset out of the trash; raises ServerProblem `not-found`."""
        call = Call("POST", f"{_path(id)}/restore", repeatable=True)
        return self._connection.read(AssetDocument, call)

    def original(self, id: str, to: str | os.PathLike[str] | BinaryIO) -> int:
        """Write the original file to a path or an open file; returns its size in bytes.

        An existing file is replaced once everything has arrived. Raises ServerProblem
        `original-gone`.
        """
        if not isinstance(to, str | os.PathLike):
            return self._download(id, to)
        path = Path(to)
        arriving = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        try:
            with open(arriving, "xb") as file:
                size = self._download(id, file)
            os.replace(arriving, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(arriving)
        return size

    def thumbnail(self, id: str, size: Literal[256, 512, 1024, 4096] = 256) -> bytes:
        """A WebP, its longer side at most `size` pixels."""
        return self._connection.content(f"{_path(id)}/thumbnail", pairs(size=size))

    def motion(self, id: str) -> bytes:
        """The MP4 video in a motion photo; one without is a ServerProblem `not-found`."""
        return self._connection.content(f"{_path(id)}/motion", [])

    def similar(
        self,
        id: str,
        filters: Filters | None = None,
        *,
        target: Literal["image", "region"] | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SearchAnswer:
        """Assets or regions that look like an asset."""
        query = pairs(target=target, limit=limit, cursor=cursor) + filter_query(filters)
        return self._connection.get(SearchAnswer, f"{_path(id)}/similar", query)

    def _download(self, id: str, file: BinaryIO) -> int:
        size = 0
        with self._connection.stream(
            Call("GET", f"{_path(id)}/original", repeatable=True)
        ) as answer:
            for chunk in answer.iter_bytes():
                file.write(chunk)
                size += len(chunk)
        return size


class Trash:
    """`/v1/trash`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def empty(self, collection: str | None = None) -> PurgeAnswer:
        """Delete what is in the trash for good; of files, only managed ones are deleted.

        Of many photographs, jobs delete the rest: `client.jobs.wait` waits for one.
        """
        document = {} if collection is None else {"collection": collection}
        call = Call("POST", "/v1/trash/empty", json=document, repeatable=True)
        return self._connection.read(PurgeAnswer, call)


def _path(id: str) -> str:
    return f"/v1/assets/{quote(id, safe='')}"
