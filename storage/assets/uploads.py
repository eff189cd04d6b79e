"""Uploads: assets of files in the managed store, and which of these files are still needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    exists,
    insert,
    or_,
    select,
    update,
)

from regard.core.catalog import ContentHeader, FileStamp
from regard.core.errors import CannotWork
from regard.core.facts import PhotoFacts
from regard.core.jobs import JobKind
from regard.photos.buckets import is_object
from regard.storage.assets.records import is_pending
from regard.storage.assets.rows import (
    add_tags,
    announce_file,
    announced_files,
    dated_at,
    drop_files,
    ensure_collection,
    ensure_contents,
    fact_columns,
    find_collection,
    has_path,
    note_files,
    noted_files,
    path_columns,
    require_free,
    storable_facts,
    withdraw_file,
    write_custom,
    write_keywords,
)
from regard.storage.assets.stacks import folders_of, mark_folders
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import AssetEvent, record_changes
from regard.storage.database.clock import utc_now
from regard.storage.database.connection import storable_text
from regard.storage.database.stored_pipelines import live_pipeline
from regard.storage.files.bucket_originals import announced_at
from regard.storage.files.originals import LEFTOVER_SECONDS, name_of

_asset = schema.asset.c
# The columns that tell the folder of a row's stack.
_FOLDER = (_asset.id, _asset.collection_id, _asset.path, _asset.managed, _asset.taken_at)
_MOVED_AT_ONCE = 500
# Hexadecimal digits of a SHA-256.
_DIGEST_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Upload:
    """A file in the managed store to create an asset from."""

    stamp: FileStamp
    content: ContentHeader
    facts: PhotoFacts
    file_name: str
    external_id: str | None = None
    title: str | None = None
    tags: tuple[str, ...] = ()
    rating: int | None = None
    custom: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The asset; `status` is created, existing or restored (from the trash).

    `path` is the file that it has now, perhaps another one with the same bytes.
    """

    asset: int
    status: str
    path: bytes


