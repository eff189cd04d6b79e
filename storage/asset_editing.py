"""What people do to assets: upload, edit, tag, trash, restore, purge; one transaction a call.

The writer's lease guards what models write; these changes are short and need none. Each is logged for
whoever keeps a copy. No file is touched here: `purge` says which originals nobody needs any more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, exists, insert, or_, select, update

from regard.core.assets import AssetEdit
from regard.core.catalog import ContentHeader, FileStamp
from regard.core.errors import NameTaken, NotFound
from regard.core.facts import PhotoFacts
from regard.core.uris import uri_of_path
from regard.storage import schema
from regard.storage.asset_filters import stored_field
from regard.storage.asset_reading import Visible
from regard.storage.asset_rows import (
    add_tags,
    dated_at,
    drop_orphans,
    ensure_collection,
    ensure_content,
    fact_columns,
    find_collection,
    utc_now,
    write_keywords,
)
from regard.storage.catalog import Catalog
from regard.storage.change_log import AssetEvent, record_changes
from regard.storage.pipelines import live_pipeline

_asset = schema.asset.c
_PURGED_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Upload:
    """A file in the managed store that is to become an asset."""

    stamp: FileStamp
    content: ContentHeader
    facts: PhotoFacts
    file_name: str
    external_id: str | None = None
    title: str | None = None
    tags: tuple[str, ...] = ()
    custom: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The asset, and whether it is new, was there, or came back from the trash."""

    asset: int
    status: str


@dataclass(frozen=True, slots=True)
class Purged:
    """How many assets were forgotten, and the SHA-256 of managed files that none of them needs any more.

    Ask `needs` again before such a file is deleted: the same bytes may have been uploaded since.
    """

    assets: int
    originals: tuple[str, ...]


