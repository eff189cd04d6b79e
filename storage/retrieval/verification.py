"""Checks the catalog's tables and counters, the vector indexes and the keyword index.

Rebuilds the counters and the keyword index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Exists,
    ScalarSelect,
    Table,
    TableClause,
    and_,
    column,
    delete,
    except_,
    exists,
    func,
    insert,
    intersect,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.exc import DatabaseError, OperationalError

from regard.core.records import Float16Array, Int64Array, Kind
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import (
    assets_version,
    last_position,
    pruned_positions,
    record_changes,
)
from regard.storage.database.connection import Database
from regard.storage.database.counters import EMBEDDINGS, counter_value
from regard.storage.database.embeddings import ids_from_bytes, is_sound, read_channel
from regard.storage.database.stored_pipelines import StoredChannel, StoredPipeline, stored_pipelines

_PAGE = 512
_ID_BYTES = 8
_LAST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold; `in_index` when `regard rebuild` mends it."""

    message: str
    in_index: bool


def verify_catalog(catalog: Catalog, pipeline: StoredPipeline) -> list[Finding]:
    """Check what must hold between the tables: nothing half-visible, orphaned or unlogged.

    `pipeline` is the live one; vectors are looked at of all that the home keeps.
    """
    with catalog.database.reading() as connection:
        findings = [
            Finding(f"{count} {what}", in_index=False)
            for what, count in _table_checks(connection, pipeline)
            if count
        ]
        wrong = select(func.count()).select_from(schema.analysis).where(_is_miscounted())
        if count := connection.execute(wrong).scalar_one():
            message = f"{count} analyses do not count their regions, captions and vectors right"
            findings.append(Finding(message, in_index=True))
    return findings


def rebuild_counts(database: Database) -> int:
    """Correct what analyses say they have; return how many were wrong."""
    correct = update(schema.analysis).where(_is_miscounted()).values(dict(_owned()))
    with database.writing() as connection:
        count = connection.execute(correct).rowcount
        if count:
            # Others keep counts until assets change.
            record_changes(connection, [], [])
    return count


def _is_miscounted() -> ColumnElement[bool]:
    return or_(*(counter != owned for counter, owned in _owned()))


def _owned() -> Iterator[tuple[Column[Any], ScalarSelect[Any]]]:
    """Each counter of an analysis, and what it should be."""
    analysis = schema.analysis.c
    vectors = func.coalesce(func.sum(schema.embedding.c.vector_count), 0)
    for counter, table, owned in (
        (analysis.region_count, schema.region, func.count()),
        (analysis.caption_count, schema.caption, func.count()),
        (analysis.vector_count, schema.embedding, vectors),
    ):
        is_owned = and_(
            table.c.content_id == analysis.content_id, table.c.pipeline_id == analysis.pipeline_id
        )
        yield counter, select(owned).select_from(table).where(is_owned).scalar_subquery()


def verify_channel(
    connection: Connection,
    stored: StoredChannel,
    indexed_ids: Int64Array,
    indexed_vectors: Callable[[Int64Array], Float16Array],
) -> list[Finding]:
    """Compare one channel's index with the embeddings in the catalog, at one moment of both.

    `indexed_ids` are all ids of the index, ascending; `indexed_vectors` gives rows for ids, (n,
    d).
    """
    missing = seen = differing = unsound = 0
    for page in read_channel(connection, stored):
        ids, vectors = page.ids, page.vectors
        unsound += int((~is_sound(vectors)).sum())
        present = np.isin(ids, indexed_ids, assume_unique=True)
        missing += int((~present).sum())
        seen += int(present.sum())
        if present.any():
            indexed = indexed_vectors(ids[present]).view(np.uint16)
            same = (indexed == vectors[present].view(np.uint16)).all(axis=1)
            differing += int((~same).sum())
    name = stored.channel
    found = (
        (unsound, f"vectors in {name} are not normalised", False),
        (missing, f"embeddings are not in the index {name}", True),
        (indexed_ids.size - seen, f"rows of the index {name} are not embeddings", True),
        (differing, f"vectors of the index {name} differ", True),
    )
    return [Finding(f"{count} {what}", in_index) for count, what, in_index in found if count]


