"""Writes rows of an export: the ids that a new home takes over, and the analyses.

A mark in `catalog_info` names the export that is being imported and how far it is. All its ids are
reserved at once, so that other writers get different ones even after an import was killed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Table, delete, exists, func, insert, select, text, update

from regard.core.records import Channel
from regard.storage.assets.texts import ensure_reader, insert_lines, region_ids
from regard.storage.database import schema
from regard.storage.database.change_log import moment
from regard.storage.database.counters import EMBEDDINGS
from regard.storage.database.embeddings import (
    EmbeddingBlock,
    ids_to_bytes,
    insert_embeddings,
)
from regard.storage.database.stored_pipelines import StoredPipeline
from regard.storage.export.reading import ExportedContent, Row

_MARK = "import"
_info = schema.catalog_info


@dataclass(slots=True)
class KeptIds:
    """The ids of contents after `through`, the last imported one, and of their rows.

    Earlier ids were used for contents that may be deleted since; ids are never reused.
    """

    export: str
    through: int

    def keeps(self, content: int) -> bool:
        """Whether a content of the export keeps its ids."""
        return content > self.through

    def advance(self, connection: Connection, through: int) -> None:
        """Record that contents up to this one are imported."""
        self.through = max(self.through, through)
        said = json.dumps({"export": self.export, "through": self.through})
        connection.execute(update(_info).where(_info.c.key == _MARK).values(value=said))

    @staticmethod
    def end(connection: Connection) -> None:
        """Record that the import is complete: later imports do not keep ids."""
        connection.execute(delete(_info).where(_info.c.key == _MARK))


def take_over_ids(
    connection: Connection, export: str, highest: Mapping[str, int], *, is_sqlite: bool
) -> KeptIds | None:
    """The ids to keep in a new home, or in one that continues this import; else None.

    `highest` are its highest ids by table.
    """
    said = connection.execute(
        select(_info.c.value).where(_info.c.key == _MARK)
    ).scalar_one_or_none()
    if said is not None:
        kept = KeptIds(**json.loads(said))
        return kept if kept.export == export else None
    if not _is_new(connection):
        return None
    for table, number in highest.items():
        if number:
            _reserve(connection, table, number, is_sqlite=is_sqlite)
    connection.execute(insert(_info).values(key=_MARK, value=""))
    kept = KeptIds(export, 0)
    kept.advance(connection, 0)
    return kept


def _is_new(connection: Connection) -> bool:
    """Whether the home never had rows, so that no id was used."""
    now = moment(connection)
    rows = select(exists().where(schema.asset.c.id > 0), exists().where(schema.content.c.id > 0))
    return not (now.embeddings or now.assets or any(connection.execute(rows).one()))


def _reserve(connection: Connection, table: str, number: int, *, is_sqlite: bool) -> None:
    """Make the next id of a table larger than a number."""
    if table == schema.embedding.name:
        connection.execute(
            update(schema.counter).where(schema.counter.c.name == EMBEDDINGS).values(value=number)
        )
    elif is_sqlite:
        values = {"name": table, "seq": number}
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
        connection.execute(
            text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), values
        )
    else:
        connection.execute(select(func.setval(func.pg_get_serial_sequence(table, "id"), number)))


_NOT_BY_LIVE = "it was imported with analyses of other models; index it to add the home's own"


@dataclass(slots=True)
class ImportReport:
    """What was imported; `conflicts` are (uri, reason) of assets that differ in the home.

    `unchanged` assets existed already. `pipelines` are the fingerprints of the analyses; `waiting`
    counts contents that the live pipeline has not analysed.
    """

    assets: int = 0
    unchanged: int = 0
    contents: int = 0
    regions: int = 0
    captions: int = 0
    lines: int = 0
    embeddings: int = 0
    waiting: int = 0
    pipelines: list[str] = field(default_factory=list)
    conflicts: list[tuple[str, str]] = field(default_factory=list)


def _counts(found: ExportedContent, exported: int, pipeline: StoredPipeline) -> dict[str, int]:
    """How many regions, captions and vectors a content has of a pipeline."""
    return {
        "region_count": sum(row["pipeline_id"] == exported for row in found.regions),
        "caption_count": sum(row["pipeline_id"] == exported for row in found.captions),
        "vector_count": sum(
            files.pipeline == pipeline.fingerprint for files, *_ in found.embeddings
        ),
    }


class AnalysisImport:
    """Writes analyses; `pipelines` are keyed by their ids in the export."""

    def __init__(self, pipelines: Mapping[int, StoredPipeline], report: ImportReport) -> None:
        """Count into a report. Set `live`, the home's live pipeline, before writing."""
        self.live: StoredPipeline | None = None
        self._pipelines = pipelines
        self._by_fingerprint = {one.fingerprint: one for one in pipelines.values()}
        self._report = report

    def write(
        self, connection: Connection, found: ExportedContent, content: int, *, keeps: bool
    ) -> list[EmbeddingBlock]:
        """Add missing analyses; return their embeddings."""
        analysis, failure = schema.analysis, schema.analysis_failure
        has, failed = (
            set(
                connection.execute(
                    select(table.c.pipeline_id).where(table.c.content_id == content)
                ).scalars()
            )
            for table in (analysis, failure)
        )
        new: dict[int, StoredPipeline] = {}
        for row in found.analyses:
            pipeline = self._pipelines[row["pipeline_id"]]
            owner = {"content_id": content, "pipeline_id": pipeline.id}
            if pipeline.id in has:
                continue
            if row["failure"] is None:
                counts = _counts(found, row["pipeline_id"], pipeline)
                connection.execute(insert(analysis).values(**owner, **counts))
                new[row["pipeline_id"]] = pipeline
            elif pipeline.id not in failed:
                connection.execute(insert(failure).values(**owner, reason=row["failure"]))
                failed.add(pipeline.id)
        here = has | {pipeline.id for pipeline in new.values()}
        if stale := failed & {pipeline.id for pipeline in new.values()}:
            connection.execute(
                delete(failure).where(
                    failure.c.content_id == content, failure.c.pipeline_id.in_(stale)
                )
            )
        if self.live is not None and self.live.id not in here:
            self._report.waiting += 1
            # Uploads wait for a job; for other files this note makes the pipeline complete.
            if self.live.id not in failed and not any(row["managed"] for row in found.assets):
                owner = {"content_id": content, "pipeline_id": self.live.id}
                connection.execute(insert(failure).values(**owner, reason=_NOT_BY_LIVE))
        return self._write_owned(connection, found, content, new, keeps=keeps)

    def _write_owned(
        self,
        connection: Connection,
        found: ExportedContent,
        content: int,
        new: Mapping[int, StoredPipeline],
        *,
        keeps: bool,
    ) -> list[EmbeddingBlock]:
        regions = self._insert_renamed(
            connection, schema.region, found.regions, content, new, keeps
        )
        captions = self._insert_renamed(
            connection, schema.caption, found.captions, content, new, keeps, region_id=regions
        )
        rows: list[dict[str, Any]] = []
        for files, group in groupby(found.embeddings, key=lambda one: one[0]):
            pipeline = self._by_fingerprint[files.pipeline]
            if pipeline not in new.values():
                continue
            channel = pipeline.channels[Channel(files.space, files.channel.kind)]
            _, owners, vectors = zip(*group, strict=True)
            ids = [owner["id"] for owner in owners]
            row = {
                "content_id": content,
                "pipeline_id": pipeline.id,
                "channel_id": channel.id,
                "vector_count": len(ids),
                "regions": ids_to_bytes([regions.get(owner["region_id"]) for owner in owners]),
                "captions": ids_to_bytes([captions.get(owner["caption_id"]) for owner in owners]),
                "vectors": b"".join(vectors),
            }
            # Exports of homes that had one row for each vector may have gaps.
            if keeps and ids == list(range(ids[0], ids[0] + len(ids))):
                row["id"] = ids[0]
            rows.append(row)
        blocks = insert_embeddings(connection, rows)
        self._report.regions += len(regions)
        self._report.captions += len(captions)
        self._report.embeddings += sum(block.count for block in blocks)
        return blocks

    def _insert_renamed(
        self,
        connection: Connection,
        table: Table,
        rows: Sequence[Row],
        content: int,
        new: Mapping[int, StoredPipeline],
        keeps: bool,
        **references: Mapping[int, int],
    ) -> dict[int, int]:
        """Insert rows of the new pipelines; return new ids by the ids in the export."""
        chosen = [row for row in rows if row["pipeline_id"] in new]
        renamed = [
            {
                **row,
                "content_id": content,
                "pipeline_id": new[row["pipeline_id"]].id,
                **{name: ids.get(row[name]) for name, ids in references.items()},
            }
            for row in chosen
        ]
        numbers = insert_rows(connection, table, renamed, keeps=keeps)
        return {row["id"]: number for row, number in zip(chosen, numbers, strict=True)}