class SqlUploads:
    """Reads and writes the assets whose files the home keeps."""

    def __init__(self, catalog: Catalog) -> None:
        """Prepare to read and write."""
        self._database = catalog.database

    def upload(
        self,
        collection: str,
        upload: Upload,
        *,
        is_sound: Callable[[FileStamp], bool] = lambda stamp: True,
    ) -> Uploaded:
        """Create an asset, or find the one with the same bytes in the collection.

        A trashed one is restored, and a failed one is queued again. An indexed one counts only if
        its file `is_sound`, otherwise the bytes would be lost. An upload in another collection
        with the same bytes in the same bucket shares its object. The collection is created if it is
        new. Raises NameTaken if another asset has the external id, CannotWork if the file was
        announced so long ago that another server forgot it.
        """
        upload = replace(
            upload,
            facts=storable_facts(upload.facts),
            file_name=storable_text(upload.file_name),
        )
        path = upload.stamp.path
        with self._database.writing() as connection:
            # Otherwise two uploads of the same bytes would both find nothing.
            self._database.take_turns(connection)
            if not is_object(path):
                return self._write_upload(connection, collection, upload, is_sound)
            name = name_of(path)
            if not withdraw_file(connection, name):
                raise CannotWork("the upload took too long", remedy="upload the file again")
            uploaded = self._write_upload(connection, collection, upload, is_sound)
            if uploaded.path != path:
                note_files(connection, [name])
            return uploaded

    def announce(self, name: str) -> None:
        """Record the name of a file that is about to be stored, until its asset is written."""
        with self._database.writing() as connection:
            announce_file(connection, name)

    def abandon(self, names: Collection[str] | None = None) -> None:
        """Leave announced files to be deleted; without names, those of killed servers."""
        if names is None:
            limit = time.time() - LEFTOVER_SECONDS
            with self._database.reading() as connection:
                names = [one for one in announced_files(connection) if announced_at(one) < limit]
        if names:
            with self._database.writing() as connection:
                note_files(connection, [one for one in names if withdraw_file(connection, one)])

    def forgotten_originals(self) -> list[str]:
        """The names of all managed files that purges and uploads left to be deleted."""
        with self._database.reading() as connection:
            return noted_files(connection)

    def forget_originals(self, digests: Collection[str]) -> None:
        """Record that these files are deleted, or needed again."""
        if digests:
            with self._database.writing() as connection:
                drop_files(connection, digests)

    def needs(self, path: bytes) -> bool:
        """Whether an asset has this path."""
        with self._database.reading() as connection:
            statement = select(exists().where(has_path([path])))
            return bool(connection.execute(statement).scalar_one())

    def known_contents(self, digests: Sequence[str]) -> set[str]:
        """Those of some SHA-256 digests that are of contents."""
        digest = schema.content.c.sha256
        with self._database.reading() as connection:
            return set(connection.execute(select(digest).where(digest.in_(digests))).scalars())

    def waiting_originals(
        self, collection: str, *, failed: bool = False, analysed: bool = False
    ) -> list[bytes]:
        """Paths of uploads that the live pipeline has not analysed yet, oldest first.

        With `failed`, also of failed ones; with `analysed`, of all but those.
        """
        with self._database.reading() as connection:
            pipeline = live_pipeline(connection)
            waiting = is_pending(-1 if pipeline is None else pipeline.id)
            if analysed:
                waiting = or_(waiting, _asset.failure.is_(None))
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
        """Collections with uploads that wait for analysis and have no job.

        A server may be killed after an upload was stored and before its job was.
        """
        job = schema.job.c
        with self._database.reading() as connection:
            pipeline = live_pipeline(connection)
            # A cancelled job counts: the analysis was not wanted.
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
                        is_pending(-1 if pipeline is None else pipeline.id),
                        ~seen,
                    )
                ).scalars()
            )

    def relocate_originals(
        self,
        path_of: Callable[[str], bytes],
        mtime_of: Callable[[bytes], int | None] = lambda path: None,
    ) -> int:
        """Update paths after the managed store has moved; return how many assets changed.

        `path_of` gives the path of a file by its name, the last part of its path; `mtime_of`
        the new modification time in nanoseconds, None if unknown.
        """
        moves: list[tuple[int, bytes]] = []
        with self._database.reading() as connection:
            for row in connection.execute(
                select(_asset.id, _asset.path).where(_asset.managed.is_(True))
            ):
                path = path_of(name_of(bytes(row.path)))
                if path != bytes(row.path):
                    moves.append((row.id, path))
        for start in range(0, len(moves), _MOVED_AT_ONCE):
            with self._database.writing() as connection:
                for asset, path in moves[start : start + _MOVED_AT_ONCE]:
                    values: dict[str, Any] = path_columns(path)
                    mtime_ns = mtime_of(path)
                    if mtime_ns is not None:
                        values["mtime_ns"] = mtime_ns
                    connection.execute(
                        update(schema.asset).where(_asset.id == asset).values(**values)
                    )
                record_changes(connection, [], [])
        return len(moves)

    def _write_upload(
        self,
        connection: Connection,
        collection: str,
        upload: Upload,
        is_sound: Callable[[FileStamp], bool],
    ) -> Uploaded:
        collection_id = ensure_collection(connection, collection)
        [content_id] = ensure_contents(connection, [upload.content])
        of_same_bytes = connection.execute(
            select(_asset.id)
            .where(
                _asset.collection_id == collection_id,
                or_(_asset.content_id == content_id, _has_bytes_of(upload.stamp.path)),
            )
            .order_by(_asset.deleted_at.is_not(None), _asset.id)
        ).all()
        for row in of_same_bytes:
            # Lock it until commit.
            there = connection.execute(
                select(schema.asset).where(_asset.id == row.id).with_for_update()
            ).one_or_none()
            if there is None:
                continue
            stamp = FileStamp(bytes(there.path), there.size, there.mtime_ns, etag=there.etag)
            if there.managed or is_sound(stamp):
                return self._upload_again(connection, content_id, there, upload, is_sound)
        upload = _sharing(connection, content_id, upload, is_sound)
        require_free(connection, collection_id, upload.external_id, None)
        facts = fact_columns(upload.facts)
        if upload.rating is not None:
            facts |= dict.fromkeys(("rating", "edited_rating"), upload.rating)
        row = connection.execute(
            insert(schema.asset)
            .values(
                collection_id=collection_id,
                **path_columns(upload.stamp.path),
                content_id=content_id,
                size=upload.stamp.size,
                mtime_ns=upload.stamp.mtime_ns,
                file_name=upload.file_name,
                external_id=upload.external_id,
                managed=True,
                edited_title=upload.title,
                added_at=utc_now(),
                dated_at=dated_at(upload.facts, upload.stamp.mtime_ns),
                **facts,
            )
            .returning(*_FOLDER)
        ).one()
        mark_folders(connection, folders_of([row]))
        asset = row.id
        write_keywords(connection, asset, upload.facts.keywords)
        add_tags(connection, [asset], upload.tags)
        write_custom(connection, asset, upload.custom or {})
        record_changes(connection, [], [], [AssetEvent(asset, collection_id, "added")])
        return Uploaded(asset, "created", upload.stamp.path)

    def _upload_again(
        self,
        connection: Connection,
        content_id: int,
        there: Row[Any],
        upload: Upload,
        is_sound: Callable[[FileStamp], bool],
    ) -> Uploaded:
        values: dict[str, Any] = {}
        require_free(connection, there.collection_id, upload.external_id, there.id)
        if upload.external_id is not None and there.external_id is None:
            values["external_id"] = upload.external_id
        if there.failure is not None:
            values |= {"failure": None, "content_id": content_id}
            values |= {"dated_at": dated_at(upload.facts, upload.stamp.mtime_ns)}
            values |= fact_columns(upload.facts)
        if there.deleted_at is not None:
            values["deleted_at"] = None
        stamp = {"size": upload.stamp.size, "mtime_ns": upload.stamp.mtime_ns}
        path = bytes(there.path)
        if path != upload.stamp.path:
            if there.managed and not is_sound(FileStamp(path, there.size, there.mtime_ns)):
                path = upload.stamp.path
                values |= {**stamp, **path_columns(path)}
        elif there.managed and (there.size, there.mtime_ns) != tuple(stamp.values()):
            # The file had been lost and was uploaded again.
            values |= stamp
        if not values:
            return Uploaded(there.id, "existing", path)
        changed = update(schema.asset).where(_asset.id == there.id).values(**values)
        now = connection.execute(changed.returning(*_FOLDER)).one()
        mark_folders(connection, folders_of([there, now]))
        if there.failure is not None:
            write_keywords(connection, there.id, upload.facts.keywords)
        kind = "added" if "deleted_at" in values else "changed"
        record_changes(connection, [], [], [AssetEvent(there.id, there.collection_id, kind)])
        return Uploaded(there.id, "restored" if "deleted_at" in values else "existing", path)


def _has_bytes_of(path: bytes) -> ColumnElement[bool]:
    """Whether an asset has a managed file of the same bytes, even a failed one without a content.

    Names of managed files begin with their SHA-256; in a bucket, a part of its own follows.
    """
    folder, _, name = path.rpartition(b"/")
    start = b"/".join((folder, name[:_DIGEST_LENGTH]))
    return and_(_asset.path >= start, _asset.path < start + b"\xff")


def _sharing(
    connection: Connection,
    content_id: int,
    upload: Upload,
    is_sound: Callable[[FileStamp], bool],
) -> Upload:
    """The upload with the object that another asset has of the same bytes, if there is one."""
    if not is_object(upload.stamp.path):
        return upload
    # The lock keeps a purge from forgetting the object until commit.
    there = connection.execute(
        select(_asset.path, _asset.size, _asset.mtime_ns)
        .where(_asset.content_id == content_id, _asset.managed.is_(True))
        .order_by(_asset.deleted_at.is_not(None), _asset.id)
        .limit(1)
        .with_for_update()
    ).one_or_none()
    if there is None:
        return upload
    stamp = FileStamp(bytes(there.path), there.size, there.mtime_ns)
    return replace(upload, stamp=stamp) if is_sound(stamp) else upload
