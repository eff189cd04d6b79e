"""Writes the catalog at one moment as Parquet tables, .npy vectors and COCO files.

Files are written into a temporary folder, synced, and renamed, so that an export is complete or
absent. One read transaction covers the export, content by content: memory does not grow with the
library, and concurrent writes are not seen.
"""

from __future__ import annotations

import datetime
import os
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Table,
    and_,
    exists,
    func,
    null,
    select,
    union_all,
)

from regard.core.errors import NotFound
from regard.core.words import composed
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.embeddings import ids_from_bytes
from regard.storage.database.stored_pipelines import live_pipeline, stored_pipelines
from regard.storage.export.coco import CocoWriter
from regard.storage.export.files import TableWriter, VectorWriter, load_pyarrow, written_aside
from regard.storage.export.layout import (
    COCO_CAPTIONS,
    COCO_INSTANCES,
    MANIFEST,
    OWNERS,
    TABLES,
    ChannelFiles,
    Manifest,
    SealedFile,
    file_digest,
)

_CONTENTS_AT_ONCE = 200
_ASSETS_AT_ONCE = 2000
_asset, _content = schema.asset.c, schema.content.c

Row = dict[str, Any]


@dataclass(slots=True)
class ExportReport:
    """The numbers of rows written."""

    assets: int = 0
    contents: int = 0
    regions: int = 0
    captions: int = 0
    lines: int = 0
    embeddings: int = 0
    bytes: int = 0
    pipelines: list[str] = field(default_factory=list)


def export_catalog(catalog: Catalog, folder: Path, collections: Sequence[str] = ()) -> ExportReport:
    """Export the named collections, or all, into a new or empty folder.

    Raises NotFound for an unknown collection, Conflict for a folder that is not empty, CannotWork
    if it can't be written, MissingDependency without pyarrow.
    """
    load_pyarrow()
    folder = Path(os.path.abspath(folder))
    with written_aside(folder) as aside:
        with catalog.database.reading() as connection:
            report, manifest = _Export(connection, aside, collections).write(catalog.uuid)
        (aside / MANIFEST).write_bytes(manifest.to_bytes())
        report.bytes = sum(file.bytes for file in manifest.files.values())
    return report