class SqlAssetEditing:
    """Writes what people change; see the module."""

    def __init__(self, catalog: Catalog) -> None:
        """Prepare to write."""
        self._database = catalog.database

    def upload(self, collection: str, upload: Upload) -> Uploaded:
        """Make an asset of a file, or find the one that the collection has of the same bytes.

        One that lies in the trash comes back. The collection is made when it is new. Raises
        NameTaken when another asset has the external id.
        """
        with self._database.writing() as connection:
            # Two uploads of the same bytes at once would both find nothing.
            self._database.take_turns(connection)
            collection_id = ensure_collection(connection, collection)
            content_id = ensure_content(connection, upload.content)
            there = connection.execute(
                select(_asset.id, _asset.deleted_at, _asset.external_id)
                .where(_asset.collection_id == collection_id, _asset.content_id == content_id)
                .order_by(_asset.deleted_at.is_not(None), _asset.id)
                .limit(1)
            ).one_or_none()
            if there is not None:
                return self._upload_again(connection, collection_id, there, upload)
            _require_free(connection, collection_id, upload.external_id, None)
            # A file that could not be used may lie at the same place; it is tried again.
            failed = connection.execute(
                delete(schema.asset)
                .where(
                    _asset.collection_id == collection_id,
                    _asset.path == upload.stamp.path,
                    _asset.failure.is_not(None),
                )
                .returning(_asset.id)
            ).scalars()
            events = [AssetEvent(asset, collection_id, "removed") for asset in failed]
            asset = connection.execute(
                insert(schema.asset)
                .values(
                    collection_id=collection_id,
                    path=upload.stamp.path,
                    uri=uri_of_path(upload.stamp.path),
                    content_id=content_id,
                    size=upload.stamp.size,
                    mtime_ns=upload.stamp.mtime_ns,
                    file_name=upload.file_name,
                    external_id=upload.external_id,
                    managed=True,
                    edited_title=upload.title,
                    added_at=utc_now(),
                    dated_at=dated_at(upload.facts, upload.stamp.mtime_ns),
                    **fact_columns(upload.facts),
                )
                .returning(_asset.id)
            ).scalar_one()
            write_keywords(connection, asset, upload.facts.keywords)
            add_tags(connection, [asset], upload.tags)
            _write_custom(connection, asset, upload.custom or {})
            events.append(AssetEvent(asset, collection_id, "added"))
            record_changes(connection, [], [], events)
            return Uploaded(asset, "created")

    def edit(self, asset: int, edit: AssetEdit, *, visible: Visible = None) -> None:
        """Change one asset; raises NotFound, NameTaken."""
        with self._database.writing() as connection:
            row = _require(connection, [asset], visible)[0]
            values: dict[str, Any] = {}
            if "title" in edit.fields:
                values["edited_title"] = edit.title
            if "external_id" in edit.fields:
                _require_free(connection, row.collection_id, edit.external_id, asset)
                values["external_id"] = edit.external_id
            if values:
                connection.execute(update(schema.asset).where(_asset.id == asset).values(**values))
            if "tags" in edit.fields:
                tag = schema.asset_tag.c
                connection.execute(
                    delete(schema.asset_tag).where(tag.asset_id == asset, tag.tag.not_in(edit.tags))
                )
                add_tags(connection, [asset], edit.tags)
            if edit.custom is not None and "custom" in edit.fields:
                former = json.loads(row.custom) if row.custom else {}
                _write_custom(connection, asset, {**former, **edit.custom})
            event = AssetEvent(asset, row.collection_id, "changed")
            record_changes(connection, [], [], [event])

    def tag(
        self,
        assets: Collection[int],
        *,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        visible: Visible = None,
    ) -> None:
        """Add tags to and remove tags from assets, all of them or none; raises NotFound."""
        with self._database.writing() as connection:
            rows = _require(connection, assets, visible)
            ids = [row.id for row in rows]
            if remove:
                tag = schema.asset_tag.c
                connection.execute(
                    delete(schema.asset_tag).where(tag.asset_id.in_(ids), tag.tag.in_(remove))
                )
            add_tags(connection, ids, add)
            record_changes(
                connection, [], [], [AssetEvent(r.id, r.collection_id, "changed") for r in rows]
            )

    def trash(self, assets: Collection[int], *, visible: Visible = None) -> None:
        """Put assets into the trash, all of them or none; raises NotFound."""
        self._move(assets, visible, into_trash=True)

    def restore(self, assets: Collection[int], *, visible: Visible = None) -> None:
        """Take assets out of the trash, all of them or none; raises NotFound."""
        self._move(assets, visible, into_trash=False)

    def purge(self, *, collection: int | None = None, trashed_only: bool = True) -> Purged:
        """Forget what lies in the trash, of one collection or of all; nothing brings it back.

        With `trashed_only` false, everything of the collection. Touches no file.
        """
        where: list[ColumnElement[bool]] = []
        if trashed_only:
            where.append(_asset.deleted_at.is_not(None))
        if collection is not None:
            where.append(_asset.collection_id == collection)
        assets, originals = 0, []
        while True:
            count, unused = self._purge_some(where)
            assets += count
            originals += unused
            if count < _PURGED_AT_ONCE:
                return Purged(assets, tuple(originals))

    def needs(self, path: bytes) -> bool:
        """Whether an asset has its file at this path."""
        with self._database.reading() as connection:
            statement = select(exists().where(_asset.path == path))
            return bool(connection.execute(statement).scalar_one())

    def waiting_originals(self, collection: str, *, failed: bool = False) -> list[bytes]:
        """Paths of a collection's uploads that the live pipeline has not analysed yet, oldest first.

        With `failed`, those that could not be used, too.
        """
        analysis = schema.analysis.c
        with self._database.reading() as connection:
            pipeline = live_pipeline(connection)
            analysed = select(analysis.content_id).where(
                analysis.pipeline_id == (-1 if pipeline is None else pipeline.id)
            )
            waiting: ColumnElement[bool] = _asset.content_id.not_in(analysed)
            if failed:
                waiting = or_(waiting, _asset.failure.is_not(None))
            rows = connection.execute(
                select(_asset.path)
                .where(
                    _asset.collection_id == find_collection(connection, collection),
                    _asset.managed.is_(True),
                    _asset.deleted_at.is_(None),
                    waiting,
                )
                .order_by(_asset.id)
            ).scalars()
            return [bytes(path) for path in rows]

    def relocate_originals(self, path_of: Callable[[str], bytes]) -> int:
        """Follow a managed store that lies elsewhere than before; the number of assets moved along.

        `path_of` gives the place of a file by its SHA-256, which is the last part of its path.
        """
        moved = 0
        with self._database.reading() as connection:
            rows = connection.execute(
                select(_asset.id, _asset.path).where(_asset.managed.is_(True))
            ).all()
        for row in rows:
            path = path_of(bytes(row.path).rpartition(b"/")[2].decode())
            if path == bytes(row.path):
                continue
            with self._database.writing() as connection:
                connection.execute(
                    update(schema.asset)
                    .where(_asset.id == row.id)
                    .values(path=path, uri=uri_of_path(path))
                )
            moved += 1
        return moved

    def _upload_again(
        self, connection: Connection, collection_id: int, there: Any, upload: Upload
    ) -> Uploaded:
        values: dict[str, Any] = {}
        if there.deleted_at is not None:
            values["deleted_at"] = None
        if upload.external_id is not None and there.external_id is None:
            _require_free(connection, collection_id, upload.external_id, there.id)
            values["external_id"] = upload.external_id
        if not values:
            return Uploaded(there.id, "existing")
        connection.execute(update(schema.asset).where(_asset.id == there.id).values(**values))
        kind = "added" if "deleted_at" in values else "changed"
        record_changes(connection, [], [], [AssetEvent(there.id, collection_id, kind)])
        return Uploaded(there.id, "restored" if "deleted_at" in values else "existing")

    def _move(self, assets: Collection[int], visible: Visible, *, into_trash: bool) -> None:
        with self._database.writing() as connection:
            rows = _require(connection, assets, visible)
            moved = [row for row in rows if (row.deleted_at is None) == into_trash]
            if not moved:
                return
            connection.execute(
                update(schema.asset)
                .where(_asset.id.in_([row.id for row in moved]))
                .values(deleted_at=utc_now() if into_trash else None)
            )
            kind = "removed" if into_trash else "added"
            record_changes(
                connection, [], [], [AssetEvent(row.id, row.collection_id, kind) for row in moved]
            )

    def _purge_some(self, where: Sequence[ColumnElement[bool]]) -> tuple[int, list[str]]:
        with self._database.writing() as connection:
            rows = connection.execute(
                select(
                    _asset.id,
                    _asset.collection_id,
                    _asset.content_id,
                    _asset.managed,
                    _asset.deleted_at,
                    _asset.path,
                )
                .where(*where)
                .order_by(_asset.id)
                .limit(_PURGED_AT_ONCE)
            ).all()
            if not rows:
                return 0, []
            connection.execute(delete(schema.asset).where(_asset.id.in_([row.id for row in rows])))
            removed = drop_orphans(connection, {row.content_id for row in rows})
            # What lies in the trash was told as removed when it went there.
            events = [
                AssetEvent(row.id, row.collection_id, "removed")
                for row in rows
                if row.deleted_at is None
            ]
            paths = {bytes(row.path) for row in rows if row.managed}
            used = connection.execute(select(_asset.path).where(_asset.path.in_(paths))).scalars()
            unused = paths - {bytes(path) for path in used}
            record_changes(connection, [], removed, events)
        return len(rows), [path.rpartition(b"/")[2].decode() for path in sorted(unused)]