def _table_checks(connection: Connection, pipeline: StoredPipeline) -> Iterator[tuple[str, int]]:
    """(what is wrong, how many)."""

    def count(*conditions: object, of: object = schema.content) -> int:
        statement = select(func.count()).select_from(of).where(*conditions)  # type: ignore[arg-type]
        return int(connection.execute(statement).scalar_one())

    content, embedding, change = schema.content.c, schema.embedding.c, schema.change.c
    yield (
        "contents have no asset",
        count(not_(exists().where(schema.asset.c.content_id == content.id))),
    )
    analysed = _is_of(schema.analysis, pipeline)
    # An upload may still wait for its job; a pipeline may have gone live without what was not
    # there.
    excused = or_(
        exists().where(schema.asset.c.content_id == content.id, schema.asset.c.managed.is_(True)),
        _is_of(schema.analysis_failure, pipeline),
    )
    yield "contents are not analysed", count(not_(analysed), not_(excused))
    for channel, stored in pipeline.channels.items():
        if channel.kind is Kind.IMAGE:
            yield (
                f"contents lack a vector in {channel}",
                count(
                    or_(analysed, not_(excused)),
                    not_(
                        exists().where(
                            embedding.channel_id == stored.id, embedding.content_id == content.id
                        )
                    ),
                ),
            )
    for other in stored_pipelines(connection):
        is_live = other.id == pipeline.id
        checks = _vector_checks(connection, count, other, is_live=is_live)
        for wrong, number in checks:
            yield wrong if is_live else f"{wrong} of the pipeline {other.short}", number
    # What is deleted bit by bit is not whole until it is gone.
    lasting = (
        select(schema.channel.c.id)
        .join_from(schema.channel, schema.pipeline)
        .where(schema.pipeline.c.pruned_at.is_(None))
    )
    ids = select(embedding.id, embedding.vector_count).where(embedding.channel_id.in_(lasting))
    logged = select(change.embedding_id, change.vector_count).where(change.channel_id.in_(lasting))
    added, removed = logged.where(change.added.is_(True)), logged.where(change.added.is_(False))
    # Set operations: on either database they cost one sort, whatever the size.
    yield "embeddings are not in the change log", count(of=except_(ids, added).subquery())
    yield "embeddings are logged as deleted", count(of=intersect(ids, removed).subquery())
    yield (
        "deleted embeddings are not in the change log",
        count(of=except_(added, removed, ids).subquery()),
    )
    position = last_position(connection)
    yield (
        "positions are missing from the change log",
        position
        - count(change.position <= position, of=schema.change)
        - pruned_positions(connection),
    )
    yield (
        "positions of the change log lie beyond its counter",
        count(change.position > position, of=schema.change),
    )
    yield (
        "positions of the log of assets lie beyond its counter",
        count(schema.asset_change.c.position > assets_version(connection), of=schema.asset_change),
    )
    end = embedding.id + embedding.vector_count
    former_end = func.lag(end).over(order_by=embedding.id)
    spans = select(embedding.id, former_end.label("former_end")).subquery()
    yield (
        "ids of embeddings stand for two vectors",
        count(spans.c.id < spans.c.former_end, of=spans),
    )
    last = counter_value(connection, EMBEDDINGS)
    yield (
        "rows of embeddings have ids beyond their counter",
        count(end > last + 1, of=schema.embedding),
    )
    for table in schema.metadata.sorted_tables:
        for key in sorted(table.foreign_keys, key=lambda key: key.parent.name):
            yield (
                f"rows of {table.name} name a {key.column.table.name} that is not there",
                count(
                    key.parent.is_not(None),
                    not_(exists().where(key.column == key.parent)),
                    of=table,
                ),
            )


def _is_of(table: Table, pipeline: StoredPipeline) -> Exists:
    """Whether a content has a row of a pipeline in `analysis` or `analysis_failure`."""
    return exists().where(
        table.c.content_id == schema.content.c.id, table.c.pipeline_id == pipeline.id
    )


def _vector_checks(
    connection: Connection, count: Callable[..., int], pipeline: StoredPipeline, *, is_live: bool
) -> Iterator[tuple[str, int]]:
    """What must hold of each channel's vectors."""
    embedding, analysis = schema.embedding.c, schema.analysis.c
    for channel, stored in pipeline.channels.items():
        of_channel = embedding.channel_id == stored.id
        if channel.kind is Kind.IMAGE and not is_live:
            yield (
                f"analyses lack a vector in {channel}",
                count(
                    analysis.pipeline_id == pipeline.id,
                    not_(exists().where(of_channel, embedding.content_id == analysis.content_id)),
                    of=schema.analysis,
                ),
            )
        damaged = or_(
            embedding.vector_count < 1,
            func.length(embedding.vectors) != 2 * stored.dimension * embedding.vector_count,
            func.length(embedding.regions) != _ID_BYTES * embedding.vector_count,
            func.length(embedding.captions) != _ID_BYTES * embedding.vector_count,
        )
        number = count(of_channel, damaged, of=schema.embedding)
        yield f"rows of vectors in {channel} have another size than their counts say", number
        if not number:
            yield from _owner_checks(connection, pipeline, stored)