def write_reading(
    connection: Connection, found: ExportedContent, content: int, *, keeps: bool
) -> int:
    """Add the reading of a content that has none; return the number of its lines."""
    reading = schema.reading
    there = select(reading.c.content_id).where(reading.c.content_id == content)
    if not found.readings or connection.execute(there).first() is not None:
        return 0
    row = found.readings[0]
    values = {"content_id": content, "failure": row["failure"], "line_count": len(found.lines)}
    reader = ensure_reader(connection, row["reader"])
    connection.execute(insert(reading).values(reader_id=reader, **values))
    ids = [line["id"] for line in found.lines]
    if not keeps:
        ids = list(region_ids(connection, len(ids)))
    lines = [
        {**line, "content_id": content, "id": number}
        for line, number in zip(found.lines, ids, strict=True)
    ]
    insert_lines(connection, lines)
    return len(lines)


def insert_rows(
    connection: Connection, table: Table, rows: Sequence[Row], *, keeps: bool
) -> list[int]:
    """Insert rows with their own or new ids; return the ids in the order of the rows."""
    if not rows:
        return []
    named = rows if keeps else [{k: v for k, v in row.items() if k != "id"} for row in rows]
    statement = insert(table).returning(table.c.id, sort_by_parameter_order=True)
    return [int(number) for number in connection.execute(statement, named).scalars()]