class _Export:
    """One running export, inside a read transaction."""

    def __init__(self, connection: Connection, folder: Path, collections: Sequence[str]) -> None:
        self._connection = connection
        self._folder = folder
        self._collections = _collections(connection, collections)
        self._ids = [row["id"] for row in self._collections]
        self._is_whole = not collections
        self._pipelines = stored_pipelines(connection)
        self._live = live_pipeline(connection)
        self._report = ExportReport(pipelines=[one.fingerprint for one in self._pipelines])

    def write(self, catalog: str) -> tuple[ExportReport, Manifest]:
        """Write all files except the manifest, which is returned."""
        channels = {
            stored.id: ChannelFiles.of(
                pipeline.fingerprint, stored.channel, stored.dimension, number
            )
            for number, (pipeline, stored) in enumerate(
                (pipeline, stored)
                for pipeline in self._pipelines
                for stored in pipeline.channels.values()
            )
        }
        (self._folder / "embeddings").mkdir()
        with ExitStack() as stack:
            tables = {
                name: stack.enter_context(TableWriter(self._folder / name, columns))
                for name, columns in TABLES.items()
            }
            owners, vectors = {}, {}
            for number, files in channels.items():
                count = self._count_embeddings(number)
                path = self._folder / files.vectors
                vectors[number] = stack.enter_context(VectorWriter(path, count, files.dimension))
                path = self._folder / files.owners
                owners[number] = stack.enter_context(TableWriter(path, OWNERS))
            coco = None
            if self._live is not None:
                made = self._live
                coco = stack.enter_context(
                    CocoWriter(self._folder, self._root(), made.profile, made.fingerprint)
                )
            tables["collections.parquet"].add(self._collections)
            tables["exclusions.parquet"].add(self._exclusions())
            tables["albums.parquet"].add(self._albums())
            tables["album_assets.parquet"].add(self._album_assets())
            tables["distinct_pairs.parquet"].add(self._distinct_pairs())
            tables["pipelines.parquet"].add(self._pipeline_rows())
            for contents in self._pages():
                self._write_contents(contents, tables, owners, vectors, coco)
            for failed in self._failed_assets():
                tables["assets.parquet"].add(failed)
        rows: dict[str, int] = {name: table.count for name, table in tables.items()}
        for number, files in channels.items():
            rows[files.owners] = rows[files.vectors] = owners[number].count
            self._report.embeddings += owners[number].count
        self._report.assets = rows["assets.parquet"]
        self._report.contents = rows["contents.parquet"]
        self._report.regions = rows["regions.parquet"]
        self._report.captions = rows["captions.parquet"]
        self._report.lines = rows["text_lines.parquet"]
        names = [*rows, *((COCO_INSTANCES, COCO_CAPTIONS) if coco is not None else ())]
        return self._report, Manifest(
            export=str(uuid.uuid4()),
            catalog=catalog,
            regard=version("regard"),
            created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            collections=tuple(row["name"] for row in self._collections),
            channels=tuple(channels.values()),
            files={name: _sealed(self._folder / name, rows.get(name)) for name in names},
        )

    def _write_contents(
        self,
        contents: Sequence[Row],
        tables: Mapping[str, TableWriter],
        owners: Mapping[int, TableWriter],
        vectors: Mapping[int, VectorWriter],
        coco: CocoWriter | None,
    ) -> None:
        """Write a page of contents and their rows."""
        ids = [content["id"] for content in contents]
        assets = self._assets(_asset.content_id.in_(ids), _asset.content_id, _asset.id)
        regions = self._of_contents(schema.region, ids, "pipeline_id", "ordinal")
        captions = self._of_contents(schema.caption, ids, "id")
        tables["contents.parquet"].add(contents)
        tables["assets.parquet"].add(assets)
        tables["analyses.parquet"].add(self._analyses(ids))
        tables["regions.parquet"].add(regions)
        tables["captions.parquet"].add(captions)
        tables["readings.parquet"].add(self._readings(ids))
        tables["text_lines.parquet"].add(self._text_lines(ids))
        found: dict[int, list[Row]] = defaultdict(list)
        for row in self._of_contents(schema.embedding, ids, "id"):
            found[row["channel_id"]].append(row)
        for channel, rows in found.items():
            owners[channel].add([owner for row in rows for owner in _owners(row)])
            vectors[channel].add(
                [row["vectors"] for row in rows], [row["vector_count"] for row in rows]
            )
        if coco is not None and self._live is not None:
            of_content = [_by_content(rows, self._live.id) for rows in (regions, captions)]
            of_asset = _by_content(assets, None)
            for content in contents:
                if content["duration_ms"] is not None:
                    # COCO describes images alone.
                    continue
                number = content["id"]
                coco.add(content, of_asset[number], *(rows[number] for rows in of_content))

    def _pages(self) -> Iterator[list[Row]]:
        """Contents with an asset in the collections, by id."""
        after = 0
        while True:
            rows = self._rows(
                select(schema.content)
                .where(_content.id > after, self._is_chosen(_content.id))
                .order_by(_content.id)
                .limit(_CONTENTS_AT_ONCE)
            )
            if rows:
                yield rows
            if len(rows) < _CONTENTS_AT_ONCE:
                return
            after = rows[-1]["id"]

    def _failed_assets(self) -> Iterator[list[Row]]:
        after = 0
        while True:
            rows = self._assets(
                and_(_asset.content_id.is_(None), _asset.id > after),
                _asset.id,
                limit=_ASSETS_AT_ONCE,
            )
            if rows:
                yield rows
            if len(rows) < _ASSETS_AT_ONCE:
                return
            after = rows[-1]["id"]

    def _assets(
        self, where: ColumnElement[bool], *order: ColumnElement[Any], limit: int | None = None
    ) -> list[Row]:
        """Assets of the collections with their keywords and tags."""
        rows = self._rows(
            select(schema.asset)
            .where(where, _asset.collection_id.in_(self._ids))
            .order_by(*order)
            .limit(limit)
        )
        ids = [row["id"] for row in rows]
        words: dict[str, dict[int, list[str]]] = {}
        for name, table, text, place in (
            ("keywords", schema.asset_keyword, "keyword", "position"),
            ("tags", schema.asset_tag, "tag", "tag"),
        ):
            of_asset: dict[int, list[str]] = defaultdict(list)
            for start in range(0, len(ids), _ASSETS_AT_ONCE):
                some = ids[start : start + _ASSETS_AT_ONCE]
                for found in self._rows(
                    select(table)
                    .where(table.c.asset_id.in_(some))
                    .order_by(table.c.asset_id, table.c[place])
                ):
                    of_asset[found["asset_id"]].append(found[text])
            # In the order of code points on every database.
            words[name] = (
                of_asset if name == "keywords" else {k: sorted(v) for k, v in of_asset.items()}
            )
        for row in rows:
            row["path"] = bytes(row["path"])
            for name, of_asset in words.items():
                row[name] = of_asset.get(row["id"], [])
        return rows

    def _of_contents(self, table: Table, ids: Sequence[int], *order: str) -> list[Row]:
        """Rows of the exported pipelines by content."""
        kept = [pipeline.id for pipeline in self._pipelines]
        rows = self._rows(
            select(table)
            .where(table.c.content_id.in_(ids), table.c.pipeline_id.in_(kept))
            .order_by(table.c.content_id, *(table.c[name] for name in order))
        )
        for row in rows:
            if "mask" in row:
                row["mask"] = bytes(row["mask"])
        return rows

    def _analyses(self, ids: Sequence[int]) -> list[Row]:
        done, failed = schema.analysis.c, schema.analysis_failure.c
        kept = [pipeline.id for pipeline in self._pipelines]
        both = union_all(
            *(
                select(table.content_id, table.pipeline_id, reason.label("failure")).where(
                    table.content_id.in_(ids), table.pipeline_id.in_(kept)
                )
                for table, reason in ((done, null()), (failed, failed.reason))
            )
        ).subquery()
        return self._rows(
            select(both).order_by(both.c.content_id, both.c.pipeline_id, both.c.failure.is_(None))
        )

    def _count_embeddings(self, channel: int) -> int:
        embedding = schema.embedding.c
        return int(
            self._connection.execute(
                select(func.coalesce(func.sum(embedding.vector_count), 0)).where(
                    embedding.channel_id == channel, self._is_chosen(embedding.content_id)
                )
            ).scalar_one()
        )

    def _is_chosen(self, content: ColumnElement[int]) -> ColumnElement[bool]:
        return exists().where(_asset.content_id == content, _asset.collection_id.in_(self._ids))

    def _readings(self, contents: Sequence[int]) -> list[Row]:
        reading = schema.reading.c
        return self._rows(
            select(reading.content_id, schema.reader.c.spec.label("reader"), reading.failure)
            .join_from(schema.reading, schema.reader)
            .where(reading.content_id.in_(contents))
            .order_by(reading.content_id)
        )

    def _text_lines(self, contents: Sequence[int]) -> list[Row]:
        line = schema.text_line.c
        rows = self._rows(
            select(schema.text_line)
            .where(line.content_id.in_(contents))
            .order_by(line.content_id, line.ordinal)
        )
        return [{**row, "corners": bytes(row["corners"])} for row in rows]

    def _pipeline_rows(self) -> list[Row]:
        wanted = TABLES["pipelines.parquet"]
        rows = self._rows(select(schema.pipeline).order_by(schema.pipeline.c.id))
        kept = {pipeline.id for pipeline in self._pipelines}
        return [{c.name: row[c.name] for c in wanted} for row in rows if row["id"] in kept]

    def _exclusions(self) -> list[Row]:
        table = schema.exclusion
        rows = self._rows(
            select(table.c.collection_id, table.c.path, table.c.pattern, table.c.is_left_out)
            .where(table.c.collection_id.in_(self._ids))
            .order_by(table.c.id)
        )
        for row in rows:
            row["path"] = bytes(row["path"])
            row["pattern"] = None if row["pattern"] is None else bytes(row["pattern"])
        return rows

    def _albums(self) -> list[Row]:
        """The albums with an asset in the collections; of all collections, every one."""
        album, member = schema.album.c, schema.album_asset.c
        inside = exists().where(
            member.album_id == album.id,
            _asset.id == member.asset_id,
            _asset.collection_id.in_(self._ids),
        )
        statement = select(schema.album).order_by(album.id)
        return self._rows(statement if self._is_whole else statement.where(inside))

    def _album_assets(self) -> list[Row]:
        member = schema.album_asset.c
        return self._rows(
            select(member.album_id, member.asset_id)
            .join(schema.asset, _asset.id == member.asset_id)
            .where(_asset.collection_id.in_(self._ids))
            .order_by(member.album_id, member.asset_id)
        )

    def _distinct_pairs(self) -> list[Row]:
        pair = schema.distinct_pair.c
        return self._rows(
            select(pair.first_id, pair.second_id)
            .where(self._is_chosen(pair.first_id), self._is_chosen(pair.second_id))
            .order_by(pair.first_id, pair.second_id)
        )

    def _root(self) -> bytes:
        """The deepest folder that contains all assets of the collections."""
        chosen = and_(_asset.collection_id.in_(self._ids), _asset.content_id.is_not(None))
        ends = [
            self._connection.execute(
                select(_asset.path).where(chosen).order_by(order).limit(1)
            ).scalar_one_or_none()
            for order in (_asset.path.asc(), _asset.path.desc())
        ]
        # In byte order, all paths share what the first and the last share.
        first, last = (b"/" if end is None else os.path.dirname(bytes(end)) for end in ends)
        return os.path.commonpath([first, last])

    def _rows(self, statement: Select[Any]) -> list[Row]:
        return [dict(row) for row in self._connection.execute(statement).mappings()]