def _owner_checks(
    connection: Connection, pipeline: StoredPipeline, stored: StoredChannel
) -> Iterator[tuple[str, int]]:
    """Whether the regions and captions that a channel's vectors name are those of their contents.

    Read content by content, so that memory does not grow with the library.
    """
    embedding, kind = schema.embedding.c, stored.channel.kind
    lacking = unknown = 0
    after = 0
    while True:
        rows = connection.execute(
            select(
                *(embedding.content_id, embedding.vector_count),
                *(embedding.regions, embedding.captions),
            )
            .where(embedding.channel_id == stored.id, embedding.content_id > after)
            .order_by(embedding.content_id)
            .limit(_PAGE)
        ).all()
        # Contents without a row may have regions too.
        last = rows[-1].content_id if len(rows) == _PAGE else _LAST_ID
        for table, name in ((schema.region, "regions"), (schema.caption, "captions")):
            owned = _pairs(
                connection.execute(
                    select(table.c.content_id, table.c.id).where(
                        table.c.pipeline_id == pipeline.id,
                        table.c.content_id > after,
                        table.c.content_id <= last,
                    )
                )
            )
            named = _pairs(
                (row.content_id, one)
                for row in rows
                for one in ids_from_bytes(getattr(row, name), row.vector_count).tolist()
                if one
            )
            unknown += len(named - owned)
            if table is schema.region and kind is Kind.REGION:
                lacking += len(owned - named)
        if last == _LAST_ID:
            break
        after = last
    yield f"regions lack a vector in {stored.channel}", lacking
    yield f"vectors in {stored.channel} are of no region or caption of their contents", unknown


def _pairs(rows: Iterable[Iterable[int]]) -> set[tuple[int, ...]]:
    return {tuple(row) for row in rows}


_text = schema.asset_text.c
_SOURCE = TableClause("asset_text_source", column("asset_id"), column("field"), column("text"))
# A command to FTS5 is an insertion into the column of the table's name; 1 compares with the texts
# too.
_CHECKS = {
    "assets": "INSERT INTO asset_text_words (asset_text_words, rank) VALUES ('integrity-check', 1)",
    "captions": "INSERT INTO caption_words (caption_words, rank) VALUES ('integrity-check', 1)",
}
_REBUILDS = {
    True: (
        "INSERT INTO asset_text_words (asset_text_words) VALUES ('rebuild')",
        "INSERT INTO caption_words (caption_words) VALUES ('rebuild')",
    ),
    False: ("REINDEX INDEX asset_text_words", "REINDEX INDEX caption_words"),
}


def verify_keywords(database: Database) -> list[Finding]:
    """Compare the keyword index with the texts of assets, and its words with these texts."""
    findings = []
    with database.reading() as connection:
        held = select(_text.asset_id, _text.field, _text.text)
        derived = select(_SOURCE.c.asset_id, _SOURCE.c.field, _SOURCE.c.text)
        for missing, rest, what in (
            (derived, held, "texts of assets are not in the keyword index"),
            (held, derived, "texts of the keyword index are of no asset"),
        ):
            differing = missing.except_(rest).subquery()
            count = connection.execute(select(func.count()).select_from(differing)).scalar_one()
            if count:
                findings.append(Finding(f"{count} {what}", in_index=True))
    if database.is_sqlite:
        findings += _verify_fts5(database)
    return findings


def rebuild_keywords(database: Database) -> int:
    """Rebuild the keyword index from the tables; return the number of texts of assets."""
    with database.writing() as connection:
        # First, because the triggers of the next deletion need a consistent index.
        for statement in _REBUILDS[database.is_sqlite]:
            connection.exec_driver_sql(statement)
        connection.execute(delete(schema.asset_text))
        derived = select(_SOURCE.c.asset_id, _SOURCE.c.field, _SOURCE.c.text)
        connection.execute(
            insert(schema.asset_text).from_select(["asset_id", "field", "text"], derived)
        )
        return int(
            connection.execute(select(func.count()).select_from(schema.asset_text)).scalar_one()
        )


def _verify_fts5(database: Database) -> Iterator[Finding]:
    for what, check in _CHECKS.items():
        with database.writing() as connection:
            try:
                connection.exec_driver_sql(check)
            except OperationalError:  # as when another process writes for too long
                raise
            except DatabaseError:
                message = f"the indexed words of {what} are not those of their texts"
                yield Finding(message, in_index=True)
