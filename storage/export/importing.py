"""Imports a validated export into a new or used home, without running a model.

Contents are written with all their rows, a few dozen per transaction, under the writer lease: a
killed import leaves complete contents, and the same command continues it. Existing rows of the
home stay as they are. A new home takes over the ids of the export, so that references to them stay
valid; any other assigns new ones. Analyses of other pipelines are kept beside those of the live
one.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, exists, insert, select, update

from regard.core.catalog import Exclusion
from regard.storage.assets.albums import write_members
from regard.storage.assets.editing import changed_events
from regard.storage.assets.rows import (
    add_tags,
    ensure_collection,
    exclude,
    find_collection,
    path_columns,
    place_columns,
    write_custom,
)
from regard.storage.assets.stacks import (
    Folder,
    folder_of,
    mark_folders,
    new_stack_number,
    update_stacks,
)
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import AssetEvent, record_changes
from regard.storage.database.connection import insert_into
from regard.storage.database.embeddings import EmbeddingBlock
from regard.storage.database.lease import BUILDER, WRITER, SqlWriterLease, hold_writer_lease
from regard.storage.database.stored_pipelines import (
    StoredPipeline,
    ensure_pipeline,
    live_pipeline,
    make_live,
)
from regard.storage.export.checking import CheckedExport
from regard.storage.export.imported_rows import (
    AnalysisImport,
    ImportReport,
    KeptIds,
    insert_rows,
    take_over_ids,
    write_reading,
)
from regard.storage.export.layout import TABLES
from regard.storage.export.reading import Export, ExportedContent

Row = dict[str, Any]

_CONTENTS_AT_ONCE = 50
_FAILED_AT_ONCE = 500
# In one statement; databases limit its parameters.
_ASSETS_AT_ONCE = 10_000
_IN_OWN_TABLES = ("keywords", "tags", "custom")

_asset, _content = schema.asset.c, schema.content.c


def import_catalog(
    catalog: Catalog,
    checked: CheckedExport,
    *,
    place_of: Callable[[str], bytes],
    should_stop: Callable[[], bool] = lambda: False,
    advance: Callable[[], None] = lambda: None,
) -> ImportReport:
    """Import a validated export into a catalog.

    `place_of` gives the path of a managed file by its name: the new path of uploads. `advance`
    is called after each content. Raises LeaseHeld while another process indexes or reindexes,
    PipelineConflict while one of the export's pipelines is being deleted, KeyboardInterrupt
    between two transactions if `should_stop` returns true.
    """
    export = checked.export
    with _leases(catalog):
        # Check before writing; the held leases keep other pipelines from going live.
        pass
    live = next((one for one in export.pipelines.values() if one.live), None)
    with catalog.database.writing() as connection:
        catalog.database.take_turns(connection)
        if live is not None:
            make_live(connection, live.spec)
        pipelines = {
            number: ensure_pipeline(connection, one.spec)
            for number, one in export.pipelines.items()
        }
        _remember_former(connection, export, pipelines)
    with _leases(catalog) as leases:
        work = _Import(catalog, export, pipelines, leases, place_of)
        work.begin(checked.highest)
        work.write(should_stop, advance)
    update_stacks(catalog.database)
    return work.report


class _Import:
    """One running import."""

    def __init__(
        self,
        catalog: Catalog,
        export: Export,
        pipelines: Mapping[int, StoredPipeline],
        leases: Sequence[SqlWriterLease],
        place_of: Callable[[str], bytes],
    ) -> None:
        self._database = catalog.database
        self._export = export
        self._leases = leases
        self._place_of = place_of
        self._kept: KeptIds | None = None
        # Of the assets that the current transaction has written.
        self._folders: set[Folder] = set()
        self.report = ImportReport(pipelines=sorted(one.fingerprint for one in pipelines.values()))
        self._analyses = AnalysisImport(pipelines, self.report)
        # The ids in the home of the export's assets that are in albums.
        self._in_albums: dict[int, int | None] = dict.fromkeys(
            row["asset_id"] for row in export.album_assets()
        )
        # The numbers in the home of stacks that people made.
        self._stacks: dict[int, int] = {}
        # The same of contents that are in pairs of distinct ones.
        self._in_pairs: dict[int, int | None] = {
            content: None
            for row in export.distinct_pairs()
            for content in (row["first_id"], row["second_id"])
        }

    def begin(self, highest: Mapping[str, int]) -> None:
        """Keep ids if the home is new or continues this import."""
        export = self._export.manifest.export
        with self._writing() as connection:
            for row in self._export.collections.values():
                if find_collection(connection, row["name"]) is None:
                    values = {"name": row["name"], "created_at": row["created_at"]}
                    connection.execute(insert(schema.collection).values(**values))
            self._write_exclusions(connection)
            self._analyses.live = live_pipeline(connection)
            self._kept = take_over_ids(
                connection, export, highest, is_sqlite=self._database.is_sqlite
            )

    def _write_exclusions(self, connection: Connection) -> None:
        """Add what the home does not say of the same pattern or path itself."""
        table = schema.exclusion
        columns = table.c.collection_id, table.c.path, table.c.pattern
        said = {
            (number, bytes(path), None if pattern is None else bytes(pattern))
            for number, path, pattern in connection.execute(select(*columns))
        }
        for row in self._export.exclusions():
            number = ensure_collection(connection, self._collection(row))
            if (number, row["path"], row["pattern"]) not in said:
                one = Exclusion(row["path"], row["pattern"], row["is_left_out"])
                exclude(connection, number, [one])

    def write(self, should_stop: Callable[[], bool], advance: Callable[[], None]) -> None:
        """Write everything that is missing."""
        contents = self._export.contents()
        while some := list(islice(contents, _CONTENTS_AT_ONCE)):
            if should_stop():
                raise KeyboardInterrupt
            with self._writing() as connection:
                added: list[EmbeddingBlock] = []
                events: list[AssetEvent] = []
                for found in some:
                    self._write_content(connection, found, added, events)
                if self._kept is not None:
                    self._kept.advance(connection, some[-1].content["id"])
                record_changes(connection, added, [], events)
            for _ in some:
                advance()
        failed = self._export.failed_assets()
        while rows := list(islice(failed, _FAILED_AT_ONCE)):
            with self._writing() as connection:
                events = []
                for row in rows:
                    if self._is_wanted(connection, row, None, self._path(row, None)):
                        keeps = self._kept is not None
                        self._write_asset(connection, row, None, None, events, keeps=keeps)
                record_changes(connection, [], [], events)
        with self._writing() as connection:
            self._write_albums(connection)
            self._write_distinct_pairs(connection)
            if self._kept is not None:
                self._kept.end(connection)

    def _write_albums(self, connection: Connection) -> None:
        """Add albums, and assets to those of the same name; saved searches stay as they are."""
        album = schema.album.c
        homes: dict[int, int] = {}
        for row in self._export.albums():
            there = connection.execute(
                select(album.id, album.query).where(album.name == row["name"])
            ).one_or_none()
            if there is None:
                values = {name: row[name] for name in ("name", "query", "created_at")}
                homes[row["id"]] = connection.execute(
                    insert(schema.album).values(**values).returning(album.id)
                ).scalar_one()
            elif there.query == row["query"]:
                homes[row["id"]] = there.id
            else:
                self.report.conflicts.append(
                    (row["name"], "the home has another album of this name")
                )
        members: dict[int, list[int]] = {}
        for row in self._export.album_assets():
            number = self._in_albums[row["asset_id"]]
            if number is not None and row["album_id"] in homes:
                members.setdefault(homes[row["album_id"]], []).append(number)
        joined = sorted(
            {
                number
                for home, assets in members.items()
                for number in write_members(connection, home, assets)
            }
        )
        events: list[AssetEvent] = []
        for start in range(0, len(joined), _ASSETS_AT_ONCE):
            some = joined[start : start + _ASSETS_AT_ONCE]
            events += changed_events(
                connection.execute(
                    select(_asset.id, _asset.collection_id, _asset.deleted_at).where(
                        _asset.id.in_(some)
                    )
                ).all()
            )
        if events:
            record_changes(connection, [], [], events)

    def _write_distinct_pairs(self, connection: Connection) -> None:
        """Remember what people said to be no duplicates, of contents that were imported."""
        rows = []
        for row in self._export.distinct_pairs():
            ids = self._in_pairs[row["first_id"]], self._in_pairs[row["second_id"]]
            known = sorted(number for number in ids if number is not None)
            if len(known) == 2:
                rows.append({"first_id": known[0], "second_id": known[1]})
        if rows:
            connection.execute(
                insert_into(connection, schema.distinct_pair).on_conflict_do_nothing(), rows
            )

    def _write_content(
        self,
        connection: Connection,
        found: ExportedContent,
        added: list[EmbeddingBlock],
        events: list[AssetEvent],
    ) -> None:
        content = found.content
        there = connection.execute(
            select(schema.content)
            .where(_content.sha256 == content["sha256"])
            # The lock makes transactions that drop contents wait, and then see the new assets.
            .with_for_update(read=True, key_share=True)
        ).one_or_none()
        if there is not None and (there.width, there.height) != (
            content["width"],
            content["height"],
        ):
            self.report.conflicts += [
                (row["uri"], "the home has the same bytes as an image of another size")
                for row in found.assets
            ]
            return
        keeps = self._kept is not None and self._kept.keeps(content["id"])
        known = None if there is None else there.id
        wanted = [
            row
            for row in found.assets
            if self._is_wanted(connection, row, known, self._path(row, content["sha256"]))
        ]
        if there is None and not wanted:
            return
        if there is None:
            columns = {c.name: content[c.name] for c in TABLES["contents.parquet"]}
            number = insert_rows(connection, schema.content, [columns], keeps=keeps)[0]
            self.report.contents += 1
        else:
            number = there.id
        if content["id"] in self._in_pairs:
            self._in_pairs[content["id"]] = number
        news = self._analyses.write(connection, found, number, keeps=keeps)
        added += news
        lines = write_reading(connection, found, number, keeps=keeps)
        self.report.lines += lines
        written = {
            self._write_asset(connection, row, number, content["sha256"], events, keeps=keeps)
            for row in wanted
        }
        if (news or lines) and there is not None:
            # Existing assets of the content have become searchable in more ways.
            twins = connection.execute(
                select(_asset.id, _asset.collection_id).where(
                    _asset.content_id == number, _asset.deleted_at.is_(None)
                )
            ).all()
            events += [
                AssetEvent(row.id, row.collection_id, "changed")
                for row in twins
                if row.id not in written
            ]

    def _is_wanted(
        self, connection: Connection, row: Row, content: int | None, path: bytes
    ) -> bool:
        """Whether the home lacks the asset; `content` is its content's id in the home, if any.

        An asset that differs in the home is reported as a conflict.
        """
        there = connection.execute(
            select(_asset.id, _asset.content_id, _asset.chosen_stack)
            .join_from(schema.asset, schema.collection)
            .where(schema.collection.c.name == self._collection(row), _asset.path == path)
        ).one_or_none()
        if there is None:
            return True
        if there.content_id == content and (content is None) == (row["content_id"] is None):
            self.report.unchanged += 1
            if row["id"] in self._in_albums:
                self._in_albums[row["id"]] = there.id
            if row["chosen_stack"] and there.chosen_stack:
                # This import was interrupted, and what it brought before is in the stack.
                self._stacks.setdefault(row["chosen_stack"], there.chosen_stack)
        else:
            self.report.conflicts.append((row["uri"], "the home has another photograph there"))
        return False

    def _path(self, row: Row, sha256: str | None) -> bytes:
        """The path of the asset's file; an upload's is in the managed store."""
        path: bytes = row["path"]
        if not row["managed"]:
            return path
        # Managed files are named by hash, also those of failed assets.
        name = os.fsdecode(os.path.basename(path))
        return self._place_of(name if sha256 is None or name.startswith(sha256) else sha256)

    def _collection(self, row: Row) -> str:
        return str(self._export.collections[row["collection_id"]]["name"])

    def _write_asset(
        self,
        connection: Connection,
        row: Row,
        content: int | None,
        sha256: str | None,
        events: list[AssetEvent],
        *,
        keeps: bool,
    ) -> int:
        """Insert an asset with its keywords, tags and fields; return its id."""
        collection = ensure_collection(connection, self._collection(row))
        path = self._path(row, sha256)
        values = {
            **{name: value for name, value in row.items() if name not in _IN_OWN_TABLES},
            "collection_id": collection,
            "content_id": content,
            **path_columns(path),
            **place_columns(row["latitude"], row["longitude"]),
            "chosen_stack": self._stack_number(connection, row["chosen_stack"]),
        }
        if row["external_id"] is not None and _has_external_id(connection, collection, row):
            values["external_id"] = None
            self.report.conflicts.append(
                (
                    row["uri"],
                    f"its external id {row['external_id']} belongs to another asset and was dropped",
                )
            )
        number = insert_rows(connection, schema.asset, [values], keeps=keeps)[0]
        folder = folder_of(collection, path, row["managed"], row["taken_at"])
        if folder is not None:
            self._folders.add(folder)
        if row["id"] in self._in_albums:
            self._in_albums[row["id"]] = number
        if row["keywords"]:
            connection.execute(
                insert(schema.asset_keyword),
                [
                    {"asset_id": number, "position": position, "keyword": word}
                    for position, word in enumerate(row["keywords"])
                ],
            )
        add_tags(connection, [number], list(dict.fromkeys(row["tags"])))
        if row["custom"] is not None:
            write_custom(connection, number, json.loads(row["custom"]))
        self.report.assets += 1
        if row["deleted_at"] is None:
            events.append(AssetEvent(number, collection, "added"))
        return number

    def _stack_number(self, connection: Connection, chosen: int | None) -> int | None:
        """The number in the home for what people chose where the export was made."""
        if not chosen:
            return chosen
        if chosen not in self._stacks:
            self._stacks[chosen] = new_stack_number(self._database, connection)
        return self._stacks[chosen]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._database.writing() as connection:
            for lease in self._leases:
                lease.guard(connection)
            yield connection
            mark_folders(connection, self._folders)
            self._folders.clear()


@contextlib.contextmanager
def _leases(catalog: Catalog) -> Iterator[list[SqlWriterLease]]:
    """Hold both the writer and the builder lease."""
    with (
        hold_writer_lease(catalog.database, WRITER) as writer,
        hold_writer_lease(catalog.database, BUILDER) as builder,
    ):
        yield [writer, builder]


def _has_external_id(connection: Connection, collection: int, row: Row) -> bool:
    found = exists().where(
        _asset.collection_id == collection, _asset.external_id == row["external_id"]
    )
    return bool(connection.execute(select(found)).scalar_one())


def _remember_former(
    connection: Connection, export: Export, pipelines: Mapping[int, StoredPipeline]
) -> None:
    """Record which pipelines were live before, so that the home can roll back to them."""
    table = schema.pipeline
    for number, one in export.pipelines.items():
        if not one.live and one.replaced_at is not None:
            connection.execute(
                update(table)
                .where(table.c.id == pipelines[number].id, table.c.live_since.is_(None))
                .values(replaced_at=one.replaced_at)
            )
