"""What people do to assets: upload, edit, tag, trash, restore, purge; one transaction a call.

The writer's lease guards what models write; these changes are short and need none. Each is logged for
whoever keeps a copy. No file is touched here: `purge` says which originals nobody needs any more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)

from regard.core.assets import AssetEdit
from regard.core.catalog import ContentHeader, FileStamp
from regard.core.errors import NameTaken, NotFound
from regard.core.facts import PhotoFacts
from regard.core.jobs import JobKind
from regard.core.uris import uri_of_path
from regard.storage.assets.filters import stored_field
from regard.storage.assets.forgotten import drop_files, note_files, noted_files
from regard.storage.assets.reading import Visible
from regard.storage.assets.rows import (
    add_tags,
    dated_at,
    drop_orphans,
    ensure_collection,
    ensure_content,
    fact_columns,
    find_collection,
    write_keywords,
)
from regard.storage.assets.signatures import forget_comparisons
from regard.storage.database import schema
from regard.storage.database.change_log import AssetEvent, record_changes
from regard.storage.database.clock import utc_now
from regard.storage.pipelines.catalog import Catalog
from regard.storage.pipelines.stored import live_pipeline

_asset = schema.asset.c
_PURGED_AT_ONCE = 200
_MOVED_AT_ONCE = 500


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

    Ask `needs` again before such a file is deleted: the same bytes may have been uploaded since. Tell
    `forget_originals` when it is.
    """

    assets: int
    originals: tuple[str, ...]