def _require(connection: Connection, assets: Collection[int], visible: Visible) -> Sequence[Any]:
    """The rows of assets that a caller may see; raises NotFound unless all are there."""
    statement = (
        select(_asset.id, _asset.collection_id, _asset.deleted_at, _asset.custom)
        .join_from(schema.asset, schema.collection)
        .where(_asset.id.in_(assets))
        .order_by(_asset.id)
        .with_for_update(of=schema.asset)
    )
    if visible is not None:
        statement = statement.where(schema.collection.c.name.in_(visible))
    rows = connection.execute(statement).all()
    missing = set(assets) - {row.id for row in rows}
    if missing:
        names = ", ".join(f"a{number}" for number in sorted(missing)[:10])
        raise NotFound(
            f"no photograph has the id {names}", remedy="take ids from a list or a search"
        )
    return rows


def _require_free(
    connection: Connection, collection_id: int, external_id: str | None, asset: int | None
) -> None:
    if external_id is None:
        return
    holder = connection.execute(
        select(_asset.id).where(
            _asset.collection_id == collection_id, _asset.external_id == external_id
        )
    ).scalar_one_or_none()
    if holder is not None and holder != asset:
        raise NameTaken(
            f"the external id {external_id!r} belongs to another photograph of the collection",
            remedy="choose another, or change that photograph's first",
        )


def _write_custom(connection: Connection, asset: int, custom: Mapping[str, Any]) -> None:
    kept = {name: value for name, value in custom.items() if value is not None}
    connection.execute(
        update(schema.asset)
        .where(_asset.id == asset)
        .values(custom=json.dumps(kept, ensure_ascii=False) if kept else None)
    )
    connection.execute(delete(schema.asset_field).where(schema.asset_field.c.asset_id == asset))
    single = [
        {"asset_id": asset, "name": name, "value": stored_field(value)}
        for name, value in kept.items()
        if isinstance(value, str | int | float | bool)
    ]
    if single:
        connection.execute(insert(schema.asset_field), single)
