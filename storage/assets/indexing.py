"""The catalog as the indexer writes it; newly analysed contents share a transaction.

Each write checks the lease, writes the asset with all that its content owns, and drops contents
without assets. It logs the changes last, so that the log's row lock is short.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    or_,
    select,
    tuple_,
    update,
)

from regard.core.catalog import (
    AnalysedFile,
    Exclusion,
    Failure,
    FileStamp,
    IndexingCatalog,
    KnownAsset,
)
from regard.core.facts import PhotoFacts
from regard.storage.assets.records import has_failed
from regard.storage.assets.rows import (
    add_keywords,
    dated_at,
    drop_orphans,
    ensure_collection,
    ensure_contents,
    exclude,
    fact_columns,
    find_collection,
    path_columns,
    rating_beside_edited,
    storable_facts,
    write_keywords,
    write_signatures,
)
from regard.storage.assets.stacks import dissolve_stacks, folders_of, mark_folders, update_stacks
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import AssetEvent, record_changes
from regard.storage.database.clock import utc_now
from regard.storage.database.connection import in_batches, insert_many, next_ids, storable_text
from regard.storage.database.embeddings import insert_embeddings
from regard.storage.database.lease import SqlWriterLease, hold_writer_lease
from regard.storage.database.stored_pipelines import StoredPipeline, require_live
from regard.storage.pipelines.analyses import write_analyses

_PAGE = 2000
_COPIES_AT_ONCE = 200
_REMOVED_AT_ONCE = 200
_NO_FILE_S_SIZE = -1


class SqlIndexingCatalog(IndexingCatalog):
    """Writes one collection with one pipeline."""

    def __init__(
        self,
        catalog: Catalog,
        pipeline: StoredPipeline,
        collection: str,
        *,
        is_managed: Callable[[bytes], bool] = lambda path: False,
    ) -> None:
        """Prepare to write; the collection is created with its first asset.

        `is_managed` recognises paths of the managed store. Only uploads create their assets:
        results for one that was purged meanwhile are dropped.
        """
        self._is_managed = is_managed
        self._database = catalog.database
        self._pipeline = pipeline
        self._collection_name = collection
        self._lease: SqlWriterLease | None = None
        # None while the collection does not exist.
        self._collection_id: int | None = None

    @contextlib.contextmanager
    def writer_lease(self) -> Iterator[SqlWriterLease]:
        """Hold the writer lease for the block.

        Raises LeaseHeld if another process writes, PipelineConflict if another pipeline went live
        since the home was opened.
        """
        with hold_writer_lease(self._database) as lease:
            with self._database.reading() as connection:
                require_live(connection, self._pipeline)
                self._collection_id = find_collection(connection, self._collection_name)
            self._lease = lease
            try:
                yield lease
            finally:
                self._lease = None

    def known_assets(self, root: bytes) -> Iterator[KnownAsset]:
        """The assets at or below `root`, ordered by path bytes, read page by page.

        An asset whose content the live pipeline has not analysed gets an impossible size, so that
        its file counts as changed.
        """
        asset = schema.asset.c
        # The paths from `root/` to `root0` are one range, so that a page is read from the index.
        start, end = root.rstrip(b"/") + b"/", root.rstrip(b"/") + b"0"
        is_below = and_(asset.path < end, asset.managed.is_not(True))
        with self._database.reading() as connection:
            self._find_collection(connection)
            itself = self._known(connection, asset.path == root)
            page = self._known(connection, and_(asset.path > start, is_below), _PAGE)
        yield from itself
        yield from page
        while len(page) == _PAGE:
            start = page[-1].stamp.path
            with self._database.reading() as connection:
                page = self._known(connection, and_(asset.path > start, is_below), _PAGE)
            yield from page

    def is_analysed(self, sha256: str) -> bool:
        with self._database.reading() as connection:
            row = connection.execute(
                select(schema.content.c.id)
                .join_from(schema.content, schema.analysis)
                .where(
                    schema.content.c.sha256 == sha256,
                    schema.analysis.c.pipeline_id == self._pipeline.id,
                )
            ).first()
            return row is not None

    def has_asset(self, path: bytes, sha256: str) -> bool:
        with self._database.reading() as connection:
            where = and_(schema.asset.c.path == path, _is_of(sha256))
            return bool(self._known(connection, where))

    def assets_of_content(self, sha256: str) -> Iterator[KnownAsset]:
        after = 0
        while True:
            with self._database.reading() as connection:
                where = and_(schema.asset.c.id > after, _is_of(sha256))
                page = self._known(connection, where, _COPIES_AT_ONCE, schema.asset.c.id)
            yield from page
            if len(page) < _COPIES_AT_ONCE:
                return
            after = page[-1].id

    def save(self, files: Sequence[AnalysedFile]) -> None:
        try:
            self._save(files)
        except _UploadPurged:
            if len(files) > 1:
                for file in files:
                    self.save([file])

    def _save(self, files: Sequence[AnalysedFile]) -> None:
        with self._writing() as connection:
            contents = ensure_contents(connection, [file.content for file in files])
            embeddings = write_analyses(
                connection, self._pipeline, contents, [file.analysis for file in files]
            )
            write_signatures(
                connection,
                {
                    content_id: file.signature
                    for content_id, file in zip(contents, files, strict=True)
                    if file.signature is not None
                },
            )
            assets = [
                _File(file.stamp, content_id, file.facts)
                for content_id, file in zip(contents, files, strict=True)
            ]
            self._write(connection, assets, analysed=contents, embeddings=embeddings)

    def attach(
        self, stamp: FileStamp, sha256: str, facts: PhotoFacts, *, moved_from: int | None = None
    ) -> None:
        with contextlib.suppress(_UploadPurged), self._writing() as connection:
            content_id = connection.execute(
                select(schema.content.c.id).where(schema.content.c.sha256 == sha256)
            ).scalar_one()
            self._write(connection, [_File(stamp, content_id, facts)], moved_from)

    def fail(self, stamp: FileStamp, reason: str) -> None:
        with contextlib.suppress(_UploadPurged), self._writing() as connection:
            file = _File(stamp, None, PhotoFacts(), storable_text(reason))
            self._write(connection, [file])

    def remove(self, assets: Sequence[KnownAsset]) -> int:
        """Delete assets that still have the same path; return how many were deleted.

        Works in transactions of a few hundred assets, so that others do not wait long.
        """
        asset = schema.asset.c
        deleted = 0
        for start in range(0, len(assets), _REMOVED_AT_ONCE):
            places = [
                (known.id, known.stamp.path) for known in assets[start : start + _REMOVED_AT_ONCE]
            ]
            # Stacks of marked folders may be found at this moment.
            with self._writing(in_turn=True) as connection:
                rows = connection.execute(
                    delete(schema.asset)
                    .where(tuple_(asset.id, asset.path).in_(places))
                    .returning(
                        *(asset.id, asset.path, asset.collection_id, asset.content_id),
                        *(asset.deleted_at, asset.managed, asset.taken_at, asset.stack_id),
                    )
                ).all()
                deleted += len(rows)
                mark_folders(connection, folders_of(rows))
                events = dissolve_stacks(connection, {row.stack_id for row in rows})
                left = {row.content_id for row in rows if row.content_id is not None}
                events += _events(rows, "removed")
                record_changes(connection, [], drop_orphans(connection, left), events)
        return deleted

    def update_stacks(self) -> None:
        update_stacks(self._database)

    def exclusions(self) -> list[Exclusion]:
        table = schema.exclusion
        with self._database.reading() as connection:
            self._find_collection(connection)
            rows = connection.execute(
                select(table)
                .where(table.c.collection_id == self._collection_id)
                .order_by(table.c.id)
            ).all()
        return [
            Exclusion(
                bytes(row.path),
                None if row.pattern is None else bytes(row.pattern),
                row.is_left_out,
                row.id,
            )
            for row in rows
        ]

    def change_exclusions(self, forget: Collection[int], add: Sequence[Exclusion]) -> None:
        table = schema.exclusion
        with self._writing() as connection:
            if self._collection_id is None:
                self._collection_id = ensure_collection(connection, self._collection_name)
            for some in in_batches(forget):
                connection.execute(delete(table).where(table.c.id.in_(some)))
            exclude(connection, self._collection_id, add)

    def failures(self, roots: Sequence[bytes]) -> list[Failure]:
        asset = schema.asset.c
        with self._database.reading() as connection:
            # All failures of the collection, from their own index.
            rows = connection.execute(
                select(asset.path, asset.uri, asset.failure, asset.managed).where(
                    asset.collection_id == self._collection_id, has_failed()
                )
            ).all()
        whole, stems = set(roots), {root.rstrip(b"/") for root in roots}
        found: dict[bytes, Failure] = {}
        for row in rows:
            path = bytes(row.path)
            if path in whole or (not row.managed and any(one in stems for one in _above(path))):
                found[path] = Failure(row.uri, row.failure)
        return [found[path] for path in sorted(found)]

    @contextlib.contextmanager
    def _writing(self, *, in_turn: bool = False) -> Iterator[Connection]:
        if self._lease is None:
            raise RuntimeError("the writer lease is not held")
        collection_id = self._collection_id
        try:
            with self._database.writing() as connection:
                if in_turn:
                    # Before the lease: acquiring that takes turns first, too.
                    self._database.take_turns(connection)
                self._lease.guard(connection)
                yield connection
        except BaseException:
            # A collection created in this transaction was rolled back.
            self._collection_id = collection_id
            raise

    def _find_collection(self, connection: Connection) -> None:
        # Without the lease, it may come and go.
        if self._lease is None:
            self._collection_id = find_collection(connection, self._collection_name)

    def _known(
        self,
        connection: Connection,
        where: ColumnElement[bool],
        limit: int | None = None,
        order: ColumnElement[Any] = schema.asset.c.path,
    ) -> list[KnownAsset]:
        asset, analysis = schema.asset.c, schema.analysis.c
        is_settled = or_(asset.failure.is_not(None), analysis.content_id.is_not(None))
        rows = connection.execute(
            select(
                asset.id,
                asset.path,
                case((is_settled, asset.size), else_=_NO_FILE_S_SIZE).label("size"),
                asset.mtime_ns,
                asset.sidecar_stamp,
                asset.etag,
                asset.failure,
                case((asset.managed, asset.file_name)).label("upload_name"),
            )
            .join_from(
                schema.asset,
                schema.analysis,
                and_(
                    analysis.content_id == asset.content_id,
                    analysis.pipeline_id == self._pipeline.id,
                ),
                isouter=True,
            )
            .where(where, asset.collection_id == self._collection_id)
            .order_by(order)
            .limit(limit)
        )
        return [
            KnownAsset(
                row.id,
                FileStamp(bytes(row.path), row.size, row.mtime_ns, row.sidecar_stamp, row.etag),
                row.failure,
                row.upload_name or None,
            )
            for row in rows
        ]

    def _write(
        self,
        connection: Connection,
        files: Sequence[_File],
        moved_from: int | None = None,
        *,
        analysed: Sequence[int] = (),
        embeddings: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Insert or update the assets at the paths of files, and log the changes.

        `moved_from` is an asset to carry to the path of the only file; `analysed` are contents that
        have just been, with the rows of their `embeddings`. Drops contents that are left without
        assets. Takes from the counters last, when all rows are locked, so that no two writers wait
        for one another. Raises _UploadPurged.
        """
        asset = schema.asset.c
        if self._collection_id is None:
            self._collection_id = ensure_collection(connection, self._collection_name)
        in_collection = asset.collection_id == self._collection_id
        here = and_(in_collection, asset.path.in_([file.stamp.path for file in files]))
        if moved_from is not None:
            # Not with OR: SQLite would read the whole collection.
            moved = select(asset.id).where(asset.id == moved_from, in_collection)
            here = asset.id.in_(select(asset.id).where(here).union_all(moved))
        self._hold_assets(connection, here, analysed)
        existing: dict[bytes, list[Any]] = {}
        for row in connection.execute(
            select(
                *(asset.id, asset.path, asset.content_id, asset.collection_id),
                *(asset.managed, asset.taken_at, asset.deleted_at, asset.stack_id),
            ).where(here)
        ):
            # The moved asset comes first.
            place = files[0].stamp.path if row.id == moved_from else bytes(row.path)
            existing.setdefault(place, []).insert(0 if row.id == moved_from else 1, row)
        written, events = self._write_assets(connection, files, existing)
        # Where the files lie now, and where those that were moved lay before.
        here_now = select(asset.collection_id, asset.path, asset.managed, asset.taken_at)
        now = connection.execute(here_now.where(asset.id.in_(written))).all()
        before = (row for rows in existing.values() for row in rows)
        mark_folders(connection, folders_of([*now, *before]))
        if analysed:
            # The analyses make the contents' other assets searchable too.
            rows = connection.execute(
                select(asset.id, asset.collection_id, asset.deleted_at)
                .where(asset.content_id.in_(analysed), asset.id.not_in(written))
                .order_by(asset.id)
            ).all()
            events += _events(rows, "changed")
        left = {row.content_id for rows in existing.values() for row in rows}
        removed = drop_orphans(connection, left - {file.content_id for file in files})
        record_changes(connection, insert_embeddings(connection, embeddings), removed, events)

    def _write_assets(
        self, connection: Connection, files: Sequence[_File], existing: Mapping[bytes, list[Any]]
    ) -> tuple[list[int], list[AssetEvent]]:
        """The ids of the written assets, and their events; `existing` are the rows by path."""
        asset = schema.asset.c
        new: list[dict[str, Any]] = []
        keywords: list[Sequence[str]] = []
        events: list[AssetEvent] = []
        ids: list[int] = []
        for file in files:
            kept, *others = existing.get(file.stamp.path, [None])
            if kept is None and self._is_managed(file.stamp.path):
                raise _UploadPurged
            facts = storable_facts(file.facts)
            values = self._values(file, facts)
            # An upload is stored by hash; its sender gave its name.
            if kept is None or not kept.managed:
                values["file_name"] = os.path.basename(values["uri"])
            if others:
                connection.execute(delete(schema.asset).where(asset.id.in_([o.id for o in others])))
                events += dissolve_stacks(connection, {other.stack_id for other in others})
                events += _events(others, "removed")
            if kept is None:
                new.append(values)
                keywords.append(facts.keywords)
                continue
            values["rating"] = rating_beside_edited(facts.rating)
            connection.execute(update(schema.asset).where(asset.id == kept.id).values(**values))
            write_keywords(connection, kept.id, facts.keywords)
            if bytes(kept.path) != file.stamp.path:
                # It may have left the folder of its stack.
                events += dissolve_stacks(connection, {kept.stack_id})
            events += _events([kept], "changed")
            ids.append(kept.id)
        if new:
            assert self._collection_id is not None
            new_ids = next_ids(connection, schema.asset, len(new))
            now = utc_now()
            insert_many(
                connection,
                schema.asset,
                [
                    {**values, "id": asset_id, "added_at": now}
                    for asset_id, values in zip(new_ids, new, strict=True)
                ],
            )
            add_keywords(connection, dict(zip(new_ids, keywords, strict=True)))
            events += [AssetEvent(number, self._collection_id, "added") for number in new_ids]
            ids += new_ids
        return ids, events

    def _values(self, file: _File, facts: PhotoFacts) -> dict[str, Any]:
        """The columns of an asset that a file determines."""
        stamp = file.stamp
        return {
            "collection_id": self._collection_id,
            **path_columns(stamp.path),
            "content_id": file.content_id,
            "size": stamp.size,
            "mtime_ns": stamp.mtime_ns,
            "sidecar_stamp": stamp.sidecar,
            "etag": stamp.etag,
            "failure": file.failure,
            "dated_at": dated_at(facts, stamp.mtime_ns),
            **fact_columns(facts),
        }

    def _hold_assets(
        self, connection: Connection, here: ColumnElement[bool], analysed: Sequence[int]
    ) -> None:
        """Lock the rows that will be logged as changed until commit, so that none is trashed.

        In one statement and by id, as edits lock them. SQLite has one writer at a time anyway.
        """
        if self._database.is_sqlite:
            return
        asset = schema.asset.c
        connection.execute(
            select(asset.id)
            .where(or_(here, asset.content_id.in_(analysed)) if analysed else here)
            .order_by(asset.id)
            .with_for_update()
        ).all()


class _UploadPurged(Exception):
    """An upload was purged while it was analysed."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file to write as an asset, of a content or with the reason why it has none."""

    stamp: FileStamp
    content_id: int | None
    facts: PhotoFacts
    failure: str | None = None


def _is_of(sha256: str) -> ColumnElement[bool]:
    """Whether an asset is of a content."""
    content = schema.content.c
    number = select(content.id).where(content.sha256 == sha256).scalar_subquery()
    return schema.asset.c.content_id == number


def _events(rows: Sequence[Any], kind: str) -> list[AssetEvent]:
    """The events to log; assets in the trash were logged as removed."""
    return [AssetEvent(row.id, row.collection_id, kind) for row in rows if row.deleted_at is None]


def _above(path: bytes) -> Iterator[bytes]:
    """The folders above a path, without a slash at the end."""
    while path:
        path = path.rpartition(b"/")[0]
        yield path