def _collections(connection: Connection, names: Sequence[str]) -> list[Row]:
    table: FromClause = schema.collection
    names = [composed(name) for name in names]
    rows = [
        dict(row)
        for row in connection.execute(select(table).order_by(table.c.id)).mappings()
        if not names or row["name"] in names
    ]
    missing = set(names) - {row["name"] for row in rows}
    if missing:
        raise NotFound(
            f"there is no collection {min(missing)!r}", remedy="see them with: regard status"
        )
    return rows


def _owners(row: Row) -> Iterator[Row]:
    """The owner of each vector of a row of `embedding`."""
    count = row["vector_count"]
    regions, captions = (
        ids_from_bytes(row[name], count).tolist() for name in ("regions", "captions")
    )
    for place, (region, caption) in enumerate(zip(regions, captions, strict=True)):
        yield {
            "id": row["id"] + place,
            "content_id": row["content_id"],
            "region_id": region or None,
            "caption_id": caption or None,
        }


def _by_content(rows: Sequence[Row], pipeline: int | None) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if pipeline is None or row["pipeline_id"] == pipeline:
            found[row["content_id"]].append(row)
    return found


def _sealed(path: Path, rows: int | None) -> SealedFile:
    return SealedFile(path.stat().st_size, file_digest(path), rows)