class SqlAssetEditing:
    """Writes what people change; see the module."""

    def __init__(self, catalog: Catalog) -> None:
        """Prepare to write."""
        self._database = catalog.database

    def upload(
        self,
        collection: str,
        upload: Upload,
        *,
        is_sound: Callable[[FileStamp], bool] = lambda stamp: True,
    ) -> Uploaded:
        """Make an asset of a file, or find the one that the collection has of the same bytes.

        One that lies in the trash comes back, and one that could not be used is tried again. An
        imported one counts if its own file `is_sound`: else nobody would have kept the bytes. The
        collection is made when it is new. Raises NameTaken when another asset has the external id.
        """
        with self._database.writing() as connection:
            # Two uploads of the same bytes at once would both find nothing.
            self._database.take_turns(connection)
            collection_id = ensure_collection(connection, collection)
            content_id = ensure_content(connection, upload.content)
            of_same_bytes = connection.execute(
                select(_asset.id)
                .where(
                    _asset.collection_id == collection_id,
                    or_(_asset.content_id == content_id, _asset.path == upload.stamp.path),
                )
                .order_by(_asset.deleted_at.is_not(None), _asset.id)
            ).all()
            for row in of_same_bytes:
                # As it is now, and stays until the commit.
                there = connection.execute(
                    select(schema.asset).where(_asset.id == row.id).with_for_update()
                ).one_or_none()
                if there is None:
                    continue
                stamp = FileStamp(bytes(there.path), there.size, there.mtime_ns)
                if there.managed or is_sound(stamp):
                    return self._upload_again(connection, content_id, there, upload)
            _require_free(connection, collection_id, upload.external_id, None)
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
            write_custom(connection, asset, upload.custom or {})
            record_changes(connection, [], [], [AssetEvent(asset, collection_id, "added")])
            return Uploaded(asset, "created")

    def edit(self, asset: int, edit: AssetEdit, *, visible: Visible = None) -> None:
        """Change one asset; raises NotFound, NameTaken. What changes nothing is not logged."""
        with self._database.writing() as connection:
            if "external_id" in edit.fields:
                # Two that find an external id free would both take it.
                self._database.take_turns(connection)
            row = _require(connection, [asset], visible)[0]
            values: dict[str, Any] = {}
            if "title" in edit.fields and edit.title != row.edited_title:
                values["edited_title"] = edit.title
            if "external_id" in edit.fields and edit.external_id != row.external_id:
                _require_free(connection, row.collection_id, edit.external_id, asset)
                values["external_id"] = edit.external_id
            if values:
                connection.execute(update(schema.asset).where(_asset.id == asset).values(**values))
            has_changed = bool(values)
            if "tags" in edit.fields:
                tag = schema.asset_tag.c
                gone = connection.execute(
                    delete(schema.asset_tag).where(tag.asset_id == asset, tag.tag.not_in(edit.tags))
                ).rowcount
                added = add_tags(connection, [asset], edit.tags)
                has_changed = has_changed or bool(gone or added)
            if edit.custom is not None and "custom" in edit.fields:
                former = json.loads(row.custom) if row.custom else {}
                custom = {**former, **edit.custom}
                if _custom_text(custom) != row.custom:
                    write_custom(connection, asset, custom)
                    has_changed = True
            if has_changed:
                record_changes(connection, [], [], _changed([row]))

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
            changed: set[int] = set()
            if remove:
                tag = schema.asset_tag.c
                changed.update(
                    connection.execute(
                        delete(schema.asset_tag)
                        .where(tag.asset_id.in_(ids), tag.tag.in_(remove))
                        .returning(tag.asset_id)
                    ).scalars()
                )
            changed |= add_tags(connection, ids, add)
            if changed:
                record_changes(
                    connection, [], [], _changed([row for row in rows if row.id in changed])
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
            found, count, unused = self._purge_some(where)
            assets += count
            originals += unused
            if found < _PURGED_AT_ONCE:
                return Purged(assets, tuple(originals))

    def forgotten_originals(self) -> list[str]:
        """The SHA-256 of all managed files that purges, also killed ones, left to be deleted."""
        with self._database.reading() as connection:
            return noted_files(connection)

    def forget_originals(self, digests: Collection[str]) -> None:
        """Take note that these files are deleted, or were needed again."""
        if digests:
            with self._database.writing() as connection:
                drop_files(connection, digests)

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
            # Nothing at all is also not in an empty list.
            waiting = and_(_asset.content_id.is_not(None), _asset.content_id.not_in(analysed))
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

    def collections_without_job(self) -> list[str]:
        """Collections with uploads that wait to be analysed, and no job since that would have done so.

        A server may be killed after an upload was stored and before its job was.
        """
        analysis, job = schema.analysis.c, schema.job.c
        with self._database.reading() as connection:
            pipeline = live_pipeline(connection)
            analysed = exists().where(
                analysis.content_id == _asset.content_id,
                analysis.pipeline_id == (-1 if pipeline is None else pipeline.id),
            )
            # One that was cancelled since was not wanted.
            seen = exists().where(
                job.collection_id == _asset.collection_id,
                job.kind.in_([JobKind.UPLOAD, JobKind.REINDEX]),
                or_(job.finished_at.is_(None), job.finished_at >= _asset.added_at),
            )
            return list(
                connection.execute(
                    select(schema.collection.c.name)
                    .distinct()
                    .join_from(schema.asset, schema.collection)
                    .where(
                        _asset.managed.is_(True),
                        _asset.deleted_at.is_(None),
                        _asset.content_id.is_not(None),
                        ~analysed,
                        ~seen,
                    )
                ).scalars()
            )

    def relocate_originals(
        self,
        path_of: Callable[[str], bytes],
        mtime_of: Callable[[bytes], int | None] = lambda path: None,
    ) -> int:
        """Follow a managed store that lies elsewhere than before; the number of assets moved along.

        `path_of` gives the place of a file by its SHA-256, which is the last part of its path, and
        `mtime_of` the time in nanoseconds that a copy there may have got, None where it is not known.
        """
        moves: list[tuple[int, bytes]] = []
        with self._database.reading() as connection:
            for row in connection.execute(
                select(_asset.id, _asset.path).where(_asset.managed.is_(True))
            ):
                path = path_of(bytes(row.path).rpartition(b"/")[2].decode())
                if path != bytes(row.path):
                    moves.append((row.id, path))
        for start in range(0, len(moves), _MOVED_AT_ONCE):
            with self._database.writing() as connection:
                for asset, path in moves[start : start + _MOVED_AT_ONCE]:
                    values: dict[str, Any] = {"path": path, "uri": uri_of_path(path)}
                    mtime_ns = mtime_of(path)
                    if mtime_ns is not None:
                        values["mtime_ns"] = mtime_ns
                    connection.execute(
                        update(schema.asset).where(_asset.id == asset).values(**values)
                    )
                record_changes(connection, [], [])
        return len(moves)

    def _upload_again(
        self, connection: Connection, content_id: int, there: Row[Any], upload: Upload
    ) -> Uploaded:
        values: dict[str, Any] = {}
        _require_free(connection, there.collection_id, upload.external_id, there.id)
        if upload.external_id is not None and there.external_id is None:
            values["external_id"] = upload.external_id
        if there.failure is not None:
            values |= {"failure": None, "content_id": content_id}
            values |= {"dated_at": dated_at(upload.facts, upload.stamp.mtime_ns)}
            values |= fact_columns(upload.facts)
        if there.deleted_at is not None:
            values["deleted_at"] = None
        stamp = {"size": upload.stamp.size, "mtime_ns": upload.stamp.mtime_ns}
        if there.managed and (there.size, there.mtime_ns) != tuple(stamp.values()):
            # The file had been lost, and is there again.
            values |= stamp
        if not values:
            return Uploaded(there.id, "existing")
        connection.execute(update(schema.asset).where(_asset.id == there.id).values(**values))
        if there.failure is not None:
            write_keywords(connection, there.id, upload.facts.keywords)
        kind = "added" if "deleted_at" in values else "changed"
        record_changes(connection, [], [], [AssetEvent(there.id, there.collection_id, kind)])
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
            if not into_trash:
                # What was indexed meanwhile was not compared with them.
                forget_comparisons(connection, {row.content_id for row in moved} - {None})
            kind = "removed" if into_trash else "added"
            record_changes(
                connection, [], [], [AssetEvent(row.id, row.collection_id, kind) for row in moved]
            )

    def _purge_some(self, where: Sequence[ColumnElement[bool]]) -> tuple[int, int, list[str]]:
        """Forget a portion: how many were found, how many of them went, and files no longer needed."""
        with self._database.writing() as connection:
            # An upload may just have found one of these in the trash.
            self._database.take_turns(connection)
            found = connection.execute(
                select(_asset.id, _asset.content_id)
                .where(*where)
                .order_by(_asset.id)
                .limit(_PURGED_AT_ONCE)
            ).all()
            # First contents, then assets, as the indexer has them: else each would wait for the other.
            content = schema.content.c
            connection.execute(
                select(content.id)
                .where(content.id.in_([row.content_id for row in found if row.content_id]))
                .order_by(content.id)
                .with_for_update()
            ).all()
            # Some may have been restored since they were found.
            rows = connection.execute(
                select(
                    _asset.id,
                    _asset.collection_id,
                    _asset.content_id,
                    _asset.managed,
                    _asset.deleted_at,
                    _asset.path,
                )
                .where(_asset.id.in_([row.id for row in found]), *where)
                .order_by(_asset.id)
                .with_for_update()
            ).all()
            if not rows:
                return len(found), 0, []
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
            originals = [path.rpartition(b"/")[2].decode() for path in sorted(unused)]
            note_files(connection, originals)
            record_changes(connection, [], removed, events)
        return len(found), len(rows), originals


def _changed(rows: Sequence[Any]) -> list[AssetEvent]:
    """What to log of edited assets: of those in the trash nothing, which were told as removed."""
    return [
        AssetEvent(row.id, row.collection_id, "changed") for row in rows if row.deleted_at is None
    ]


def _require(connection: Connection, assets: Collection[int], visible: Visible) -> Sequence[Any]:
    """The rows of assets that a caller may see; raises NotFound unless all are there."""
    statement = (
        select(
            *(_asset.id, _asset.content_id, _asset.collection_id),
            *(_asset.deleted_at, _asset.custom, _asset.edited_title, _asset.external_id),
        )
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


def write_custom(connection: Connection, asset: int, custom: Mapping[str, Any]) -> None:
    """Replace an asset's custom fields, and what filters read of them; a value of None is left out."""
    kept = {name: value for name, value in custom.items() if value is not None}
    connection.execute(
        update(schema.asset).where(_asset.id == asset).values(custom=_custom_text(custom))
    )
    connection.execute(delete(schema.asset_field).where(schema.asset_field.c.asset_id == asset))
    single = [
        {"asset_id": asset, "name": name, "value": stored_field(value)}
        for name, value in kept.items()
        if isinstance(value, str | int | float | bool)
    ]
    if single:
        connection.execute(insert(schema.asset_field), single)


def _custom_text(custom: Mapping[str, Any]) -> str | None:
    """Custom fields as they are stored."""
    kept = {name: value for name, value in custom.items() if value is not None}
    return json.dumps(kept, ensure_ascii=False) if kept else None
