"""Writes what pipelines say of imported contents, each under its own, beside what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Table, delete, insert, select

from regard.core.records import Channel
from regard.storage.database import schema
from regard.storage.export.reading import ExportedContent, Row
from regard.storage.pipelines.stored import StoredPipeline

_NOT_BY_LIVE = "it was imported with what other models say of it; index it to add the home's own"


@dataclass(slots=True)
class ImportReport:
    """What came, and what did not: `conflicts` are (uri, reason) of assets that the home has otherwise.

    `unchanged` assets were there already. `pipelines` are the fingerprints that the analyses are of;
    `waiting` counts contents that the live pipeline has not analysed.
    """

    assets: int = 0
    unchanged: int = 0
    contents: int = 0
    regions: int = 0
    captions: int = 0
    embeddings: int = 0
    waiting: int = 0
    pipelines: list[str] = field(default_factory=list)
    conflicts: list[tuple[str, str]] = field(default_factory=list)


class AnalysisImport:
    """Writes analyses of the pipelines, which are known by their ids in the export."""

    def __init__(self, pipelines: Mapping[int, StoredPipeline], report: ImportReport) -> None:
        """Count into a report; `live` is the home's live pipeline, set before anything is written."""
        self.live: StoredPipeline | None = None
        self._pipelines = pipelines
        self._by_fingerprint = {one.fingerprint: one for one in pipelines.values()}
        self._report = report

    def write(
        self, connection: Connection, found: ExportedContent, content: int, *, keeps: bool
    ) -> list[tuple[int, int]]:
        """Add what the home does not have of each pipeline; (channel id, embedding id) of what is new."""
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
                connection.execute(insert(analysis).values(**owner))
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
            # Uploads wait for a job; of others nothing else would tell that they may be without.
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
    ) -> list[tuple[int, int]]:
        regions = self._insert_renamed(
            connection, schema.region, found.regions, content, new, keeps
        )
        captions = self._insert_renamed(
            connection, schema.caption, found.captions, content, new, keeps, region_id=regions
        )
        rows, channels = [], []
        for files, owner, vector in found.embeddings:
            pipeline = self._by_fingerprint[files.pipeline]
            if pipeline not in new.values():
                continue
            channel = pipeline.channels[Channel(files.space, files.channel.kind)]
            channels.append(channel.id)
            rows.append(
                {
                    "id": owner["id"],
                    "content_id": content,
                    "pipeline_id": pipeline.id,
                    "channel_id": channel.id,
                    "region_id": regions.get(owner["region_id"]),
                    "caption_id": captions.get(owner["caption_id"]),
                    "vector": vector,
                }
            )
        numbers = insert_rows(connection, schema.embedding, rows, keeps=keeps)
        self._report.regions += len(regions)
        self._report.captions += len(captions)
        self._report.embeddings += len(numbers)
        return list(zip(channels, numbers, strict=True))

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
        """Insert rows of the new pipelines; ids here by the ids of the export."""
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


def insert_rows(
    connection: Connection, table: Table, rows: Sequence[Row], *, keeps: bool
) -> list[int]:
    """Insert rows, under their own ids or new ones; the ids in the order of the rows."""
    if not rows:
        return []
    named = rows if keeps else [{k: v for k, v in row.items() if k != "id"} for row in rows]
    statement = insert(table).returning(table.c.id, sort_by_parameter_order=True)
    return [int(number) for number in connection.execute(statement, named).scalars()]
